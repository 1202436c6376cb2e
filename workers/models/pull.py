"""Brings models into the store: what is wanted, from where, under which licence, and is it the right file."""

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from schemas.errors import Misconfigured, ModelRefused, Refused
from workers.models.download import (
    ATTEMPTS,
    CHUNK,
    Download,
    NoConnection,
    Notice,
    Progress,
    Wanted,
    copy_file,
    sha256_of,
    shown,
)
from workers.models.manifest import ModelFile, ModelLicence
from workers.models.store import ModelReceipt, ModelStore, how_to_get, sync_folder

LARGEST_MEMBER = 1 << 30
"""Bytes that a file in an archive may unpack to, where the manifest does not say how long it is."""


class PullOutcome(StrEnum):
    """What a pull did."""

    PRESENT = "present"  # it was there and right; no network was used
    PULLED = "pulled"
    RECORDED = "recorded"  # it was there; that it is meant is now on record


@dataclass(frozen=True, slots=True)
class Pulled:
    """One file after a pull."""

    name: str
    outcome: PullOutcome
    sha256: str
    size: int
    origin: str


@dataclass(frozen=True, slots=True)
class Origins:
    """Where files come from: a mirror for all, overrides for some (`MIRAGE_*` variable → URL), else the manifest.

    An override is said of one file, so it counts before the mirror.
    """

    mirror: str | None = None
    overrides: Mapping[str, str] | None = None

    def of(self, source: ModelFile) -> str:
        """Return the URL or the path of `source`; raises `Misconfigured` when there is none."""
        override = (self.overrides or {}).get(source.url_setting or "")
        if override:
            return override
        if self.mirror:
            return f"{self.mirror.rstrip('/')}/{source.name}"
        if source.url is None:
            raise Misconfigured(f"{source.name} is not downloaded; {how_to_get(source.name)}")
        return source.url


