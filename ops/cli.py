"""The `mirage` command. Results go to stdout (`--json` for machines), everything else to stderr.

Exit codes: 0 ok, 1 failure, 2 usage, 3 replay mismatch, 4 refused by policy or consent.
"""

import os
import sys
from importlib import import_module

import click

from schemas.errors import EnrolmentRefused, MirageError, Misconfigured, Refused

COMMANDS = {
    "up": "up",
    "demo": "demo",
    "ingress": "processes",
    "worker": "processes",
    "token": "sessions",
    "identity": "identity",
    "sessions": "sessions",
    "models": "models",
    "export": "export",
    "tail": "tail",
    "replay": "replay",
    "policy": "policy",
    "bench": "bench",
    "doctor": "doctor",
}
"""Command → module in `ops.commands`. Loaded when called: a worker must not pay for the web stack."""


class LazyCommands(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands, in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"ops.commands.{COMMANDS[cmd_name]}"), cmd_name)
        return command


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mirage")
def cli() -> None:
    """Real-time, consent-gated face swap and voice conversion."""


def main() -> None:
    """Run the command line; turns Mirage's errors into one line and the right exit code."""
    # Before numpy is loaded: a worker has one core, and BLAS threads that share it wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        cli(prog_name="mirage")
    except MirageError as error:
        click.echo(f"mirage: {error}", err=True)
        sys.exit(exit_code(error))


def exit_code(error: MirageError) -> int:
    """Return the exit code of an error."""
    match error:
        case Refused() | EnrolmentRefused():
            return 4
        case Misconfigured():
            return 2
        case _:
            return 1


if __name__ == "__main__":
    main()
