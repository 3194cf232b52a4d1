"""A version as one file: what it holds, where it may go, and what is refused."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nacre.base.errors import InputError, NacreError
from nacre.cycle.versions.archive import export_version, import_version
from nacre.cycle.versions.verify import verify
from nacre.cycle.workspace import Workspace
from nacre.registry.archive import LIST, unpacked, write_archive
from workspace_kit import SETTINGS, Place, assert_clear, write_increment


@pytest.fixture(scope="module")
def archives(_lived_in: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version 2 as an archive: bare, with its rows, and with its base model."""
    folder = tmp_path_factory.mktemp("archives")
    found = {name: folder / f"{name}.tar.gz" for name in ("bare", "rows", "base")}
    with Workspace.open(_lived_in.root) as space:
        export_version(space, 2, found["bare"])
        export_version(space, 2, found["rows"], with_rows=True)
        export_version(space, 2, found["base"], with_base=True)
    return found


@pytest.fixture
def other(toy, tmp_path: Path) -> Place:
    """An empty workspace with a copy of the same base model."""
    shutil.copytree(toy.base.model, tmp_path / "model")
    assert Place(tmp_path).nacre("init", "other", "--model", tmp_path / "model").code == 0
    place = Place(tmp_path / "other")
    place.settings(**SETTINGS)
    return place


def whole(place: Place) -> bool:
    with Workspace.open(place.root) as space:
        return not [check for check in verify(space) if check.fault]


def test_it_answers_elsewhere_as_it_did_here(lived_in: Place, other: Place, archives: dict[str, Path]) -> None:
    found = other.json("versions", "import", archives["rows"])
    assert found["version"] == 1
    here, there = lived_in.json("versions", "show", 2), other.json("versions", "show", 1)
    for same in ("artifact", "recipe", "tasks", "environment", "weights", "size_bytes"):
        assert there[same] == here[same]
    assert there["parents"] == []
    assert there["origin"] | {"version": "2", "archive": "rows.tar.gz"} == there["origin"]
    assert [event["kind"] for event in there["events"]] == ["registered", "imported"]
    assert there["slots"] == []
    assert "elsewhere: version 2 of the archive rows.tar.gz" in other.nacre("versions", "show", 1).out
    assert whole(other)
    other.json("promote", 1, "--force")
    assert there["scores"] == {}, "scores that an archive tells of count nowhere"
    assert there["events"][1]["detail"]["scores"] == here["scores"]
    scored = other.json("evaluate")  # on both tasks, with the rows that came along
    assert set(scored["tasks"]) == {"base", "increment_1"}
    before = lived_in.json("evaluate", 2)["tasks"]
    for same in ("weights", "dev", "scores", "answers"):  # seconds and latency were measured anew
        assert {task: found[same] for task, found in scored["tasks"].items()} == {
            task: found[same] for task, found in before.items()
        }


@pytest.mark.slow
def test_it_learns_on_there_without_forgetting(other: Place, archives: dict[str, Path]) -> None:
    other.json("versions", "import", archives["rows"])
    other.json("promote", 1, "--force")
    write_increment(other.dataset, "increment_2", "place")
    other.settings(train={"max_steps": 30})
    found = other.nacre("evolve", "increment_2", "--json").json
    assert set(found["tasks"]) == {"base", "increment_1", "increment_2"}
    assert found["parent"] == 1


def test_without_rows_it_can_be_served_and_says_what_is_missing(other: Place, archives: dict[str, Path]) -> None:
    text = other.nacre("versions", "import", archives["bare"]).out
    assert "base, increment_1: without rows" in text
    assert "its verdict there was pass" in text
    assert "none of that counts here: nacre versions judge 1" in text
    assert whole(other)
    assert other.json("verify")["faults"] == []
    assert other.json("promote", 1, "--force")["detail"]["to"] == 1
    assert_clear(other.nacre("promote", 1), "version 1")


def test_the_base_model_may_come_along(toy, tmp_path: Path, archives: dict[str, Path]) -> None:
    assert Place(tmp_path).nacre("init", "empty", "--model", toy.base.model).code == 0
    place = Place(tmp_path / "empty")
    place.settings(model=str(tmp_path / "new"))
    assert_clear(place.nacre("versions", "import", archives["base"]), "the model path does not exist")
    assert not (place.root / ".nacre" / "artifacts").exists()
    assert_clear(
        place.nacre("versions", "import", archives["bare"], "--base-to", tmp_path / "new"),
        "it does not hold the base model",
    )
    assert place.json("versions", "import", archives["base"], "--base-to", tmp_path / "new")["version"] == 1
    assert (tmp_path / "new" / "model.safetensors").is_file()


