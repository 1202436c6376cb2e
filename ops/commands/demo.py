"""`mirage demo`: real media through a whole system of its own, measured."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ops.commands.common import emit, json_option, start
from ops.engines import choose_face, choose_voice
from ops.settings import ENGINES
from schemas.errors import Misconfigured

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_SECONDS = 20.0


@click.command()
@click.option("--video", type=_FILE, help="Video of a person, any format; a public clip when absent.")
@click.option("--speech", type=_FILE, help="Speech to convert; the video's own sound, or a public clip, when absent.")
@click.option("--portrait", type=_FILE, help="JPEG or PNG of the face to wear; a public-domain portrait when absent.")
@click.option("--voice", type=_FILE, help="WAV, 10 s or more of the voice to speak with; a public clip when absent.")
@click.option("--engine", type=click.Choice(ENGINES), help="Face engine, in place of MIRAGE_ENGINE.")
@click.option("--voice-engine", type=click.Choice(ENGINES), help="Voice engine, in place of MIRAGE_VOICE_ENGINE.")
@click.option(
    "--stress",
    is_flag=True,
    help="Slow the engines for a while, record the session, replay its decisions and media, write a report.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(3, 300),
    show_default="20, or all of the load with --stress",
    help="How much is played.",
)
@click.option(
    "--out",
    show_default="out/demo, or out/stress",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder.",
)
@json_option
def demo(
    video: Path | None,
    speech: Path | None,
    portrait: Path | None,
    voice: Path | None,
    engine: str | None,
    voice_engine: str | None,
    seconds: float | None,
    out: Path | None,
    *,
    stress: bool,
    as_json: bool,
) -> None:
    """Swap a face and convert a voice, live, on this machine alone; exit code 1 when something did not work.

    Files of your own are used under a consent record in your name: by giving them you attest that the person agreed.
    The demo runs in a temporary folder, on a free port of this machine, and removes everything but its results.
    """
    for name, chosen in (("MIRAGE_ENGINE", engine), ("MIRAGE_VOICE_ENGINE", voice_engine)):
        if chosen is not None:
            os.environ[name] = chosen
    settings = start(role="demo")
    try:
        from ops.demo.inputs import Choice  # noqa: PLC0415 - needs the extra `demo`, and loads engines
        from ops.demo.report import show  # noqa: PLC0415
        from ops.demo.run import METRICS, SHEET, VIDEO, run_demo  # noqa: PLC0415
        from ops.demo.stress_report import show_course  # noqa: PLC0415
        from ops.demo.stress_run import FILES, run_stress  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise Misconfigured(f"the demo needs {error.name}; install the extra: pip install -e '.[demo]'") from None
    messages = Console(stderr=True)
    for kind, choice in (("face", choose_face(settings)), ("voice", choose_voice(settings))):
        messages.print(f"{kind}: {choice.engine} engine ({choice.reason})", soft_wrap=True)
    if portrait or voice:
        messages.print("Using your own portrait or voice: you attest that the person agreed.")
    signal.signal(signal.SIGTERM, _as_interrupt)
    played = Choice(video, speech, portrait, voice)
    files: tuple[str, ...] = FILES if stress else (VIDEO, SHEET, METRICS)
    lacks: list[str] = []
    with _progress(messages) as progress:
        if stress:
            folder = out or Path("out/stress")
            done = run_stress(played, seconds, folder, progress)
            found, problems, lacks = done.metrics, done.problems, done.lacks
        else:
            folder = out or Path("out/demo")
            found, problems = run_demo(played, seconds or _SECONDS, folder, progress)
    shown = show_course if stress else show
    emit(found, as_json=as_json, human=lambda console: shown(console, found))
    messages.print(f"Written to {folder}/: {', '.join(files)}", soft_wrap=True)
    for what in lacks:
        messages.print(f"too short to see: {what}")
    for problem in problems:
        messages.print(f"[bold red]failed:[/] {problem}")
    if problems:
        sys.exit(1)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    """Make of SIGTERM what Ctrl-C is: everything is stopped and removed."""
    del number, frame
    signal.raise_signal(signal.SIGINT)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, float], None]]:
    """Show on `console` what is being done; yields how to tell."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=1.0)
        shown = ""

        def tell(what: str, share: float) -> None:
            nonlocal shown
            if what != shown:
                shown = what
                bar.reset(task, total=1.0, description=what)
            bar.update(task, completed=share)

        yield tell
