"""What a file is before a row of it is read: its encoding, or the reason why it holds no rows at all."""

import codecs
import errno
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nacre.base.errors import InputError
from nacre.data.packed import GZIP_MARK, Gunzip

CHUNK_BYTES = 1 << 20
BAD_BYTES = "nacre.bad-bytes"
"""Error handler for decoding: each undecodable byte becomes U+DC00 plus its value, so that one damaged
row can be told from the rows around it. No text may hold such a character, so nothing is mistaken, and the bytes can
be had back."""

_BOMS = (  # mark, name, codec of the whole file, codec of a part of it
    (codecs.BOM_UTF8, "UTF-8 with BOM", "utf-8-sig", "utf-8"),
    (codecs.BOM_UTF32_LE, "UTF-32", "utf-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "UTF-32", "utf-32", "utf-32-be"),
    (codecs.BOM_UTF16_LE, "UTF-16", "utf-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "UTF-16", "utf-16", "utf-16-be"),
)
_MAGIC = (
    (GZIP_MARK, "a gzip file inside a gzip file", "unpack it once: gunzip FILE"),
    (b"BZh91AY&SY", "a bzip2 file", "unpack it first: bunzip2 FILE"),
    (b"\xfd7zXZ", "an xz file", "unpack it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it first: unzstd FILE"),
    (b"PK\x03\x04", "a zip archive or an office document", "unpack it, or export its sheet as JSON lines"),
    (b"PAR1", "a packed Parquet file", "unpack it first: gunzip FILE"),
    (b"ARROW1", "an Arrow file", "convert it to JSON lines"),
    (b"%PDF", "a PDF document", "extract its text first"),
    (b"\x89PNG", "a picture", "give the file that holds the rows"),
    (b"\xff\xd8\xff", "a picture", "give the file that holds the rows"),
    (b"SQLite format 3", "an SQLite database", "export its table as JSON lines"),
)
_WEB_PAGE = re.compile(rb"\s*(<!--.*?-->\s*)?(<!doctype\s+html|<html|<head)", re.IGNORECASE | re.DOTALL)
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_TAR_MARK, _TAR_PLACE = b"ustar", 257
_CONTROL = bytes({*range(0x20)} - {*b"\t\n\r\f\v\b\x1b"})
_BINARY_SHARE = 0.01  # control bytes above this share of the head: no text in any encoding without a mark
_GB_SHARE = 0.8  # Chinese text in GB18030 is nearly all pairs of bytes from A1 up; Latin-1 and damaged UTF-8 are not
# what texts in Big5 and Shift-JIS become when they are taken for GB18030: their commonest characters lie where GB18030
# has kana, Greek, Cyrillic, lines for tables and places without a character
_ODD_IN_GB = re.compile("[\u0370-\u04ff\u2500-\u257f\u3040-\u312f\ue000-\uf8ff]")
_ASCII = re.compile("[\x00-\x7f]")
_ODD_SHARE = 0.2


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(BAD_BYTES, _mark)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to decode a file.

    Attributes:
        label: the encoding's name as people write it.
        codec: the name Python knows it by; `part` the one for a part of the file, without the mark at its beginning.
        head: the first part of the text, to tell its layout by.
        packed: whether the text is in a gzip file.
    """

    label: str
    codec: str
    head: str
    packed: bool = False
    part: str = ""

    @property
    def converted(self) -> bool:
        """Whether the file is in another encoding than UTF-8, which the user should be told."""
        return not self.label.startswith("UTF-8") and self.codec != ""


PARQUET = Encoding("Parquet", "", "")


def sniff(path: Path) -> Encoding:
    """Tell a file's encoding from its bytes; the whole file is looked through once, never kept.

    Raises:
        InputError: the file is missing, unreadable, empty, a web page, a git-LFS pointer, not text, or a gzip file
            that unpacks to far more than text does.
    """
    with _unpacked(path) as (file, packed):
        head = file.read(CHUNK_BYTES)
        raw = file.raw if isinstance(file, io.BufferedReader) else None
        if not head and isinstance(raw, Gunzip) and raw.problem:
            raise InputError(raw.problem, where=str(path), fix="copy or write the file again")
        if head.startswith(b"PAR1") and not packed:
            return PARQUET
        _refuse(path, head)
        label, codec, part = _by_mark(head) or ("UTF-8", "utf-8", "utf-8")
        sound = codec != "utf-8" or _is_utf8(head, file)
    if not sound:
        with _unpacked(path) as (file, _):
            label, codec = _legacy(file)
            part = codec
    decoder = codecs.getincrementaldecoder(codec)(errors="replace")
    return Encoding(label, codec, decoder.decode(head), packed, part)


@contextmanager
def _unpacked(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """The file's bytes, out of their gzip file where they are in one, and whether they are."""
    with open_bytes(path) as file:
        packed = file.read(2) == GZIP_MARK
        file.seek(0)
        yield (io.BufferedReader(Gunzip(file, path), CHUNK_BYTES) if packed else file), packed


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, with an error that a user can act on.

    Raises:
        InputError: the file is missing, a folder, or may not be read.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise InputError("the file does not exist", where=str(path), fix="check the path") from None
    except IsADirectoryError:
        raise InputError("this is a folder, not a file", where=str(path), fix="give a file in it") from None
    except PermissionError:
        raise InputError("the file may not be read", where=str(path), fix="change its permissions") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError("the link leads in a circle", where=str(path), fix="make it point to a file") from None
        raise InputError(f"the file cannot be opened: {error.strerror}", where=str(path), fix="check it") from None


def _refuse(path: Path, head: bytes) -> None:
    """Refuse what can hold no rows, with what it is and what to do."""
    where = str(path)
    if not head:
        raise InputError("the file is empty (0 bytes)", where=where, fix="write or copy it again")
    if not head.lstrip(codecs.BOM_UTF8).strip():
        raise InputError("the file is empty (only blank lines)", where=where, fix="write or copy it again")
    if head.startswith(_LFS_POINTER):
        raise InputError("this is a git-LFS pointer, not the data itself", where=where, fix="run: git lfs pull")
    if _WEB_PAGE.match(head.removeprefix(codecs.BOM_UTF8)):
        fix = "download the raw file (the 'raw' or 'download' link of the page)"
        raise InputError("this is a web page, not a data file", where=where, fix=fix)
    for magic, kind, fix in _MAGIC:
        if head.startswith(magic):
            raise InputError(f"this is {kind}, not text", where=where, fix=fix)
    if head[_TAR_PLACE : _TAR_PLACE + len(_TAR_MARK)] == _TAR_MARK:
        raise InputError("this is a tar archive, not text", where=where, fix="unpack it first: tar xf FILE")
    if _by_mark(head) is None and len(head) - len(head.translate(None, _CONTROL)) > len(head) * _BINARY_SHARE:
        raise InputError("this is binary data, not text", where=where, fix="give JSON, JSON lines or plain text")


def _by_mark(head: bytes) -> tuple[str, str, str] | None:
    """The encoding that the first bytes give away: a byte order mark, or UTF-16's NUL beside ASCII."""
    for mark, label, codec, part in _BOMS:
        if head.startswith(mark):
            return label, codec, part
    if len(head) >= 4 and head[0] and not head[1] and head[2] and not head[3]:
        return "UTF-16", "utf-16-le", "utf-16-le"
    if len(head) >= 4 and not head[0] and head[1] and not head[2] and head[3]:
        return "UTF-16", "utf-16-be", "utf-16-be"
    return None


def _is_utf8(head: bytes, rest: BinaryIO) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    piece = head
    try:
        while piece:
            decoder.decode(piece)
            piece = rest.read(CHUNK_BYTES)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _legacy(file: BinaryIO) -> tuple[str, str]:
    """GB18030 (which includes GBK and GB2312), or UTF-8 with damaged lines: whichever more lines speak for."""
    good = bad = 0
    sample = bytearray()
    while line := file.readline(CHUNK_BYTES):
        if line.isascii():
            continue
        try:
            line.decode()
            good += 1
        except UnicodeDecodeError:
            bad += 1
            if len(sample) < CHUNK_BYTES:
                sample += line
    return ("GB18030", "gb18030") if bad > good and _is_gb(bytes(sample)) else ("UTF-8", "utf-8")


def _is_gb(sample: bytes) -> bool:
    text = sample.decode("gb18030", errors="replace")
    if text.count("\ufffd") > len(text) * 0.01:
        return False
    if len(_ODD_IN_GB.findall(text)) > _ODD_SHARE * (len(text) - len(_ASCII.findall(text))):
        return False
    high = sum(1 for byte in sample if byte >= 0x80)
    paired = 2 * len(re.findall(rb"[\xa1-\xfe]{2}", sample))
    return paired >= _GB_SHARE * high