def test_another_base_model_is_refused(other: Place, archives: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "model" / "extra.txt").write_text("another model")
    assert_clear(other.nacre("versions", "import", archives["bare"]), "was made from another base model")
    assert nothing_there(other)


def test_an_adapter_takes_what_it_sits_on_along(other: Place, lived_in: Place, tmp_path: Path) -> None:
    with Workspace.open(lived_in.root) as space:
        version = space.ledger.version(2)

        def fill(folder: Path) -> None:
            (folder / "adapter_config.json").write_text("{}")
            (folder / "sub").mkdir()
            (folder / "sub" / "x.txt").write_text("deep")

        sha = space.store.publish(fill)
        fields = version.model_dump(exclude={"number", "created", "schema_version", "artifact", "needs", "kind"})
        space.ledger.add_version(**fields, artifact=sha, needs=version.artifact, kind="adapter")
        export_version(space, 3, tmp_path / "a.tar")
    with Workspace.open(other.root) as space:
        import_version(space, tmp_path / "a.tar")
        assert space.store.names() == sorted([sha, version.artifact])
        assert (space.store.path(sha) / "sub" / "x.txt").read_text() == "deep"
        space.ledger.verify_version(1)


def nothing_there(place: Place) -> bool:
    """Nothing was imported, not by halves either."""
    with Workspace.open(place.root) as space:
        hidden = [path.name for path in space.hidden.iterdir() if path.name.startswith(".import-")]
        rows = list(space.memory.rglob("*.jsonl"))
        return not space.ledger.versions() and not space.store.names() and not hidden and not rows


