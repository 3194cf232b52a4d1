"""gzip, unpacked while it is read: in constant memory, member after member, and never more than is believable."""

import io
import zlib
from pathlib import Path
from typing import BinaryIO

from nacre.base.errors import InputError

GZIP_MARK = b"\x1f\x8b"
MAX_RATIO = 200  # text of a data set packs 3 to 30 times smaller; a thousand equal rows reach a hundred
FREE_BYTES = 1 << 24  # below this nothing is asked: a small file may be one row many times over
MAX_BYTES = 1 << 38  # 256 GiB
_PIECE_BYTES = 1 << 16
_UNPACK = "unpack it where there is room (gunzip -k FILE), look at it, and name the unpacked file"


class Gunzip(io.RawIOBase):
    """The unpacked bytes of a gzip file of one member or several.

    A file that is cut off or damaged ends where it breaks, and `problem` says so, so that the rows before are not lost.

    Raises:
        InputError: while reading, the file unpacks to more than `MAX_RATIO` times its size, or than `MAX_BYTES`.
    """

    def __init__(self, packed: BinaryIO | io.RawIOBase, path: Path) -> None:
        self._packed, self._path = packed, path
        self._member = zlib.decompressobj(wbits=31)
        self._held = b""
        self._read, self._given = 0, 0
        self._inside, self._ended = False, False
        self.problem = ""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed wants any buffer
        """Fill the buffer with unpacked bytes; 0 at the end."""
        data = b""
        while not data and not self._ended:
            data = self._unpack(len(buffer))
        buffer[: len(data)] = data
        self._given += len(data)
        self._check()
        return len(data)

    def _unpack(self, most: int) -> bytes:
        """Some more bytes; none where more must be read first."""
        if not self._held:
            self._held = self._packed.read(_PIECE_BYTES) or b""
            self._read += len(self._held)
            if not self._held:
                return self._last(most)
        if not self._inside and self._given:
            self._held = self._held.lstrip(b"\0")  # padding between members and after the last one
            if not self._held:
                return b""
        try:
            data = self._member.decompress(self._held, most)
        except zlib.error:
            after = self._given and not self._inside
            self._end("bytes after the end of the gzip data" if after else "the gzip data is damaged from here on")
            return b""
        self._inside = not self._member.eof
        self._held = self._member.unconsumed_tail if self._inside else self._member.unused_data
        if not self._inside:
            self._member = zlib.decompressobj(wbits=31)
        return data

    def _last(self, most: int) -> bytes:
        """What the member still holds when the file has ended."""
        data = self._member.decompress(b"", most) if self._inside else b""
        if not data:
            self._end("the gzip data is cut off here" if self._inside and not self._member.eof else "")
        return data

    def _end(self, problem: str) -> None:
        self._ended, self.problem = True, problem

    def _check(self) -> None:
        if self._given > max(FREE_BYTES, MAX_RATIO * self._read):
            what = f"this gzip file unpacks to more than {MAX_RATIO} times its size, as a decompression bomb does"
            raise InputError(what, where=str(self._path), fix=_UNPACK)
        if self._given > MAX_BYTES:
            what = f"this gzip file unpacks to more than {MAX_BYTES >> 30} GiB"
            raise InputError(what, where=str(self._path), fix=_UNPACK)
