"""Fetches one file over HTTP into a part file that survives interruption, and checks it before anybody uses it.

urllib is enough: one GET with a Range, redirects, proxies from the environment, a timeout on every read. An HTTP
library would be a dependency of every installation for a command that runs once.

A part is continued with `Range` and `If-Range`: a server that has another version by then, or knows no ranges, sends
the whole file, and the part starts over. What was put together is hashed as a whole, so a wrong join is never used.
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from schemas.errors import DownloadFailed, Misconfigured, ModelRefused

CHUNK = 1 << 18
FREE_MARGIN = 256 << 20
"""Bytes that must stay free on the disk."""
ATTEMPTS = 5
"""Failures in a row without a byte of progress before a pull gives up; what came is kept."""
TIMEOUT_S = 30.0
_LONGEST_WAIT_S = 60.0
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

Progress = Callable[[int, int | None], None]
"""Told how many bytes are there, and of how many (None: not known)."""
Notice = Callable[[str], None]
"""Told in a sentence what is being waited for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to fetch. `size`: bytes, None where not known."""

    name: str
    url: str
    sha256: str
    size: int | None


class NoConnection(DownloadFailed):
    """No connection to the server could be made: its next file need not be waited for as long."""


class _TryAgain(Exception):
    """The attempt ended early; the next one goes on from what came."""

    def __init__(self, why: str, *, after_s: float | None = None, unreachable: bool = False) -> None:
        super().__init__(why)
        self.after_s, self.unreachable = after_s, unreachable


class Download:
    """Fetches files into one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        progress: Progress,
        notice: Notice,
        wait: Callable[[float], None],
        attempts: int = ATTEMPTS,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Keep parts in `folder`. `wait` sleeps for so many seconds between attempts, after `notice` was told why."""
        self._folder, self._progress, self._notice, self._wait = folder, progress, notice, wait
        self._attempts, self._timeout_s = attempts, timeout_s
        self._opener = urllib.request.build_opener(_CarefulRedirects)

    def fetch(self, wanted: Wanted) -> Path:
        """Return the whole, verified part file of `wanted`; the caller renames it.

        Raises `DownloadFailed` when the server does not give it (what came is kept; `NoConnection` when there was no
        connection), `ModelRefused` with both hashes when it gives something else (nothing is kept), `Misconfigured`
        when the disk is too full.
        """
        part = _Part(self._folder / f"{wanted.name}.part")
        continued = self._complete(wanted, part)
        found = sha256_of(part.path)
        if found != wanted.sha256 and continued:
            part.clear()  # put together from two versions, perhaps: once more from the start
            self._complete(wanted, part)
            found = sha256_of(part.path)
        if found != wanted.sha256:
            part.clear()
            raise ModelRefused(
                f"{shown(wanted.url)} gave a file with sha256 {found}, expected {wanted.sha256} for {wanted.name}; "
                "it was not kept. To use that other file deliberately, name its hash with --sha256"
            )
        part.about.unlink(missing_ok=True)
        return part.path

    def _complete(self, wanted: Wanted, part: "_Part") -> bool:
        """Fetch until the part is whole; returns whether an older part was built upon."""
        failures, continued = 0, False
        while True:
            before = part.length
            continued |= before > 0
            try:
                self._attempt(wanted, part)
            except _TryAgain as error:
                failures = 1 if part.length > before else failures + 1
                if failures >= self._attempts:
                    raise (NoConnection if error.unreachable else DownloadFailed)(
                        f"{shown(wanted.url)}: {error}; gave up after {_times(failures)} without progress. "
                        f"{part.length} bytes are kept, and the next pull goes on from there"
                    ) from None
                pause_s = min(_LONGEST_WAIT_S, error.after_s if error.after_s is not None else 2.0 ** (failures - 1))
                self._notice(f"{shown(wanted.url)}: {error}; next attempt in {pause_s:g} s")
                self._wait(pause_s)
            else:
                return continued

    def _attempt(self, wanted: Wanted, part: "_Part") -> None:
        """Ask once, and write what comes. Returns when the part is whole."""
        if wanted.size is not None and part.length >= wanted.size:
            return
        headers = {"User-Agent": "mirage", "Accept-Encoding": "identity"} | part.range_headers(wanted.url)
        try:
            request = urllib.request.Request(wanted.url, headers=headers)  # noqa: S310 - http(s) only, as settings check
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                self._receive(wanted, part, answer)
        except urllib.error.HTTPError as error:
            with error:
                self._judge(wanted, part, error)
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DownloadFailed(f"{shown(wanted.url)}: {error.reason}") from None
            raise _TryAgain(f"no connection ({error.reason})", unreachable=True) from None
        except ValueError as error:  # numbers and addresses that are none: what Python makes of a hostile header
            raise DownloadFailed(f"{shown(wanted.url)}: the address or the answer is malformed ({error})") from None
        except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
            raise _TryAgain(f"the connection broke ({type(error).__name__}: {error})") from None
        except OSError as error:
            raise Misconfigured(f"{part.path} cannot be written: {error}") from None

    def _judge(self, wanted: Wanted, part: "_Part", error: urllib.error.HTTPError) -> None:
        if error.code == 416 and part.length:  # the part is not a beginning of what is there now
            part.clear()
            raise _TryAgain("the server has a shorter file than the part")
        if error.code in _TRANSIENT:
            after = error.headers.get("Retry-After", "")
            raise _TryAgain(f"HTTP {error.code}", after_s=float(after) if after.isdecimal() else None)
        raise DownloadFailed(f"{shown(wanted.url)}: HTTP {error.code} {error.reason}")

    def _receive(self, wanted: Wanted, part: "_Part", answer: http.client.HTTPResponse) -> None:
        start, total = _extent(answer)
        if wanted.size is not None and total is not None and total != wanted.size:
            part.clear()
            raise ModelRefused(
                f"{shown(wanted.url)} is {total} bytes long, expected {wanted.size} for {wanted.name}; "
                "to use that other file deliberately, name its hash with --sha256"
            )
        if start != part.length:
            if start:
                part.clear()
                raise _TryAgain(f"the server sent bytes from {start} on, others were asked for")
            part.clear()
        _check_space(self._folder, (total or wanted.size or 0) - part.length)
        part.describe(wanted.url, answer.headers)
        limit = total if total is not None else wanted.size
        with part.path.open("ab") as sink:  # buffered: on a disk that fills, an unbuffered write may write a part
            length = start
            self._progress(length, limit)
            while chunk := answer.read1(CHUNK):  # what is there: a stall must not cost what came before it
                sink.write(chunk)
                length += len(chunk)
                self._progress(length, limit)
                if limit is not None and length > limit:
                    part.clear()
                    raise ModelRefused(f"{shown(wanted.url)} is longer than {limit} bytes")
            sink.flush()
            os.fsync(sink.fileno())
        if limit is not None and length < limit:
            raise _TryAgain(f"the answer ended after {length} of {limit} bytes")


class _Part:
    """A file that is not whole yet, and beside it what it is part of."""

    def __init__(self, path: Path) -> None:
        self.path, self.about = path, path.with_name(f"{path.name}.json")

    @property
    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)

    def describe(self, url: str, headers: HTTPMessage) -> None:
        """Note what version of what the bytes are from, before the first of them is written."""
        etag = headers.get("ETag", "")
        validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
        self.about.write_text(json.dumps({"url": _digest(url), "validator": validator}), "utf-8")

    def range_headers(self, url: str) -> dict[str, str]:
        """Return the headers that ask for the rest; {} (and no part) when it is a part of something else."""
        if not self.length:
            return {}
        try:
            about: dict[str, Any] = json.loads(self.about.read_text("utf-8"))
        except (OSError, ValueError):
            about = {}
        if about.get("url") != _digest(url):
            self.clear()
            return {}
        validator = str(about.get("validator", ""))
        return {"Range": f"bytes={self.length}-"} | ({"If-Range": validator} if validator else {})


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to something weaker, and never out of HTTP."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        target = urlsplit(newurl).scheme
        if target not in ("http", "https") or (urlsplit(req.full_url).scheme == "https" and target != "https"):
            raise DownloadFailed(f"{shown(req.full_url)} redirects to {shown(newurl)}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def copy_file(source: Path, wanted: Wanted, folder: Path, progress: Progress) -> Path:
    """Return a verified copy of a mirror's file as a part file in `folder`. Raises as `Download.fetch` does."""
    part = folder / f"{wanted.name}.part"
    digest = hashlib.sha256()
    if not source.parent.is_dir():
        raise DownloadFailed(
            f"{source} cannot be copied: there is no folder {source.parent}. MIRAGE_MODEL_MIRROR takes a folder, or a "
            "URL that begins with http:// or https://"
        )
    try:
        total = source.stat().st_size
        _check_space(folder, total)
        with source.open("rb") as given, part.open("wb") as sink:
            while chunk := given.read(CHUNK):
                sink.write(chunk)
                digest.update(chunk)
                progress(sink.tell(), total)
            sink.flush()
            os.fsync(sink.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise DownloadFailed(f"{source} cannot be copied: {error}") from None
    if digest.hexdigest() != wanted.sha256:
        part.unlink()
        raise ModelRefused(f"{source} has sha256 {digest.hexdigest()}, expected {wanted.sha256} for {wanted.name}")
    return part


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file, without holding it in memory."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def shown(url: str) -> str:
    """Return a URL without credentials and query, which may be a signature: for people's eyes, logs and records."""
    try:
        split = urlsplit(url)
        port = f":{split.port}" if split.port else ""
    except ValueError as error:
        return f"(an address that is none: {error})"
    return f"{split.scheme}://{split.hostname or ''}{port}{split.path}"


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _extent(answer: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Return where the answer's bytes begin in the file, and how long the file is, if it says."""
    if answer.status == 206:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if match is None:
            raise _TryAgain("the server sent a part without saying which")
        return int(match[1]), int(match[3]) if match[3] != "*" else None
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + FREE_MARGIN > free:
        raise Misconfigured(
            f"{folder} has {free / 1e6:.0f} MB free; {needed / 1e6:.0f} MB and {FREE_MARGIN / 1e6:.0f} MB to spare "
            "are needed. Free some, or set MIRAGE_MODELS_DIR"
        )
