"""`mirage models list|pull|verify|convert|add-voice`: what the neural engines need and Mirage does not ship."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from ops.commands.common import emit, json_option, start
from ops.engines import model_store
from ops.settings import Settings
from schemas.errors import MirageError, Misconfigured, ModelRefused, Refused
from workers.models.download import Progress as Told
from workers.models.download import shown
from workers.models.manifest import (
    CODEFORMER,
    CODEFORMER_WEIGHTS,
    GROUPS,
    LICENCE_IDS,
    VOICES,
    ModelFile,
    ModelLicence,
)
from workers.models.pull import Origins, Puller
from workers.models.store import ModelReceipt, ModelStore, how_to_get

_COMMERCIAL = {True: "yes", False: "no", None: "not known"}
_STATES = {
    "ready": "[green]ready[/]",
    "begun": "[yellow]begun[/]",
    "missing": "[dim]missing[/]",
    "wrong": "[red]wrong[/]",
}
_GROUPS = {**GROUPS, "all": tuple(name for group in GROUPS.values() for name in group)}


@click.group()
def models() -> None:
    """Models of the neural engines: which there are, under which licence, and whether they are here and whole."""


@models.command("list")
@json_option
def list_models(*, as_json: bool) -> None:
    """List every model with its licence, and whether it is here. Nothing is hashed, and no network is used."""
    store = model_store(start(role="models"))
    rows = [_row(store, entry) for entry in store.manifest.values()]
    rows += [_voice_row(store, name) for name in store.voices()]

    def human(console: Console) -> None:
        table = Table(title=escape(str(store.folder)))
        table.add_column("model", overflow="fold")  # not cut, however long the name of a voice
        for heading in ("licence", "commercial", "MB", "here"):
            table.add_column(heading)
        for row in rows:
            size = "-" if row["bytes"] is None else f"{row['bytes'] / 1e6:.0f}"
            begun = f"\n{row['begun_bytes'] / 1e6:.0f} MB" if row["state"] == "begun" else ""
            here = _STATES[row["state"]] + begun + ("\nyour file" if row["recorded"] else "")
            model = f"{row['name']}\n[dim]{row['for']}[/]"
            table.add_row(model, row["licence_id"] or "yours", row["commercial"], size, here)
        console.print(table)
        for licence in dict.fromkeys(entry.licence for entry in store.manifest.values()):
            at = store.accepted(licence.id)
            console.print(f"[bold]{licence.id}[/]: {licence.title}" + (f" (accepted {at})" if at else ""))
            console.print(f"  {licence.terms}", soft_wrap=True)

    emit({"folder": str(store.folder), "models": rows}, as_json=as_json, human=human)


@models.command()
@click.argument("names", nargs=-1, required=True, metavar=f"NAME|{'|'.join(_GROUPS)}...")
@click.option(
    "--accept-licence",
    "accepted",
    multiple=True,
    type=click.Choice(LICENCE_IDS),
    metavar="ID",
    help=f"A licence you have read and accept: {', '.join(LICENCE_IDS)}.",
)
@click.option("--sha256", help="Take another file, deliberately: the hash it must have. One NAME only.")
@json_option
def pull(names: tuple[str, ...], accepted: tuple[str, ...], sha256: str | None, *, as_json: bool) -> None:
    """Bring models in. What is here and right is left alone, without network; what broke off is continued.

    Of several, one that cannot be had does not keep the others away.
    """
    settings = start(role="models")
    store = model_store(settings)
    wanted = _expand(store, names)
    if sha256 is not None and len(wanted) != 1:
        raise click.UsageError("--sha256 goes with one NAME")
    messages = Console(stderr=True)
    puller = Puller(
        store,
        origins=_origins(settings),
        notice=lambda text: messages.print(escape(text), soft_wrap=True),
        wait=time.sleep,
        now=_now,
        agree=lambda licence: licence.id in accepted or _ask(licence, messages),
    )
    pulled, failures = [], []
    with store.locked(f"mirage models pull {' '.join(names)}"):
        for name in wanted:
            try:
                with _bar(name, messages) as told:
                    pulled.append(puller.pull(name, progress=told, sha256=sha256))
            except MirageError as error:
                failures.append(error)

    def human(console: Console) -> None:
        for one in pulled:
            console.print(f"{one.name}: {one.outcome.value}, sha256 {one.sha256}", soft_wrap=True)

    emit([asdict(one) for one in pulled], as_json=as_json, human=human)
    if failures:
        raise type(failures[0])("\n".join(dict.fromkeys(map(str, failures))))


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def verify(names: tuple[str, ...], *, as_json: bool) -> None:
    """Hash models that are here (all, unless named); exit code 1 when one is not what it should be."""
    store = model_store(start(role="models"))
    there = [name for name in {**store.manifest, **store.records().files} if store.path(name).exists()]
    results = [_verified(store, name) for name in names or there]

    def human(console: Console) -> None:
        for result in results:
            mark = "[green]ok[/]" if result["ok"] else "[red]FAILED[/]"
            console.print(f"{mark} {result['name']}: {escape(result['detail'])}", soft_wrap=True)
        if not results:
            console.print(f"no models in {store.folder}")

    emit(results, as_json=as_json, human=human)
    if not all(result["ok"] for result in results):
        sys.exit(1)


@models.command()
@click.argument("what", type=click.Choice(["codeformer"]))
@json_option
def convert(what: str, *, as_json: bool) -> None:
    """Make codeformer.onnx out of codeformer.pth, once, and check that both give the same pictures."""
    del what
    store = model_store(start(role="models"))
    weights = store.read(CODEFORMER_WEIGHTS)
    try:
        from workers.models.codeformer_convert import convert as convert_weights  # noqa: PLC0415 - needs torch
    except ModuleNotFoundError as error:
        raise Misconfigured(f"converting needs {error.name}; install the extra: pip install -e '.[convert]'") from None
    with store.locked("mirage models convert codeformer"):
        fresh = store.folder / f"{CODEFORMER}.part"
        difference = convert_weights(weights, fresh)
        sha256 = store.put(CODEFORMER, fresh.read_bytes(), origin=f"converted from {CODEFORMER_WEIGHTS}", at=_now())
        fresh.unlink()
    emit(
        {"name": CODEFORMER, "sha256": sha256, "largest_difference": difference},
        as_json=as_json,
        human=lambda console: console.print(
            f"{CODEFORMER}: sha256 {sha256}; largest difference to the weights {difference:.1e}", soft_wrap=True
        ),
    )


@models.command("add-voice")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("--name", help="Name of the voice; the file's own when absent.")
@click.option("--attest", metavar="TEXT", help="How the person whose voice it is agreed to it: goes on record.")
@json_option
def add_voice(file: Path, name: str | None, attest: str | None, *, as_json: bool) -> None:
    """Copy an RVC v2 voice (ONNX) or its index (.index) into the store, and record its hash and your word for it.

    The file is opened and tried first, with the packages of the extra `neural`.
    """
    settings = start(role="models")
    store = model_store(settings)
    suffix = ".index" if file.suffix == ".index" else ".onnx"
    kept = f"{VOICES}{name or file.stem}{suffix}"
    store.path(kept)  # a name that cannot be is refused before the file is read
    data = file.read_bytes()
    _try_voice(settings, data, file.name)
    attested = (_ask_consent(kept) if attest is None else attest).strip()
    if not attested:
        raise Refused(
            f"{kept} is somebody's voice: say with --attest TEXT how that person agreed to it. It goes on record"
        )
    with store.locked("mirage models add-voice"):
        sha256 = store.put(kept, data, origin=str(file.absolute()), at=_now(), attested=attested)
    emit(
        {"name": kept, "sha256": sha256},
        as_json=as_json,
        human=lambda console: console.print(f"{kept}: sha256 {sha256}", soft_wrap=True),
    )


def _try_voice(settings: Settings, data: bytes, label: str) -> None:
    """Raise `ModelRefused` for what no voice engine could open, `Misconfigured` without the packages to tell."""
    if label.endswith(".index"):
        from workers.voice.neural.retrieval import FaissIndex  # noqa: PLC0415 - not needed by the other commands

        try:
            FaissIndex(data)
        except ModelRefused as error:
            raise ModelRefused(f"{label}: {error}") from error
        return
    from workers.models.runtime import Runtime  # noqa: PLC0415 - as above
    from workers.voice.neural.synthesiser import load_synthesiser  # noqa: PLC0415

    load_synthesiser(Runtime(settings.provider), data, label=label)


def _ask_consent(name: str) -> str:
    """Ask a person how whoever is heard agreed; where there is none, nothing is attested."""
    if not sys.stdin.isatty():
        return ""
    question = f"{name} is somebody's voice. How did that person agree to it?"
    return str(click.prompt(question, default="", show_default=False, err=True))


def _expand(store: ModelStore, names: tuple[str, ...]) -> list[str]:
    """Return single names, once each, in order; a name that is none is refused before anything is pulled."""
    singles: list[str] = []
    for name in names:
        try:
            singles += _GROUPS[name] if name in _GROUPS else [store.full_name(name)]
        except Misconfigured as error:
            raise click.UsageError(f"{error}, and the groups {', '.join(_GROUPS)}") from None
    return list(dict.fromkeys(singles))


def _origins(settings: Settings) -> Origins:
    overrides = {"MIRAGE_INSWAPPER_URL": settings.inswapper_url, "MIRAGE_CODEFORMER_URL": settings.codeformer_url}
    return Origins(settings.model_mirror, {name: url for name, url in overrides.items() if url})


def _row(store: ModelStore, entry: ModelFile) -> dict[str, Any]:
    recorded = store.records().files.get(entry.name)
    sha256, size = store.expected(entry.name)
    source = entry.source
    return {
        "name": entry.name,
        "for": entry.what_for,
        "licence": entry.licence.title,
        "licence_id": entry.licence.id,
        "terms": entry.licence.terms,
        "commercial": _COMMERCIAL[entry.licence.commercial],
        "accepted": store.accepted(entry.licence.id),
        "bytes": size,
        "sha256": sha256,
        "from": shown(source.url) if source.url else how_to_get(entry.name),
        "archive": entry.archive.name if entry.archive else None,
        "state": _state(store, entry.name),
        "begun_bytes": store.begun(entry.name),
        "recorded": None if recorded is None else asdict(recorded),
    }


def _voice_row(store: ModelStore, name: str) -> dict[str, Any]:
    receipt: ModelReceipt = store.records().files[name]
    return {
        "name": name,
        "for": "voice: a target (RVC v2)",
        "licence": "yours to know",
        "licence_id": None,
        "terms": None,
        "commercial": _COMMERCIAL[None],
        "accepted": None,
        "bytes": receipt.size,
        "sha256": receipt.sha256,
        "from": receipt.origin,
        "archive": None,
        "state": _state(store, name),
        "begun_bytes": 0,
        "recorded": asdict(receipt),
    }


def _state(store: ModelStore, name: str) -> str:
    if store.has(name):
        return "ready"
    if store.path(name).exists():
        return "wrong"
    return "begun" if store.begun(name) else "missing"


def _verified(store: ModelStore, name: str) -> dict[str, Any]:
    try:
        size = store.check(name)
    except MirageError as error:
        return {"name": name, "ok": False, "detail": str(error)}
    return {"name": name, "ok": True, "detail": f"{size} bytes, sha256 {store.expected(name)[0]}"}


def _ask(licence: ModelLicence, messages: Console) -> bool:
    """Ask a person; where there is none, the answer is no."""
    if not sys.stdin.isatty():
        return False
    messages.print(f"{licence.title}\n{licence.terms}\nCommercial use: {_COMMERCIAL[licence.commercial]}")
    return click.confirm("Have you read it, and do you accept it?", err=True)


@contextmanager
def _bar(name: str, messages: Console) -> Iterator[Told]:
    """Show a download; nothing appears where there is none, nor over the question for a licence."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=messages)
    task = progress.add_task(name, total=None)

    def tell(done: int, total: int | None) -> None:
        progress.start()
        progress.update(task, completed=done, total=total)

    try:
        yield tell
    finally:
        if progress.live.is_started:
            progress.stop()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
