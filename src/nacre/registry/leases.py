"""What running servers hold: one small file each, locked while its server lives, so that nobody takes its weights away.

The lock goes with the process. Where a disk is shared by several machines and locks do not travel, the file's time
counts instead: it is touched every `BEAT_S` seconds and no longer believed after `EXPIRY_S`.
"""

import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson

from nacre.base.clock import now
from nacre.base.errors import NacreError
from nacre.base.files import disk_errors

BEAT_S = 20.0
EXPIRY_S = 120.0
JUST_MADE_S = 60.0  # a file may have been made and not yet been locked


class Lease:
    """The lease of one server.

    Args:
        folder: ``.nacre/serving`` of the workspace; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._path = _made(folder)
        self._since, self._beaten = now(), 0.0
        try:
            self.hold(())
        except NacreError:
            self.close()
            raise

    def hold(self, versions: Iterable[int]) -> None:
        """Say which versions are being served or loaded now."""
        told = {"host": socket.gethostname(), "pid": os.getpid(), "since": self._since, "versions": sorted(versions)}
        text = orjson.dumps(told)
        with disk_errors(self._path):
            os.pwrite(self._file, text.ljust(os.fstat(self._file).st_size), 0)  # JSON may end in spaces
        self._beaten = time.monotonic()

    def beat(self) -> None:
        """Say that the server still lives; may be called as often as one likes."""
        if time.monotonic() - self._beaten > BEAT_S:
            with suppress(OSError):  # the lock says it too
                os.utime(self._file)
            self._beaten = time.monotonic()

    def close(self) -> None:
        """Hold nothing any more."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


@dataclass(frozen=True)
class Held:
    """A server that lives, and the versions it holds."""

    host: str
    pid: int
    since: str
    versions: tuple[int, ...]


def held(folder: Path) -> tuple[list[Held], list[Path]]:
    """The leases of servers that live, and the files of those that do not.

    Raises:
        NacreError: a living server's file cannot be read, so that nobody knows what it needs.
    """
    living: list[Held] = []
    dead: list[Path] = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            with path.open("rb") as file:
                if _lives(file, path.name, fcntl.LOCK_SH):
                    living.append(_read(path))
                elif time.time() - os.fstat(file.fileno()).st_mtime > JUST_MADE_S:
                    dead.append(path)
        except FileNotFoundError:
            continue  # its server has just ended
    return living, dead


def discard(path: Path) -> None:
    """Delete the file of a server that has ended, unless a server has it by now."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        if not _lives(file, path.name, fcntl.LOCK_EX):  # the lock is held until the file is gone: see `_made`
            path.unlink()


def _made(folder: Path) -> tuple[int, Path]:
    """A new file with its lock. One that was deleted before it could be locked is made again."""
    while True:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file, name = tempfile.mkstemp(dir=folder, prefix=f"{socket.gethostname()}-", suffix=".json")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:
            return file, Path(name)
        os.close(file)


def _lives(file: IO[bytes], name: str, lock: int) -> bool:
    """Whether its server lives; if not, the lock is the caller's as long as the file is open."""
    try:
        fcntl.flock(file, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    elsewhere = not name.startswith(f"{socket.gethostname()}-")
    return elsewhere and time.time() - os.fstat(file.fileno()).st_mtime < EXPIRY_S


def _read(path: Path) -> Held:
    try:
        told = orjson.loads(path.read_bytes())
        return Held(told["host"], told["pid"], told["since"], tuple(told["versions"]))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise NacreError(
            "a running server does not say which versions it holds",
            where=str(path),
            fix="try again in a moment; if it stays so, stop that server and delete the file",
        ) from None
