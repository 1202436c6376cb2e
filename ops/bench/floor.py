"""The floor under the pipeline: the same two hops over the same server, with nothing but sockets and hiredis.

`python -m ops.bench.floor SOCKET` is the far side: it copies every entry of one stream to another. The near side,
`TwoHops`, times entries there and back. No fence, no headers, no outcomes, no event loop.
"""

import socket
import sys
import time
from typing import Any

import hiredis

_IN, _OUT = b"bench:{floor}:in", b"bench:{floor}:out"


class _Wire:
    """One blocking connection."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._reader = hiredis.Reader()

    def call(self, *words: bytes) -> Any:
        """Send one command and return its answer."""
        packed = hiredis.pack_command(words)  # type: ignore[arg-type] # its stub knows one word only
        self._socket.sendall(packed)
        while (answer := self._reader.gets()) is False:
            data = self._socket.recv(1 << 18)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(data)
        return answer

    def read_after(self, stream: bytes, cursor: bytes) -> list[Any]:
        """Return the entries after `cursor`, waiting up to 2 s for the first."""
        answer = self.call(b"XREAD", b"BLOCK", b"2000", b"STREAMS", stream, cursor)
        return list(answer[0][1]) if answer else []

    def add(self, stream: bytes, data: bytes) -> None:
        """Append an entry."""
        self.call(b"XADD", stream, b"MAXLEN", b"~", b"100", b"*", b"d", data)


class TwoHops:
    """The near side."""

    def __init__(self, path: str) -> None:
        """Connect to the server's unix socket."""
        self._write, self._read = _Wire(path), _Wire(path)
        self._cursor = b"0-0"

    def time_once(self, data: bytes) -> float:
        """Return seconds from sending an entry to holding its copy."""
        started = time.perf_counter()
        self._write.add(_IN, data)
        while True:
            found = self._read.read_after(_OUT, self._cursor)
            if found:
                self._cursor = found[-1][0]
                return time.perf_counter() - started


def main(path: str) -> None:
    """Copy entries until the parent is gone."""
    wire, cursor = _Wire(path), b"0-0"
    while True:
        for entry_id, fields in wire.read_after(_IN, cursor):
            wire.add(_OUT, fields[1])
            cursor = entry_id


if __name__ == "__main__":
    main(sys.argv[1])
