"""Multipart uploads, read with a limit and kept in memory: a face or a voice is never spooled to a disk."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from schemas.errors import InputRejected

_MAX_FIELD_BYTES = 64 << 10
_MAX_FIELDS = 8
_MAX_S = 60.0


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 30


async def read_form(request: Request, *, max_files: Mapping[str, int]) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the text fields and the files of a multipart request; `max_files` is the largest size of each, in bytes.

    Raises `InputRejected` as soon as more comes than all files together may have, or as it takes longer than a minute,
    and for unknown files.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind.lower() != b"multipart/form-data" or options.get(b"charset", b"utf-8").lower() != b"utf-8":
        raise InputRejected("send multipart/form-data in UTF-8", code="invalid")
    limit = sum(max_files.values()) + _MAX_FIELDS * _MAX_FIELD_BYTES
    parser = _InMemory(
        request.headers,
        _limited(request, limit),
        max_files=len(max_files),
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        async with asyncio.timeout(_MAX_S):
            form = await parser.parse()
    except MultiPartException as error:
        raise InputRejected(f"not a form that we can read: {error.message}", code="invalid") from None
    except UnicodeError:
        raise InputRejected("not a form that we can read: it is not UTF-8", code="invalid") from None
    except TimeoutError:
        raise InputRejected(f"the upload took longer than {_MAX_S:.0f} s", code="too_slow") from None
    except ClientDisconnect:
        raise InputRejected("the upload was cut short", code="invalid") from None
    try:
        return await _contents(form, max_files)
    finally:
        await form.close()


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    seen = 0
    async for piece in request.stream():
        seen += len(piece)
        if seen > limit:
            raise InputRejected(f"upload above {limit} bytes", code="too_large")
        yield piece


async def _contents(form: FormData, max_files: Mapping[str, int]) -> tuple[dict[str, str], dict[str, bytes]]:
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif name not in max_files:
            raise InputRejected(f"file {name[:40]!r} is not known; expected {', '.join(max_files)}", code="invalid")
        elif value.size is None or value.size > max_files[name]:
            raise InputRejected(
                f"{name} has {value.size} bytes; at most {max_files[name]} are accepted", code="too_large"
            )
        elif value.size:
            files[name] = await value.read()
    return fields, files
