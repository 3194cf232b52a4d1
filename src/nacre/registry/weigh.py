"""What a folder of weights holds: bytes on disk, and parameters, read from the heads of its safetensors files."""

import math
from collections.abc import Mapping
from pathlib import Path

import orjson

from nacre.base.hashing import content_hash

_HEAD_BYTES = 100_000_000  # no head is longer; a number beyond this is no head


def folder_bytes(folder: Path) -> int:
    """Bytes of every file below `folder`, or of the file itself; 0 where there is nothing."""
    if folder.is_file():
        return folder.stat().st_size
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def parameters(folder: Path) -> int:
    """Numbers in the safetensors files below `folder`, counted from their heads; a file that is none counts nothing."""
    return sum(_parameters(path) for path in sorted(folder.rglob("*.safetensors")))


def weights_hash(files: Mapping[str, str]) -> str:
    """One hash over the safetensors files among `files` (names to hashes); empty where there are none."""
    found = {name: sha for name, sha in files.items() if name.endswith(".safetensors")}
    return content_hash(found) if found else ""


def _parameters(path: Path) -> int:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length < _HEAD_BYTES else b""
    try:
        head = orjson.loads(text)
        return sum(math.prod(tensor["shape"]) for name, tensor in head.items() if name != "__metadata__")
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        return 0
