"""`mirage doctor`: what would run, on what, and why; every setting with its source."""

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click
import cv2
import onnxruntime as ort
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.commands.common import emit, json_option, run, start
from ops.embedded_server import find_binary
from ops.engines import EngineChoice, choose_face, choose_voice, enhancement, model_store, occlusion
from ops.installation import Installation
from ops.settings import Settings, explain, redacted
from ops.wiring import check_planes, open_planes
from schemas.errors import MirageError
from workers.models import vendored
from workers.models.runtime import Runtime, problem_with

Check = tuple[str, bool, str]


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Check this installation; exit code 1 when something would not work."""
    settings = start(role="doctor")
    checks: list[Check] = []
    run(_check(settings, checks))
    rows = explain(settings, os.environ)
    report: dict[str, Any] = {
        "checks": [{"what": what, "ok": ok, "detail": detail} for what, ok, detail in checks],
        "settings": [asdict(row) for row in rows],
    }

    def human(console: Console) -> None:
        table = Table("check", "", "detail")
        for what, ok, detail in checks:
            table.add_row(what, "[green]ok[/]" if ok else "[red]FAILED[/]", escape(detail))
        console.print(table)
        table = Table("setting", "value", "from", "meaning")
        for row in rows:
            table.add_row(*map(escape, (row.name, row.value, row.source, row.meaning)))
        console.print(table)

    emit(report, as_json=as_json, human=human)
    if not all(ok for _, ok, _ in checks):
        sys.exit(1)


async def _check(settings: Settings, checks: list[Check]) -> None:
    checks.append(("python", True, f"{platform.python_version()} on {platform.platform()}"))
    checks.append(("libraries", True, f"onnxruntime {ort.__version__}, OpenCV {cv2.__version__}"))
    probes: tuple[tuple[str, Callable[[], str]], ...] = (
        ("data directory", lambda: _data_dir(settings)),
        ("stream server", lambda: _server_binary(settings)),
        ("vendored models", _models),
        ("model store", lambda: _store(settings)),
        ("neural provider", lambda: _provider(settings)),
        ("face engine", lambda: _engine(choose_face(settings))),
        ("face enhancer", lambda: enhancement(settings)),
        ("face occlusion", lambda: occlusion(settings)),
        ("voice engine", lambda: _engine(choose_voice(settings))),
    )
    for what, probe in probes:
        try:
            checks.append((what, True, probe()))
        except MirageError as error:
            checks.append((what, False, str(error)))
    await _running(settings, checks)


def _data_dir(settings: Settings) -> str:
    Installation(settings.data_dir).prepare()
    return str(settings.data_dir)


def _server_binary(settings: Settings) -> str:
    return redacted(settings.redis_url) if settings.redis_url else f"embedded: {find_binary(settings.server_binary)}"


def _models() -> str:
    names = vendored.names()
    total = sum(len(vendored.read(name)) for name in names)
    return f"{len(names)} files, {total / 1e6:.1f} MB, every sha256 as expected"


def _store(settings: Settings) -> str:
    store = model_store(settings)
    here = [name for name in (*store.manifest, *store.voices()) if store.has(name)]
    return f"{store.folder}: {', '.join(here) or 'empty (`mirage models list` says what there is)'}"


def _provider(settings: Settings) -> str:
    runtime = Runtime(settings.provider)
    return runtime.provider if runtime.accelerated else f"{runtime.provider}: {problem_with('cuda')}"


def _engine(choice: EngineChoice) -> str:
    return f"{choice.engine}: {choice.reason}"


async def _running(settings: Settings, checks: list[Check]) -> None:
    running = Installation(settings.data_dir).running()
    if running is None and settings.redis_url is None:
        checks.append(("running system", True, "none on this data directory (start one with `mirage up`)"))
        return
    try:
        planes = open_planes(settings, Installation(settings.data_dir))
        try:
            await check_planes(planes)
        finally:
            await planes.close()
        checks.append(("running system", True, running.http_url if running else "servers answer"))
    except MirageError as error:
        checks.append(("running system", False, str(error)))