class Puller:
    """Pulls files into one store, which it expects to be locked."""

    def __init__(
        self,
        store: ModelStore,
        *,
        origins: Origins,
        notice: Notice,
        wait: Callable[[float], None],
        now: Callable[[], str],
        agree: Callable[[ModelLicence], bool],
    ) -> None:
        """`notice` is told of every wait, `wait` sleeps seconds, `now` gives UTC in ISO 8601.

        `agree` says whether the user accepts a licence; it is asked once of each.
        """
        self._store, self._origins, self._notice, self._wait = store, origins, notice, wait
        self._now, self._agree = now, agree
        self._declined: set[str] = set()
        self._unreachable: set[str] = set()

    def pull(self, name: str, *, progress: Progress, sha256: str | None = None) -> Pulled:
        """Bring model `name` in, unless it is there. `sha256`: take the file with that hash, whatever is expected.

        Raises `Refused` when the licence is not accepted, `ModelRefused` when another file came, `DownloadFailed` or
        `Misconfigured` when none did.
        """
        name = self._store.full_name(name)
        if name not in self._store.manifest:
            raise Misconfigured(f"{name} is not pulled; {how_to_get(name)}")
        entry = self._store.manifest[name]
        if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise Misconfigured(f"--sha256 {sha256!r}: expected 64 hexadecimal digits, lower case")
        if sha256 is not None and entry.archive is not None:
            raise Misconfigured(f"{name} comes out of {entry.archive.name}; --sha256 works for single files only")
        self._licence(entry)
        there = self._already(entry, sha256)
        if there is not None:
            return there
        if entry.archive is not None:
            return self._from_archive(entry, entry.archive, progress)
        expected, size = self._store.expected(name)
        if sha256 not in (None, expected):
            expected, size = sha256, entry.size if sha256 == entry.sha256 else None
        origin = self._origins.of(entry)
        if expected is None:
            raise Misconfigured(
                f"the sha256 of {name} is not known to Mirage; take it from its publisher and say "
                f"`mirage models pull {name} --sha256 HASH` ({_told(origin)})"
            )
        part = self._fetch(Wanted(name, origin, expected, size), progress)
        return self._keep(entry, part, expected, origin, deliberate=entry.sha256 != expected)

    def _licence(self, entry: ModelFile) -> None:
        licence = entry.licence
        if licence.commercial or self._store.accepted(licence.id):
            return
        if licence.id in self._declined:
            raise Refused(f"{entry.name} needs --accept-licence {licence.id} too")
        if not self._agree(licence):
            self._declined.add(licence.id)
            raise Refused(
                f"{entry.name} is under a licence that must be accepted first: {licence.title} ({licence.terms}). "
                f"Read it, then add --accept-licence {licence.id}"
            )
        self._store.accept(licence.id, at=self._now())

    def _already(self, entry: ModelFile, sha256: str | None) -> Pulled | None:
        path = self._store.path(entry.name)
        if not path.exists():
            return None
        found, size = sha256_of(path), path.stat().st_size
        if found == (sha256 or self._store.expected(entry.name)[0]):
            if self._store.expected(entry.name)[0] == found:
                return Pulled(entry.name, PullOutcome.PRESENT, found, size, str(path))
            self._record(entry, found, size, str(path))
            return Pulled(entry.name, PullOutcome.RECORDED, found, size, str(path))
        return None

    def _fetch(self, wanted: Wanted, progress: Progress) -> Path:
        folder = self._store.folder
        self._store.prepare(folder)
        if not re.match(r"https?://", wanted.url):
            return copy_file(Path(wanted.url).expanduser(), wanted, folder, progress)
        server = wanted.url.split("/", 3)[2]
        attempts = 1 if server in self._unreachable else ATTEMPTS
        download = Download(folder, progress=progress, notice=self._notice, wait=self._wait, attempts=attempts)
        try:
            return download.fetch(wanted)
        except NoConnection:
            self._unreachable.add(server)
            raise

    def _keep(self, entry: ModelFile, part: Path, sha256: str, origin: str, *, deliberate: bool) -> Pulled:
        path = self._store.path(entry.name)
        size = part.stat().st_size
        if deliberate:
            # Recorded first: should this be the last thing that happens, the old file is refused, never mistaken.
            self._record(entry, sha256, size, origin)
        part.replace(path)
        sync_folder(path.parent)
        if not deliberate:
            self._store.forget(entry.name)
        return Pulled(entry.name, PullOutcome.PULLED, sha256, size, _told(origin))

    def _record(self, entry: ModelFile, sha256: str, size: int, origin: str) -> None:
        if sha256 == entry.sha256:
            self._store.forget(entry.name)
        else:
            self._store.record(entry.name, ModelReceipt(sha256, size, _told(origin), self._now()))

    def _from_archive(self, entry: ModelFile, archive: ModelFile, progress: Progress) -> Pulled:
        """Fetch the archive, take out every file of the manifest that is in it, and remove it."""
        origin = self._origins.of(archive)
        if archive.sha256 is None:
            raise Misconfigured(f"the sha256 of {archive.name} is not known to Mirage")
        whole = self._fetch(Wanted(archive.name, origin, archive.sha256, archive.size), progress)
        taken = {}
        try:
            for member in self._store.manifest.values():
                if member.archive == archive:
                    part = take_out(whole, member, self._store.folder)
                    taken[member.name] = self._keep(member, part, str(member.sha256), origin, deliberate=False)
        finally:
            whole.unlink(missing_ok=True)
        return taken[entry.name]


def take_out(archive: Path, member: ModelFile, folder: Path) -> Path:
    """Return the verified part file of `member` from a zip. Only its base name is looked for: no path is followed.

    Raises `ModelRefused` when it is not there exactly once, is longer than it may be, or has another hash.
    """
    part = folder / f"{member.name}.part"
    try:
        found = _unpack(archive, member, part)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise ModelRefused(f"{archive.name} is not a sound zip file: {error}") from None
    except OSError as error:
        part.unlink(missing_ok=True)
        raise Misconfigured(f"{part} cannot be written: {error}") from None
    except ModelRefused:
        part.unlink(missing_ok=True)
        raise
    if found != member.sha256:
        part.unlink()
        raise ModelRefused(f"{archive.name}: {member.name} has sha256 {found}, expected {member.sha256}")
    return part


def _unpack(archive: Path, member: ModelFile, part: Path) -> str:
    """Write the one file called as `member` to `part`, and return its sha256."""
    limit = member.size or LARGEST_MEMBER
    digest = hashlib.sha256()
    with zipfile.ZipFile(archive) as opened:
        found = [info for info in opened.infolist() if info.filename.rpartition("/")[2] == member.name]
        if len(found) != 1:
            raise ModelRefused(f"{archive.name}: {len(found)} files called {member.name} in it, 1 expected")
        with opened.open(found[0]) as source, part.open("wb") as sink:
            while chunk := source.read(CHUNK):
                if sink.tell() + len(chunk) > limit:
                    raise ModelRefused(f"{archive.name}: {member.name} is longer than {limit} bytes")
                digest.update(chunk)
                sink.write(chunk)
            sink.flush()
            os.fsync(sink.fileno())
    return digest.hexdigest()


def _told(origin: str) -> str:
    return shown(origin) if re.match(r"https?://", origin) else origin
