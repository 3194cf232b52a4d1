"""Temporary folders beside what is kept: locked by whoever uses them, so that a killed process's can be told apart."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nacre.base.files import disk_errors

IMPORT, REPRODUCE = ".import-", ".reproduce-"
_JUST_MADE_S = 60.0  # a folder may have been made and not yet been locked


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder that is gone after the block.

    Raises:
        NacreError: the disk is full or cannot be written, when it is made or within the block.
    """
    with disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)


def abandoned(parent: Path) -> list[Path]:
    """Such folders whose processes were killed."""
    found = []
    for folder in sorted([*parent.glob(f"{IMPORT}*"), *parent.glob(f"{REPRODUCE}*")]):
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(handle).st_mtime > _JUST_MADE_S:
                found.append(folder)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)
    return found
