"""One file that holds folders and files with their hashes: written whole or not at all, and read with distrust.

A tar archive whose first member lists every other one with its size and SHA-256. When it is read, nothing counts but
that list: a member that is not on it, is no plain file, or has another size or hash ends the reading.
"""

import hashlib
import io
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import orjson

from nacre.base.errors import InputError
from nacre.base.files import disk_errors, fsync_folder
from nacre.base.hashing import canonical_json, sha256_file
from nacre.registry.scratch import IMPORT, scratch

LIST = "nacre-archive.json"
FORMAT = 1
_LIST_BYTES = 256_000_000
_PIECE_BYTES = 1 << 20
_ALWAYS_BYTES = 1 << 30  # below this an archive may be as well packed as it likes
_RATIO = 100  # weights do not compress; what unpacks to more than so many times its size is no honest archive
_SUFFIXES = {".tar": "", ".gz": "gz", ".tgz": "gz", ".xz": "xz", ".bz2": "bz2", ".zst": "zst"}


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
        with tarfile.open(source, "r|*") as archive:  # as a stream: no member is looked at before it is checked
            head = _head(archive, source)
            members: dict[str, dict[str, Any]] = head["members"]
            _check_room(source, members, folder)
            found: dict[str, Path] = {}
            while member := archive.next():
                if member.name not in members or member.name in found:
                    raise _unfit(source, f"it holds {member.name!r}, which its list does not name")
                found[member.name] = _take(archive, member, members[member.name], source, folder)
    except InputError:
        raise
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _unfit(source, f"it cannot be read to its end ({error})") from None
    except (KeyError, TypeError, ValueError):
        raise _unfit(source, "its list cannot be read") from None
    missing = sorted(set(members) - set(found))
    if missing:
        raise _unfit(source, f"{missing[0]!r} is missing")
    return head["told"], found


def _take(
    archive: tarfile.TarFile, member: tarfile.TarInfo, wanted: Mapping[str, Any], source: Path, folder: Path
) -> Path:
    """Write one member below `folder`, if it is what the list says."""
    if not member.isreg():
        raise _unfit(source, f"{member.name!r} is no plain file")
    if member.size != wanted["bytes"]:
        raise _unfit(source, f"{member.name!r} has {member.size} bytes, its list says {wanted['bytes']}")
    target = folder / _inside(source, member.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    data = archive.extractfile(member)
    if data is None or _copy(data, target) != wanted["sha256"]:
        raise _unfit(source, f"{member.name!r} was changed: its hash is another one")
    return target


def _head(archive: tarfile.TarFile, source: Path) -> dict[str, Any]:
    member = archive.next()
    if member is None or member.name != LIST or not member.isreg() or member.size > _LIST_BYTES:
        raise _unfit(source, f"it does not begin with {LIST}")
    data = archive.extractfile(member)
    head: dict[str, Any] = orjson.loads(data.read() if data else b"")
    if head["format"] != FORMAT:
        raise InputError(
            f"the archive has format {head['format']}; this nacre reads {FORMAT}",
            where=str(source),
            fix="use the nacre that wrote it, or a newer one",
        )
    return head


def _check_room(source: Path, members: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Refuse what would fill the disk, before a byte is unpacked."""
    wanted = sum(int(member["bytes"]) for member in members.values())
    packed = source.stat().st_size
    if any(member["bytes"] < 0 for member in members.values()) or wanted > max(_ALWAYS_BYTES, _RATIO * packed):
        raise _unfit(source, f"it says that its {packed} bytes unpack to {wanted}")
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise InputError(
            f"the archive unpacks to {wanted} bytes, and {free} are free", where=str(folder), fix="free some space"
        )


def _inside(source: Path, name: str) -> PurePosixPath:
    """A name that leads to a place below the folder it is unpacked in."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts or "\0" in name:
        raise _unfit(source, f"{name!r} leads out of the archive")
    return path


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
