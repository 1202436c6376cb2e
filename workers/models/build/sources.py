"""The registry packages the vendored models are made from: fetched by their own client, checked, read in memory.

Archives and the files read from them are pinned by sha256, so a rebuild starts from the same bytes or stops.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class RebuildError(Exception):
    """An input is not the pinned one, or a tool failed; nothing was written."""


def sha256(data: bytes) -> str:
    """Return the hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def pip_download(name: str, version: str, folder: Path) -> None:
    """Download wheel `name` into `folder` without its dependencies and without running any of its code."""
    _run([sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", f"{name}=={version}"], folder)


def npm_pack(name: str, version: str, folder: Path) -> None:
    """Download npm package `name` into `folder`. Nothing is installed, no install script runs."""
    npm = shutil.which("npm")
    if npm is None:
        raise RebuildError("npm is not on PATH; install Node.js 18 or newer")
    _run([npm, "pack", "--ignore-scripts", f"{name}@{version}"], folder)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - pinned names
    if done.returncode:
        raise RebuildError(f"{' '.join(command)} failed:\n{done.stderr}")


@dataclass(frozen=True, slots=True)
class Package:
    """One archive of one registry: `archive` is the file its client leaves behind, `sha256` that file's."""

    registry: str
    name: str
    version: str
    archive: str
    sha256: str
    download: Callable[[str, str, Path], None]

    def __str__(self) -> str:
        """Return the package as people name it: `npm @mediapipe/face_mesh 0.4.1657299874`."""
        return f"{self.registry} {self.name} {self.version}"

    def fetch(self, folder: Path) -> Path:
        """Return the checked archive in `folder`, downloading it where it is not there yet."""
        path = folder / self.archive
        if not path.exists():
            self.download(self.name, self.version, folder)
        if not path.exists():
            raise RebuildError(f"{self} did not leave {self.archive} in {folder}")
        found = sha256(path.read_bytes())
        if found != self.sha256:
            raise RebuildError(f"{path} has sha256 {found}, expected {self.sha256}")
        return path

    def read(self, folder: Path, member: str) -> bytes:
        """Return the bytes of file `member` of the archive. Nothing is extracted to disk."""
        path = self.fetch(folder)
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                return wheel.read(member)
        with tarfile.open(path) as tarball:
            handle = tarball.extractfile(member)
            if handle is None:
                raise RebuildError(f"{member} in {path} is not a file")
            return handle.read()


FACE_DETECTION = Package(
    registry="npm",
    name="@mediapipe/face_detection",
    version="0.4.1657300184",
    archive="mediapipe-face_detection-0.4.1657300184.tgz",
    sha256="a118cde74923dc4435257fbfbb613464a0f58d115dff6314d4ff96c8aebf6419",
    download=npm_pack,
)
FACE_MESH = Package(
    registry="npm",
    name="@mediapipe/face_mesh",
    version="0.4.1657299874",
    archive="mediapipe-face_mesh-0.4.1657299874.tgz",
    sha256="c08a7e0742a326285da666cf81d77c8b6f3a181a2ee948cadaf166008e0d3bc7",
    download=npm_pack,
)
RESEMBLYZER = Package(
    registry="PyPI",
    name="Resemblyzer",
    version="0.1.4",
    archive="Resemblyzer-0.1.4-py3-none-any.whl",
    sha256="8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
    download=pip_download,
)


@dataclass(frozen=True, slots=True)
class Input:
    """One pinned file: `member` of `package`, or `packed` inside the member where that is a packed-assets archive."""

    package: Package
    member: str
    sha256: str
    packed: str = ""

    def __str__(self) -> str:
        """Return package and path in one line, as the manifest's `source` gives it."""
        inner = f": {self.packed.rpartition('/')[2]}" if self.packed else ""
        return f"{self.package}, {self.member.removeprefix('package/')}{inner}"

    def check(self, data: bytes) -> bytes:
        """Return `data` unchanged if it is the pinned file."""
        found = sha256(data)
        if found != self.sha256:
            raise RebuildError(f"{self} has sha256 {found}, expected {self.sha256}")
        return data
