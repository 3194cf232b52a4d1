"""A file of lines that is written as they come and is there whole, or not at all."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from nacre.base.files import disk_errors, fsync_folder


@contextmanager
def lines_to(path: Path) -> Iterator[Callable[[str], None]]:
    """Write lines to a file that is there whole when the block ends well, and not at all where none were written.

    An earlier file of that name goes in both cases; if the block fails, nothing changes.

    Raises:
        NacreError: the disk is full or cannot be written.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                yield _line_writer(file)
                file.flush()
                if file.tell():
                    os.fsync(file.fileno())
            if temporary.stat().st_size:
                temporary.chmod(0o644)
                temporary.replace(path)
                fsync_folder(path.parent)
            else:
                path.unlink(missing_ok=True)
        finally:
            temporary.unlink(missing_ok=True)


def _line_writer(file: TextIO) -> Callable[[str], None]:
    def write(line: str) -> None:
        file.write(line)
        file.write("\n")

    return write
