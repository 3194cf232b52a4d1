"""Taking a port, and ending quietly on a signal."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nacre.base.errors import NacreError

_BACKLOG = 2048  # connections that wait to be accepted


def url_of(listener: socket.socket) -> str:
    """Where it is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """Take the port now.

    Raises:
        NacreError: it is taken, or the address is none of this machine's.
    """
    place = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise NacreError("the host name is not known", where=place, fix="use 127.0.0.1 or an address") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise NacreError(
            f"cannot listen: {(error.strerror or str(error)).lower()}",
            where=place,
            fix="choose another one with --port (0 takes any free one), or stop the program that uses it",
        ) from None
    return listener


@contextmanager
def signals_end_quietly() -> Iterator[None]:
    """Undo that uvicorn raises SIGINT and SIGTERM again once it has drained: by then there is nothing left to kill."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _do_nothing) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _do_nothing(number: int, frame: object) -> None:
    """A signal handler."""
