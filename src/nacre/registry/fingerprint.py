"""Identity of a base model: the hash of what decides its answers, remembered by size and time of each file."""

import json
from pathlib import Path

from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.base.hashing import content_hash, sha256_file

KINDS = (".json", ".safetensors", ".model", ".jinja", ".txt")


def fingerprint(folder: Path, cache: Path) -> str:
    """SHA-256 over names and bytes of a model folder's weights, configuration and tokenizer files.

    Args:
        folder: the model, in Hugging Face layout.
        cache: JSON file that remembers hashes of files whose size and modification time have not changed,
            because reading a large model takes minutes.

    Raises:
        InputError: the folder holds no such file.
    """
    return content_hash(file_hashes(folder, cache))


def file_hashes(folder: Path | str, cache: Path) -> dict[str, str]:
    """SHA-256 of each file that decides a model's answers, by name. Arguments and errors as of `fingerprint`."""
    folder = Path(folder)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in KINDS)
    if not files:
        raise InputError("the folder holds no model files", where=str(folder), fix="name a Hugging Face folder")
    known: dict[str, str] = json.loads(cache.read_text()) if cache.exists() else {}
    marks = {path.name: f"{path.resolve()}|{path.stat().st_size}|{path.stat().st_mtime_ns}" for path in files}
    hashes = {path.name: known.get(marks[path.name]) or sha256_file(path) for path in files}
    fresh = {marks[name]: value for name, value in hashes.items()}
    if not fresh.items() <= known.items():
        atomic_write(cache, json.dumps(known | fresh, indent=1))
    return hashes
