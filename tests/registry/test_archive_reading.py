"""Archives that were made to harm: each is refused with a sentence, in little memory, and leaves nothing."""

import bz2
import gzip
import hashlib
import io
import json
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nacre.base.errors import InputError
from nacre.registry.archive import LIST, unpacked, write_archive


def made(path: Path, head: object, *members: tuple[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in ((LIST, json.dumps(head).encode()), *members):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def head(*members: tuple[str, bytes]) -> dict[str, object]:
    entries = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in members}
    return {"format": 1, "told": {}, "members": entries}


def refused(path: Path, said: str) -> None:
    beside = path.parent / "beside"
    with pytest.raises(InputError, match=said) as caught, unpacked(path, beside):
        pass
    assert "nothing was imported" in caught.value.what
    assert list(beside.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": 1, "members": {}},
        {"format": 1, "told": "x", "members": {}},
        {"format": 1, "told": {}, "members": []},
        {"format": 1, "told": {}, "members": {"x": "y"}},
        {"format": 1, "told": {}, "members": {"x": {"bytes": -1, "sha256": "0" * 64}}},
        {"format": 1, "told": {}, "members": {"x": {"bytes": "1", "sha256": "0" * 64}}},
        {"format": 1, "told": {}, "members": {"x": {"bytes": 1, "sha256": "../x"}}},
        [],
        None,
    ],
)
def test_a_list_of_another_form(tmp_path: Path, wrong: object) -> None:
    refused(made(tmp_path / "a.tgz", wrong), "its list cannot be read")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("x", "x/y"), "lies below the file 'x'"),
        (("x/y/z", "x"), "lies below the file 'x'"),
        (("a/./x", "a/x"), "is no plain name"),
        (("a//x",), "is no plain name"),
        (("n" * 201,), "is no plain name"),
        (("/".join("d" * 100 for _ in range(20)),), "is no plain name"),
        (("../x",), "leads out"),
        (("",), "leads out"),
    ],
)
def test_names_that_are_no_place_of_their_own(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    members = [(name, b"1") for name in names]
    refused(made(tmp_path / "a.tgz", head(*members), *members), said)


def _wrong_sum(data: bytes) -> bytes:
    return data[:-6] + bytes([data[-6] ^ 255]) + data[-5:]


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "wrong check sum": ("w:gz", _wrong_sum),
    "text behind the packing": ("w:gz", lambda data: data + b"text"),
    "more packed behind": ("w:gz", lambda data: data + gzip.compress(b"more")),
    "many zeros behind": ("w:gz", lambda data: data + gzip.compress(b"\0" * (3 << 20))),
    "bzip2 changed": ("w:bz2", lambda data: data[: len(data) // 2] + b"\0" * 20 + data[len(data) // 2 + 20 :]),
    "bzip2 and more": ("w:bz2", lambda data: data + bz2.compress(b"more")),
    "xz changed": ("w:xz", lambda data: data[: len(data) // 2] + b"\0" * 20 + data[len(data) // 2 + 20 :]),
    "text behind a plain one": ("w:", lambda data: data + b"text"),
    "text within its last block": ("w:", lambda data: data[:-4] + b"text"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_and_what_stands_behind(tmp_path: Path, case: str) -> None:
    mode, damage = DAMAGE[case]
    member = ("x", bytes(range(256)) * 40)
    path = made(tmp_path / "a", head(member), member, mode=mode)
    with unpacked(path, tmp_path / "beside") as (_, files):
        assert files["x"].read_bytes() == member[1]
    path.write_bytes(damage(path.read_bytes()))
    refused(path, "cannot be read to its end|stands behind its last member")


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K", b"X"])
def test_a_header_that_would_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    size, piece = 200 << 20, b"\0" * (1 << 20)
    path = tmp_path / "bomb.tgz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        member = tarfile.TarInfo("././@PaxHeader")
        member.type, member.size = kind, size
        packed.write(member.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(size // len(piece)):
            packed.write(piece)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "a header of 209715200 bytes")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_files_with_holes_and_endless_headers(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("x")
    sparse.type = tarfile.GNUTYPE_SPARSE
    (tmp_path / "sparse.tar").write_bytes(sparse.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 1024)
    refused(tmp_path / "sparse.tar", "a file with holes")
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    (tmp_path / "deep.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 5000)
    refused(tmp_path / "deep.tar", "cannot be read to its end")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
def test_what_was_written_is_read_by_its_content_not_its_name(tmp_path: Path, name: str) -> None:
    long = f"artifacts/{'a' * 64}/{'long' * 40}.json"
    (tmp_path / "f").write_text("text")
    write_archive(tmp_path / name, {"x": "是"}, {long: tmp_path / "f"})
    (tmp_path / name).rename(tmp_path / "renamed")
    with unpacked(tmp_path / "renamed", tmp_path / "beside") as (told, files):
        assert (told, files[long].read_text()) == ({"x": "是"}, "text")
