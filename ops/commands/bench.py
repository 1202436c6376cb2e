"""`mirage bench pipeline|engines|policy|neural`."""

import json
from dataclasses import asdict
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ops.commands.common import json_option
from ops.logging import configure


@click.group()
def bench() -> None:
    """Measure on this machine; figures are medians of one run, to compare with each other."""
    configure("warning", "console")


def _show(title: str, figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(figures, indent=2))
        return
    table = Table("figure", "value", title=title)
    for name, value in figures.items():
        table.add_row(name, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value))
    Console().print(table)


@bench.command()
@click.option("--frames", default=300, show_default=True, type=click.IntRange(30, 100_000), help="Frames a path.")
@click.option("--batches", default=5, show_default=True, type=click.IntRange(1, 100), help="Alternating batches.")
@json_option
def pipeline(frames: int, batches: int, *, as_json: bool) -> None:
    """Latency that the pipeline adds around an engine, next to the floor of two bare hops."""
    from ops.bench.pipeline import measure  # noqa: PLC0415 - loads the web stack

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("frames", total=3 * (frames // batches) * batches)
        figures = uvloop.run(measure(frames, batches, lambda n: bar.advance(task, n)))
    _show("pipeline", figures.as_json(), as_json=as_json)


@bench.command()
@click.option("--frames", default=300, show_default=True, type=click.IntRange(30, 100_000), help="Video frames.")
@click.option("--seconds", default=20, show_default=True, type=click.IntRange(2, 3600), help="Speech a chunk size.")
@json_option
def engines(frames: int, seconds: int, *, as_json: bool) -> None:
    """CPU cost of the embedded engines on one core, next to the specification's budgets."""
    from ops.bench.engines import measure, one_core  # noqa: PLC0415 - loads engines

    one_core()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("work", total=frames + 2)
        figures = measure(frames, seconds, lambda n: bar.advance(task, n))
    _show("engines", figures.as_json(), as_json=as_json)


@bench.command()
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1, 100), help="Runs of each; medians count.")
@json_option
def policy(runs: int, *, as_json: bool) -> None:
    """Speed of folding an hour's events, of a report of ten minutes, and of writing an archive."""
    from ops.bench.policy import measure  # noqa: PLC0415 - loads the archive's libraries

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("runs", total=4 * runs)
        figures = measure(runs, lambda n: bar.advance(task, n))
    _show("policy", figures, as_json=as_json)


@bench.command()
@click.option("--rounds", default=40, show_default=True, type=click.IntRange(5, 10_000), help="Runs of each part.")
@click.option("--chunks", default=1000, show_default=True, type=click.IntRange(100, 100_000), help="Chunks of sound.")
@click.option("--full", is_flag=True, help="Also run networks of full size with random weights: half a minute, 3 GB.")
@json_option
def neural(rounds: int, chunks: int, *, full: bool, as_json: bool) -> None:
    """Measure what surrounds the neural networks, against insightface where that is installed, and batching."""
    from ops.bench import batching, neural_full, neural_video, neural_voice  # noqa: PLC0415 - load the engines
    from ops.bench.engines import one_core  # noqa: PLC0415

    one_core()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("work", total=None)
        figures = {
            **neural_video.measure(rounds, lambda n: bar.advance(task, n)).as_json(),
            **neural_voice.measure(chunks, lambda n: bar.advance(task, n)).as_json(),
            "batching": {
                name: [asdict(each) for each in shared] for name, shared in batching.measure_batching().items()
            },
        }
        if full:
            figures |= neural_full.measure_full(lambda n: bar.advance(task, n))
    _show("neural", figures, as_json=as_json)
