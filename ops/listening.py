"""The listening socket: taken before anything starts, inherited by ingress, kept while ingress restarts."""

import socket

from schemas.errors import Misconfigured


def listen(host: str, port: int) -> socket.socket:
    """Return a bound, inheritable socket; raises `Misconfigured` when the port is taken or the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise Misconfigured(
            f"cannot listen on {host}:{port}: {error.strerror}; set MIRAGE_PORT or MIRAGE_HOST"
        ) from None
    listener.set_inheritable(True)
    return listener
