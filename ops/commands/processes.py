"""`mirage ingress` and `mirage worker`: one process each, as `mirage up` and any other supervisor run them."""

import click

from ops.commands.common import run, start
from ops.settings import Settings
from schemas.names import Kind
from schemas.session_store import WORK


@click.command()
@click.option("--fd", type=int, help="Serve on this inherited, listening socket.")
def ingress(fd: int | None) -> None:
    """Serve HTTP and WebSocket."""
    from ops.ingress import run_ingress  # noqa: PLC0415 - loads the web stack

    run(run_ingress(start(role="ingress"), listener_fd=fd))


@click.command()
@click.argument("kind", type=click.Choice([kind.value for kind in (*WORK, Kind.RECORD)]))
def worker(kind: str) -> None:
    """Run one worker process; SIGTERM drains it."""
    from ops.worker import run_worker  # noqa: PLC0415 - loads engines

    settings: Settings = start(role=kind)
    run(run_worker(Kind(kind), settings))
