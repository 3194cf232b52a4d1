"""Files that are either whole or not there: write beside, fsync, rename."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nacre.base.errors import NacreError


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn the operating system's disk errors into one NacreError that names the path."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: ("the disk is full", "free some space and run the command again"),
            errno.EDQUOT: ("the disk quota is used up", "free some space and run the command again"),
            errno.EROFS: ("the file system is read-only", "choose a folder that can be written"),
            errno.EACCES: ("permission denied", "choose a folder that you may write, or change its permissions"),
        }
        if error.errno not in reasons:
            raise
        what, fix = reasons[error.errno]
        raise NacreError(f"{what}; nothing was half-written", where=str(where), fix=fix) from error


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def atomic_write(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never a part.

    Raises:
        NacreError: the disk is full or cannot be written; the old file is untouched.
    """
    payload = data.encode() if isinstance(data, str) else data
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
            fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` when the block ends well.

    Every file is flushed to the disk before the rename, so that a folder with the final name is
    always whole. Whatever goes wrong, the temporary folder disappears and `target` is untouched.

    Raises:
        NacreError: the disk is full or cannot be written.
        FileExistsError: `target` exists and is not empty.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield staging
            staging.chmod(0o755)
            for path in staging.rglob("*"):
                if path.is_file():
                    with path.open("rb+") as file:
                        os.fsync(file.fileno())
            if target.is_dir() and not any(target.iterdir()):
                target.rmdir()
            if target.exists():
                raise FileExistsError(errno.EEXIST, "the folder exists and is not empty", str(target))
            staging.rename(target)
            fsync_folder(target.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on `path` for the length of the block; the lock goes with the process.

    Raises:
        NacreError: another process holds it and `wait` is False.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise NacreError(
                "another nacre command is at work here", where=str(path), fix="wait for it to end, or stop it"
            ) from None
        yield
