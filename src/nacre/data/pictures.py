"""Pictures of rows: found beside the data, looked at once, and kept in the memory folder by the hash of their bytes.

In a file of kept rows a picture is its SHA-256 alone, so the same data gives the same rows on every machine; in a row
that was read it is the path of ``images/<sha256>`` in the memory folder that the row came from.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nacre.base.errors import InputError, NacreError
from nacre.base.files import atomic_write, disk_errors
from nacre.base.pictures import is_hash, open_picture, picture_name
from nacre.data.formats.fields import Unusable
from nacre.records import Dropped, Example

IMAGES = "images"
PLACE = "<image>"
_NAMED = re.compile(r'"images":\[([^\]]*)\]')
_FIX = "correct the path; it is looked for in the dataset folder and beside the row's file"


class Pictured(NamedTuple):
    """Rows whose pictures are kept, and those whose pictures cannot be used."""

    rows: list[Example]
    dropped: list[Dropped]


def picture_path(memory: Path, sha256: str) -> Path:
    """Where the picture with this hash is kept."""
    return memory / IMAGES / sha256


def with_pictures(examples: Sequence[Example], dataset_dir: Path, memory: Path) -> Pictured:
    """Keep the pictures of the rows; a row with one that is missing or damaged is set aside.

    Where any row has pictures, a text with a place for one and none to put there is set aside too: the model would be
    shown nothing.

    Raises:
        InputError: there are pictures, and Pillow is not installed.
        NacreError: the disk is full.
    """
    if not any(example.images for example in examples):
        return Pictured(list(examples), [])
    found, known = Pictured([], []), dict[Path, str]()
    for example in examples:
        try:
            found.rows.append(_kept_of(example, dataset_dir, memory, known))
        except Unusable as fault:
            origin, original = example.origin, example.to_json()
            told = {"reason": fault.reason, "remedy": fault.remedy, "original": original}
            found.dropped.append(Dropped(file=origin.file, line=origin.line, **told))
    return found


def _kept_of(example: Example, dataset_dir: Path, memory: Path, known: dict[Path, str]) -> Example:
    if not example.images:
        places = sum(message.content.count(PLACE) for message in example.prompt)
        if places:
            raise Unusable(f"{places} {PLACE} in the texts and no picture", "name the pictures in the column images")
        return example
    folders = (dataset_dir, Path(example.origin.file).parent)
    paths = [_keep(_find(image, folders), image, memory, known) for image in example.images]
    return example.model_copy(update={"images": tuple(paths)})


def _find(image: str, folders: Sequence[Path]) -> Path:
    if "://" in image or image.startswith("data:"):
        raise Unusable("a picture is named by an address, and none is fetched", "save it and name its path")
    found = next((path for folder in folders if (path := folder / image).is_file()), None)
    if found is None:
        raise Unusable(f"the picture '{image}' does not exist", _FIX)
    return found


def _read(path: Path, image: str) -> bytes:
    """The bytes of a picture that was looked at."""
    try:
        data = path.read_bytes()
        open_picture(data)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise Unusable(f"the picture '{image}' cannot be used: {error}", "replace it, or delete the row") from None
    return data


def look_at(example: Example, folders: Sequence[Path], known: set[Path]) -> None:
    """Look at the pictures of a row, but for the `known` ones; nothing is kept.

    Raises:
        Unusable: one of them cannot be used.
    """
    for image in example.images or ():
        path = _find(image, (*folders, Path(example.origin.file).parent))
        if path not in known:
            _read(path, image)
            known.add(path)


def _keep(path: Path, image: str, memory: Path, known: dict[Path, str]) -> str:
    """The path at which the memory keeps the picture."""
    if path not in known:
        data = _read(path, image)
        known[path] = hashlib.sha256(data).hexdigest()
        target = picture_path(memory, known[path])
        if not target.is_file():
            atomic_write(target, data)
        _touch(target)
    return str(picture_path(memory, known[path]))


def in_memory(example: Example, memory: Path) -> Example:
    """The row as a file of kept rows has it: pictures by hash alone, each of them kept in this memory folder.

    Raises:
        NacreError: a picture is nowhere any more.
    """
    if not example.images:
        return example
    for image in example.images:
        name = picture_name(image)
        if is_hash(name) and not picture_path(memory, name).is_file():
            if not Path(image).is_file():
                raise missing_picture(picture_path(memory, name))
            with disk_errors(Path(image)):
                atomic_write(picture_path(memory, name), Path(image).read_bytes())
        elif is_hash(name):
            _touch(picture_path(memory, name))
    return example.model_copy(update={"images": tuple(map(picture_name, example.images))})


def from_memory(example: Example, memory: Path) -> Example:
    """The row with the paths at which its pictures are kept in this memory folder."""
    if not example.images:
        return example
    paths = [str(picture_path(memory, name)) if is_hash(name) else name for name in example.images]
    return example.model_copy(update={"images": tuple(paths)})


def missing_picture(path: Path) -> NacreError:
    """The error for a kept picture that is not there."""
    fix = "restore the memory folder from a backup, or take the snapshot of that increment again"
    return NacreError("a kept picture is missing", where=str(path), fix=fix)


def pictures_of(rows_file: Path) -> set[str]:
    """The hashes of the pictures that the rows of a file have."""
    found: set[str] = set()
    with rows_file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            for names in _NAMED.findall(line) if '"images":[' in line else ():
                found.update(name for name in names.replace('"', "").split(",") if is_hash(name))
    return found


def needed_pictures(memory: Path) -> set[str]:
    """The hashes of the pictures that any file of kept rows has."""
    files = (memory / "rows").glob("*.jsonl")
    return {name for path in files for name in pictures_of(path)}


def forget_pictures(memory: Path) -> int:
    """Delete the pictures that no kept row has any more; returns how many.

    Raises:
        NacreError: one cannot be deleted.
    """
    kept = [path for path in (memory / IMAGES).glob("*") if is_hash(path.name)]
    needed = needed_pictures(memory) if kept else set()
    gone = [path for path in kept if path.name not in needed]
    for path in gone:
        with disk_errors(path):
            path.unlink(missing_ok=True)
    return len(gone)


def _touch(path: Path) -> None:
    with suppress(OSError):  # on a disk that cannot be written nothing is collected either
        os.utime(path)  # whoever collects what nothing needs sees that somebody is about to need it
