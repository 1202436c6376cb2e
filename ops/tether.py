"""Ties a child process's life to its parent's, also when the parent is killed: `python -m ops.tether PARENT -- CMD…`.

Linux tells the child itself (PR_SET_PDEATHSIG survives exec, so the program needs to know nothing of it). Elsewhere a
small watcher process polls the parent. Run by file path, so that it starts in a few milliseconds.
"""

import ctypes
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1


def command(argv: list[str]) -> list[str]:
    """Return the command that runs `argv` tethered to this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), "--", *argv]


def _tether_linux(parent: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG) failed: errno {ctypes.get_errno()}")
    if os.getppid() != parent:  # it died before the call: nobody would ever tell us
        sys.exit(1)


def _tether_watcher(parent: int) -> None:
    target = os.getpid()
    if os.fork() != 0:
        return
    while True:
        time.sleep(0.5)
        try:
            os.kill(target, 0)
            os.kill(parent, 0)
        except ProcessLookupError:
            try:
                os.kill(target, signal.SIGKILL)
            finally:
                os._exit(0)


def main() -> None:
    """Tether, then become the command."""
    parent, separator, argv = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if separator != "--" or not argv:
        sys.exit("usage: tether.py PARENT_PID -- COMMAND [ARG…]")
    if sys.platform == "linux":
        _tether_linux(parent)
    else:
        _tether_watcher(parent)
    os.execvp(argv[0], argv)  # noqa: S606 - the point of this program; no shell is involved


if __name__ == "__main__":
    main()
