"""Read one file out of an Emscripten packed-assets archive: the `.data` blob and the loader script that indexes it."""

import json
import re
from pathlib import Path

from workers.models.build.sources import Input, RebuildError

# The loader calls `loadPackage({"files": [{"filename", "start", "end"}, ...], ...})` with plain JSON.
_INDEX = re.compile(rb"loadPackage\((\{.*\})\);")


def read_input(source: Input, cache: Path) -> bytes:
    """Return the checked bytes of `source`, looking inside the packed assets where it names a file in them."""
    data = source.package.read(cache, source.member)
    if source.packed:
        loader = source.package.read(cache, source.member.removesuffix(".data") + "_loader.js")
        data = unpack(data, loader, source.packed)
    return source.check(data)


def unpack(blob: bytes, loader: bytes, filename: str) -> bytes:
    """Return the bytes of `filename` in `blob`, at the offsets the loader script gives."""
    found = _INDEX.search(loader)
    if found is None:
        raise RebuildError("the packed-assets loader has no loadPackage({...}) index")
    index = json.loads(found[1])
    if index["remote_package_size"] != len(blob):
        raise RebuildError(f"packed assets hold {len(blob)} bytes, their index says {index['remote_package_size']}")
    for entry in index["files"]:
        if entry["filename"] == filename:
            return blob[entry["start"] : entry["end"]]
    raise RebuildError(f"{filename} is not among the packed assets")