def members(path: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(path) as archive:
        return [(one, archive.extractfile(one).read()) for one in archive]


def packed(path: Path, held: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, data in held:
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return path


def edited(change: Callable[[dict], None]) -> Callable[[list], None]:
    """A forgery of the list of members."""

    def forge(held: list) -> None:
        told = json.loads(held[0][1])
        change(told)
        text = json.dumps(told).encode()
        held[0][0].size = len(text)
        held[0] = (held[0][0], text)

    return forge


def plain(name: str, data: bytes = b"evil") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member, data


def linked(name: str, target: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def listed(name: str, data: bytes = b"evil", size: int | None = None) -> Callable[[list], None]:
    """A member that the forged list names, so that only its name or kind is wrong."""
    import hashlib

    entry = {"bytes": len(data) if size is None else size, "sha256": hashlib.sha256(data).hexdigest()}
    return edited(lambda told: told["members"].update({name: entry}))


def _flip(held: list) -> None:
    place = next(place for place, (member, _) in enumerate(held) if member.name.endswith("model.safetensors"))
    data = bytearray(held[place][1])
    data[-1] ^= 1
    held[place] = (held[place][0], bytes(data))


def _flip_and_list(held: list) -> None:
    _flip(held)
    import hashlib

    name, data = next((member.name, data) for member, data in held if member.name.endswith("model.safetensors"))
    edited(lambda told: told["members"][name].update(sha256=hashlib.sha256(data).hexdigest()))(held)


def _with(*steps: Callable[[list], None]) -> Callable[[list], None]:
    def forge(held: list) -> None:
        for step in steps:
            step(held)

    return forge


FORGERIES: dict[str, tuple[Callable[[list], None], str]] = {
    "changed file": (_flip, "was changed: its hash is another one"),
    "changed file and list": (_flip_and_list, "are not those that the record names"),
    "a file more": (lambda held: held.append(plain("artifacts/more")), "which its list does not name"),
    "a file twice": (lambda held: held.append(held[1]), "which its list does not name"),
    "a file less": (lambda held: held.pop(), "is missing"),
    "no list": (lambda held: held.pop(0), f"it does not begin with {LIST}"),
    "list is no JSON": (lambda held: held.__setitem__(0, plain(LIST, b"{")), "its list cannot be read"),
    "list lacks its keys": (lambda held: held.__setitem__(0, plain(LIST, b'{"format": 1}')), "cannot be read"),
    "newer format": (edited(lambda told: told.update(format=9)), "the archive has format 9"),
    "record cannot be read": (
        edited(lambda told: told["told"]["version"].update(future=1)),
        "the archive's records cannot be read",
    ),
    "leads out": (
        _with(listed("../../outside.txt"), lambda held: held.insert(1, plain("../../outside.txt"))),
        "leads out of the archive",
    ),
    "absolute": (
        _with(listed("/tmp/nacre-outside.txt"), lambda held: held.insert(1, plain("/tmp/nacre-outside.txt"))),
        "leads out of the archive",
    ),
    "symbolic link": (
        _with(
            listed("artifacts/x", b"", 0),
            lambda held: held.insert(1, linked("artifacts/x", "/etc/passwd", tarfile.SYMTYPE)),
        ),
        "is no plain file",
    ),
    "hard link": (
        _with(
            listed("artifacts/x", b"", 0), lambda held: held.insert(1, linked("artifacts/x", "../x", tarfile.LNKTYPE))
        ),
        "is no plain file",
    ),
    "device": (
        _with(listed("artifacts/x", b"", 0), lambda held: held.insert(1, linked("artifacts/x", "", tarfile.CHRTYPE))),
        "is no plain file",
    ),
    "bomb": (listed("rows/x.jsonl", b"", 50 << 30), "unpack to"),
    "size": (_with(listed("rows/x.jsonl", b"", 7), lambda held: held.append(plain("rows/x.jsonl"))), "its list says 7"),
    "pickle": (
        _with(listed("base/model.bin"), lambda held: held.append(plain("base/model.bin"))),
        "can run code when it is loaded",
    ),
    "rows under another name": (
        _with(listed(f"rows/{'0' * 64}.jsonl"), lambda held: held.append(plain(f"rows/{'0' * 64}.jsonl"))),
        "does not have the hash it is named by",
    ),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_forgeries_are_refused_and_leave_nothing(
    other: Place, archives: dict[str, Path], tmp_path: Path, case: str
) -> None:
    forge, said = FORGERIES[case]
    held = members(archives["bare"])
    forge(held)
    before = set(tmp_path.rglob("*"))
    found = other.nacre("versions", "import", packed(tmp_path / "forged.tar.gz", held))
    assert_clear(found, said)
    assert nothing_there(other)
    more = {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before}
    assert more <= {"forged.tar.gz", "other"}
    assert not Path("/tmp/nacre-outside.txt").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_torn_archive_is_refused(other: Place, archives: dict[str, Path], tmp_path: Path, share: float) -> None:
    data = archives["bare"].read_bytes()
    torn = tmp_path / "torn.tar.gz"
    torn.write_bytes(data[: int(len(data) * share)])
    assert_clear(other.nacre("versions", "import", torn), "the archive is not used")
    assert_clear(other.nacre("versions", "import", tmp_path / "none.tar"), "the archive does not exist")
    (tmp_path / "text.tar").write_text("no archive at all" * 1000)
    assert_clear(other.nacre("versions", "import", tmp_path / "text.tar"), "the archive is not used")
    assert nothing_there(other)


def test_a_full_disk_leaves_nothing(
    other: Place, archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from nacre.registry import archive

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(archive, "_copy", full)
        assert_clear(other.nacre("versions", "import", archives["bare"]), "the disk is full", code=1)
    assert nothing_there(other)
    monkeypatch.setattr(archive, "_add", full)
    with pytest.raises(NacreError, match="the disk is full"):
        write_archive(tmp_path / "x.tar", {}, {})
    assert list(tmp_path.glob(".x.tar*")) == list(tmp_path.glob("x.tar")) == []


def test_exports_are_refused_where_they_would_be_wrong(lived_in: Place, tmp_path: Path) -> None:
    assert_clear(
        lived_in.nacre("versions", "export", 2, tmp_path / "x.rar"), "writes no archive called *.rar", ".tar.gz"
    )
    (tmp_path / "x.tar").write_text("mine")
    assert_clear(lived_in.nacre("versions", "export", 2, tmp_path / "x.tar"), "the file exists already")
    assert (tmp_path / "x.tar").read_text() == "mine"
    weights = Path(lived_in.json("versions", "show", 2)["folder"]) / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"damaged")
    assert_clear(lived_in.nacre("versions", "export", 2, tmp_path / "y.tar"), "model.safetensors was changed", code=1)
    assert not (tmp_path / "y.tar").exists()


def test_equal_content_gives_an_equal_archive_that_can_be_read_back(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    for name in ("one.tar", "other.tar"):
        write_archive(tmp_path / name, {"x": 1}, {"d/a": tmp_path / "a"})
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()
    with unpacked(tmp_path / "one.tar", tmp_path / "there") as (told, files):
        assert told == {"x": 1}
        assert files["d/a"].read_text() == "text"
    assert list((tmp_path / "there").iterdir()) == []
    with pytest.raises(InputError, match="does not exist"), unpacked(tmp_path / "none", tmp_path):
        pass
