"""One file that holds folders and files with their hashes: written whole or not at all, and read with distrust.

A tar archive whose first member lists every other one with its size and SHA-256. When it is read, nothing counts but
that list: a member that is not on it, is no plain file, or has another size or hash ends the reading, and so does
anything behind the last member. Memory is bounded: no header is longer than 64 kB, the list no longer than 256 MB.
"""

import bz2
import gzip
import hashlib
import importlib
import io
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nacre.base.errors import InputError
from nacre.base.files import disk_errors, fsync_folder
from nacre.base.hashing import canonical_json, sha256_file
from nacre.registry.scratch import IMPORT, scratch

LIST = "nacre-archive.json"
FORMAT = 1
_LIST_BYTES = 256_000_000
_HEADER_BYTES = 1 << 16  # of a long name or other attributes, which tarfile reads as a whole
_ZERO_BYTES = 1 << 20  # behind the last member, however many zeros the writer fills its blocks with
_NAME_BYTES = 200  # of one part of a name: files are written under them
_PATH_BYTES = 1000  # of a whole name
_PIECE_BYTES = 1 << 20
_ALWAYS_BYTES = 1 << 30  # below this an archive may be as well packed as it likes
_RATIO = 100  # weights do not compress; what unpacks to more than so many times its size is no honest archive
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_ZSTD = importlib.import_module("compression.zstd") if "zst" in tarfile.TarFile.OPEN_METH else None  # of newer Pythons
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, *([_ZSTD.ZstdError] if _ZSTD else []))
_SUFFIXES = {".tar": "", ".gz": "gz", ".tgz": "gz", ".xz": "xz", ".bz2": "bz2", ".zst": "zst"}


class Member(BaseModel):
    """What the list says of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Head(BaseModel):
    """The first member: what is told of the files, and the list of them."""

    model_config = ConfigDict(frozen=True, strict=True)

    format: int
    told: dict[str, Any]
    members: dict[str, Member]


class _Bounded(tarfile.TarInfo):
    """A member whose headers cannot fill the memory: tarfile reads long names and attributes as a whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and member.size > _HEADER_BYTES:
            raise tarfile.HeaderError(f"a header of {member.size} bytes")
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.HeaderError("a file with holes")
        return member

    def _proc_gnusparse_10(self, *_: object) -> None:  # its map of holes has no bound
        raise tarfile.HeaderError("a file with holes")


