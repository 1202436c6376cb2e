"""The models a user has brought in: files in one folder, each known by its sha256, read once and handed on as bytes.

`store.json` beside them records what the manifest cannot know: hashes of files that were put there deliberately
(another file by `--sha256`, a converted graph, a voice), and licences that were accepted, with their dates.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from io import BufferedReader
from pathlib import Path

from schemas.errors import Conflict, Misconfigured, ModelMissing, ModelRefused
from workers.models.manifest import CODEFORMER, MANIFEST, VOICES, ModelFile

_VOICE = re.compile(r"voices/[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.(onnx|index)")


@dataclass(frozen=True, slots=True)
class ModelReceipt:
    """A file that is there by a decision of the user's."""

    sha256: str
    size: int
    origin: str
    at: str
    """When, UTC, ISO 8601."""
    attested: str | None = None
    """Of a voice: in the user's words, how whose voice it is agreed."""


@dataclass(frozen=True, slots=True)
class _Records:
    files: dict[str, ModelReceipt] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    """Licence id → when it was accepted."""


class ModelStore:
    """One folder of model files. Nothing here touches the network."""

    def __init__(self, folder: Path, *, manifest: Mapping[str, ModelFile] = MANIFEST) -> None:
        """Use `folder`; it is made when first written to."""
        self.folder, self.manifest = folder, manifest

    def read(self, name: str) -> bytes:
        """Return the verified bytes of model `name`: of the manifest, or `voices/NAME.onnx`, or `voices/NAME.index`.

        Raises `ModelMissing` saying how to get it, `ModelRefused` with both hashes when the file is another one.
        """
        with self._opened(name) as source:
            data = source.read()
        self._refuse_other(name, hashlib.sha256(data).hexdigest())
        return data

    def check(self, name: str) -> int:
        """Return the length of model `name` after verifying it piece by piece; raises as `read` does."""
        with self._opened(name) as source:
            found, size = hashlib.file_digest(source, "sha256"), source.tell()
        self._refuse_other(name, found.hexdigest())
        return size

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[BufferedReader]:
        try:
            with self.path(name).open("rb") as source:
                yield source
        except FileNotFoundError:
            name = self.full_name(name)
            raise ModelMissing(f"model {name} is not in {self.folder}; {how_to_get(name)}") from None
        except OSError as error:
            raise Misconfigured(f"model {self.full_name(name)} cannot be read: {error}") from None

    def _refuse_other(self, name: str, found: str) -> None:
        name = self.full_name(name)
        expected, _ = self.expected(name)
        if expected is None:
            raise ModelRefused(
                f"model {name} in {self.folder} has sha256 {found}, and nothing says what it should be; "
                f"if you trust it, `mirage models pull {name} --sha256 {found}` records that"
            )
        if found != expected:
            raise ModelRefused(
                f"model {name} in {self.folder} has sha256 {found}, expected {expected}; "
                f"remove it and {how_to_get(name)}"
            )

    def has(self, name: str) -> bool:
        """Return whether the file is there with the length it should have. Its hash is checked by `read`."""
        expected, size = self.expected(name)
        try:
            found = self.path(name).stat().st_size
        except OSError:
            return False
        return expected is not None and size in (None, found)

    def begun(self, name: str) -> int:
        """Return how many bytes an interrupted pull left of model `name`, or of the archive that it comes in."""
        entry = self.manifest.get(self.full_name(name))
        try:
            return 0 if entry is None else (self.folder / f"{entry.source.name}.part").stat().st_size
        except OSError:
            return 0

    def put(self, name: str, data: bytes, *, origin: str, at: str, attested: str | None = None) -> str:
        """Write `data` as model `name`, atomically, record where, when and on what word it came; return its sha256."""
        path = self.path(name)
        self.prepare(path.parent)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
        write_durably(fresh, data)
        fresh.replace(path)
        sync_folder(path.parent)
        digest = hashlib.sha256(data).hexdigest()
        self.record(name, ModelReceipt(digest, len(data), origin, at, attested))
        return digest

    def full_name(self, name: str) -> str:
        """Return `name` as the store knows it: `.onnx` may be left out. Raises `Misconfigured` for no model's name."""
        for known in (name, f"{name}.onnx"):
            if known in self.manifest or _VOICE.fullmatch(known):
                return known
        raise Misconfigured(f"there is no model {name!r}; known are {', '.join(self.manifest)} and {VOICES}NAME.onnx")

    def path(self, name: str) -> Path:
        """Return where model `name` is or would be."""
        return self.folder / self.full_name(name)

    def expected(self, name: str) -> tuple[str | None, int | None]:
        """Return sha256 and length of model `name`, by the user's record or else by the manifest; None: not known."""
        name = self.full_name(name)
        receipt = self.records().files.get(name)
        if receipt is not None:
            return receipt.sha256, receipt.size
        entry = self.manifest.get(name)
        return (None, None) if entry is None else (entry.sha256, entry.size)

    def voices(self) -> tuple[str, ...]:
        """Return the names of the voices that are there, sorted."""
        folder = self.folder / VOICES
        names = (f"{VOICES}{path.name}" for path in folder.glob("*.onnx")) if folder.is_dir() else iter(())
        return tuple(sorted(name for name in names if self.has(name)))

    def accepted(self, licence: str) -> str | None:
        """Return when licence `licence` was accepted, or None."""
        return self.records().licences.get(licence)

    def accept(self, licence: str, *, at: str) -> None:
        """Record that licence `licence` was accepted; the first time counts."""
        records = self.records()
        self._save(_Records(records.files, {licence: at} | records.licences))

    def record(self, name: str, receipt: ModelReceipt) -> None:
        """Record what the file `name` is from now on, whatever the manifest says."""
        records = self.records()
        self._save(_Records(records.files | {self.full_name(name): receipt}, records.licences))

    def forget(self, name: str) -> None:
        """Drop the record of `name`: the manifest counts again."""
        records = self.records()
        if name in records.files:
            self._save(_Records({key: value for key, value in records.files.items() if key != name}, records.licences))

    def records(self) -> _Records:
        """Return what was recorded; raises `Misconfigured` when the file is damaged."""
        path = self.folder / "store.json"
        try:
            raw = json.loads(path.read_text("utf-8"))
            files = {str(name): ModelReceipt(**entry) for name, entry in raw["files"].items()}
            return _Records(files, {str(name): str(at) for name, at in raw["licences"].items()})
        except FileNotFoundError:
            return _Records()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Misconfigured(f"{path} is damaged ({error}); remove it, and pull the models again") from None

    @contextlib.contextmanager
    def locked(self, what: str) -> Iterator[None]:
        """Hold the store for writing; raises `Conflict` naming the holder when another process does."""
        self.prepare(self.folder)
        with (self.folder / "lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "another process"
                raise Conflict(
                    f"the model store {self.folder} is in use by {holder}; try again when it is done"
                ) from None
            lock.truncate(0)
            lock.write(f"pid {os.getpid()} ({what})")
            lock.flush()
            try:
                yield
            finally:
                lock.truncate(0)

    def prepare(self, folder: Path) -> None:
        """Make `folder`; raises `Misconfigured` when it cannot be."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Misconfigured(f"the model store {folder} cannot be made: {error}") from None

    def _save(self, records: _Records) -> None:
        self.prepare(self.folder)
        fresh = self.folder / f"store.json.{os.getpid()}.new"
        write_durably(fresh, json.dumps(asdict(records), indent=2, sort_keys=True).encode())
        fresh.replace(self.folder / "store.json")
        sync_folder(self.folder)


def how_to_get(name: str) -> str:
    """Return the command that brings model `name` in, as the end of a sentence."""
    if name.startswith(VOICES):
        return "add it with `mirage models add-voice FILE`"
    if name == CODEFORMER:
        return "make it with `mirage models convert codeformer`"
    return f"get it with `mirage models pull {name}`"


def write_durably(path: Path, data: bytes) -> None:
    """Write a file that is on the disk when this returns. Raises `Misconfigured`, and leaves none, when it cannot."""
    try:
        with path.open("wb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise Misconfigured(f"{path} cannot be written: {error}") from None


def sync_folder(folder: Path) -> None:
    """Put the names in `folder` on the disk, after a rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