def write_archive(target: Path, told: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Write `files` (names in the archive to paths) and what is `told` about them into one archive.

    Raises:
        InputError: `target` exists, or its name ends in no packing this Python knows.
        NacreError: the disk is full or cannot be written; nothing is left there.
    """
    packing = _packing(target)
    if target.exists():
        raise InputError("the file exists already", where=str(target), fix="choose another name, or delete it first")
    members = {
        name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for name, path in sorted(files.items())
    }
    head = canonical_json({"format": FORMAT, "told": dict(told), "members": members}).encode()
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as raw:
                with tarfile.open(fileobj=raw, mode=f"w:{packing}") as archive:  # type: ignore[call-overload]  # "w:" and a name
                    _add(archive, LIST, len(head), io.BytesIO(head))
                    for one, path in sorted(files.items()):
                        with path.open("rb") as data:
                            _add(archive, one, path.stat().st_size, data)
                raw.flush()
                os.fsync(raw.fileno())
            temporary.chmod(0o644)
            temporary.replace(target)
            fsync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def unpacked(source: Path, beside: Path) -> Iterator[tuple[dict[str, Any], dict[str, Path]]]:
    """Unpack an archive into a folder that is gone after the block.

    Args:
        beside: where that folder is made; on the same disk as what its files are moved to.

    Yields:
        What was told about the files, and their paths by name; every size and hash was checked.

    Raises:
        InputError: it is no such archive, or not whole, or it holds what its list does not name.
        NacreError: the disk is full.
    """
    with scratch(beside, IMPORT) as folder:
        yield _unpack(source, folder)


def _unpack(source: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    if not source.is_file():
        raise InputError("the archive does not exist", where=str(source), fix="check the path")
    try:
        with _open(source) as packed:
            return _members(packed, source, folder)
    except (*_DAMAGE, RecursionError) as error:
        raise _unfit(source, f"it cannot be read to its end ({error})") from None
    except OSError as error:
        if error.errno is not None:  # of the disk; gzip and bz2 have none for damaged data
            raise
        raise _unfit(source, f"it cannot be read to its end ({error})") from None


def _members(packed: IO[bytes], source: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """Unpack every member, as a stream: none is looked at before it is checked."""
    data = _Watched(packed)
    found: dict[str, Path] = {}
    with tarfile.open(fileobj=cast("IO[bytes]", data), mode="r|", tarinfo=_Bounded) as archive:
        head = _head(archive, source)
        _check_names(source, head.members)
        _check_room(source, head.members, folder)
        while member := archive.next():
            if member.name not in head.members or member.name in found:
                raise _unfit(source, f"it holds {member.name!r}, which its list does not name")
            found[member.name] = _take(archive, member, head.members[member.name], source, folder)
        _check_end(source, data, archive.offset)
    if missing := sorted(set(head.members) - set(found)):
        raise _unfit(source, f"{missing[0]!r} is missing")
    return head.told, found


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, wanted: Member, source: Path, folder: Path) -> Path:
    """Write one member below `folder`, if it is what the list says."""
    if not member.isreg():
        raise _unfit(source, f"{member.name!r} is no plain file")
    if member.size != wanted.bytes:
        raise _unfit(source, f"{member.name!r} has {member.size} bytes, its list says {wanted.bytes}")
    target = folder / member.name
    target.parent.mkdir(parents=True, exist_ok=True)
    data = archive.extractfile(member)
    if data is None or _copy(data, target) != wanted.sha256:
        raise _unfit(source, f"{member.name!r} was changed: its hash is another one")
    return target


def _head(archive: tarfile.TarFile, source: Path) -> Head:
    member = archive.next()
    if member is None or member.name != LIST or not member.isreg() or member.size > _LIST_BYTES:
        raise _unfit(source, f"it does not begin with {LIST}")
    data = archive.extractfile(member)
    try:
        told = orjson.loads(data.read() if data else b"")
        head = Head.model_validate(told)
    except (orjson.JSONDecodeError, ValidationError):
        raise _unfit(source, "its list cannot be read") from None
    if head.format != FORMAT:
        raise InputError(
            f"the archive has format {head.format}; this nacre reads {FORMAT}",
            where=str(source),
            fix="use the nacre that wrote it, or a newer one",
        )
    return head


def _check_room(source: Path, members: Mapping[str, Member], folder: Path) -> None:
    """Refuse what would fill the disk, before a byte is unpacked."""
    wanted = sum(member.bytes for member in members.values())
    packed = source.stat().st_size
    if wanted > max(_ALWAYS_BYTES, _RATIO * packed):
        raise _unfit(source, f"it says that its {packed} bytes unpack to {wanted}")
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise InputError(
            f"the archive unpacks to {wanted} bytes, and {free} are free", where=str(folder), fix="free some space"
        )


def _check_names(source: Path, names: Iterable[str]) -> None:
    """Each name leads to one place below the folder it is unpacked in, and to no place below another file."""
    paths = {name: PurePosixPath(name) for name in names}
    for name, path in paths.items():
        if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts or "\0" in name:
            raise _unfit(source, f"{name!r} leads out of the archive")
        longest = max(len(part.encode()) for part in path.parts)
        if str(path) != name or longest > _NAME_BYTES or len(name.encode()) > _PATH_BYTES:
            raise _unfit(source, f"{name[:80]!r} is no plain name of a file")
        if below := next((str(parent) for parent in path.parents if str(parent) in paths), None):
            raise _unfit(source, f"{name!r} lies below the file {below!r}")


def _check_end(source: Path, data: "_Watched", offset: int) -> None:
    """Read what is packed to its end, where the packing's own check sum stands; behind the members are only zeros."""
    rest = data.last[len(data.last) - (data.total - offset) :]
    more = data.read(_ZERO_BYTES)
    if (rest + more).strip(b"\0") or data.read(1):
        raise _unfit(source, "something stands behind its last member")


class _Watched:
    """What was unpacked: how much was read of it, and the last of that, which tarfile may have kept to itself."""

    def __init__(self, data: IO[bytes]) -> None:
        self._data, self.total, self.last = data, 0, b""

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        piece = self._data.read(size)
        self.total += len(piece)
        self.last = (self.last + piece)[-2 * tarfile.RECORDSIZE :]
        return piece


def _open(source: Path) -> IO[bytes]:
    """The packed file as what was packed, by its first bytes."""
    with source.open("rb") as raw:
        start = raw.read(6)
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(source, "rb"))
    if start.startswith(b"\xfd7zXZ\0"):
        return lzma.open(source, "rb")
    if start.startswith(b"BZh"):
        return bz2.open(source, "rb")
    if _ZSTD is not None and start.startswith(b"\x28\xb5\x2f\xfd"):
        return cast("IO[bytes]", _ZSTD.open(source, "rb"))
    return source.open("rb")


def _copy(data: IO[bytes], target: Path) -> str:
    hashed = hashlib.sha256()
    with target.open("xb") as file:
        while piece := data.read(_PIECE_BYTES):
            hashed.update(piece)
            file.write(piece)
    return hashed.hexdigest()


def _add(archive: tarfile.TarFile, name: str, size: int, data: IO[bytes]) -> None:
    """One member without owner and time: equal content gives an equal archive."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    archive.addfile(member, data)


def _packing(target: Path) -> str:
    packing = _SUFFIXES.get(target.suffix)
    known = [".tar", *(f".tar.{name}" for name in _SUFFIXES.values() if name and name in tarfile.TarFile.OPEN_METH)]
    if packing is None or (packing or "tar") not in tarfile.TarFile.OPEN_METH:
        raise InputError(
            f"this Python writes no archive called *{target.suffix}",
            where=str(target),
            fix=f"end the name in {', '.join(dict.fromkeys(known))}",
        )
    return packing


def _unfit(source: Path, reason: str) -> InputError:
    return InputError(
        f"the archive is not used: {reason}; nothing was imported", where=str(source), fix="export the version again"
    )
