"""A full disk, a read-only folder, damaged weights, an older ledger, servers behind: each ends as documented."""

import contextlib
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nacre.cycle.workspace import Workspace
from nacre.registry import leases
from nacre.serve.run import LedgerSource, background
from nacre.serve.settings import Serve
from workspace_kit import Place, assert_clear, write_increment

SMALL_MB = 24


@contextlib.contextmanager
def mounted(folder: Path, *words: str) -> Iterator[None]:
    """Mount something at `folder`; skips where this user may not."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount")
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", *words, str(folder)], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is forbidden here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # weights may be mapped into memory still


@pytest.fixture
def small(lived_in: Place, tmp_path: Path) -> Iterator[Place]:
    """The workspace on a disk of its own with a few megabytes."""
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", f"size={SMALL_MB}m", "tmpfs"):
        shutil.copytree(lived_in.root, disk / "assistant")
        yield Place(disk / "assistant")


@pytest.fixture
def read_only(lived_in: Place, tmp_path: Path) -> Iterator[Place]:
    """The workspace on a disk that cannot be written, as root sees it too."""
    view = tmp_path / "view"
    with mounted(view, "--bind", str(lived_in.root)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(view)], check=True)
        yield Place(view)


def fill(place: Place, leave_bytes: int = 0) -> Path:
    """Fill the disk but for so many bytes."""
    filler = place.root.parent / "filler"
    free = shutil.disk_usage(place.root).free - leave_bytes
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while free > 0:
            free -= file.write(b"\0" * min(free, 1 << 16))
    return filler


def test_a_full_disk_ends_every_command_in_one_sentence_and_changes_nothing(small: Place) -> None:
    small.settings(retention={"versions": 1})
    write_increment(small.dataset, "increment_2", "place")
    before = small.json("versions", "list")
    filler = fill(small)
    for words in (("promote", 1, "--force"), ("rollback",), ("versions", "pin", 1), ("evolve", "increment_2")):
        assert_clear(small.nacre(*words), "the disk is full", code=1)
    archive = small.root.parent / "two.tar"
    assert_clear(small.nacre("versions", "export", 2, archive), "the disk is full", code=1)
    assert not archive.exists()
    filler.unlink()
    assert small.json("versions", "list") == before
    assert small.json("verify")["faults"] == []
    assert small.json("promote", 1, "--force")["detail"]["to"] == 1


@pytest.mark.slow
def test_a_disk_that_fills_up_while_training_leaves_the_champion_and_the_same_command_goes_on(small: Place) -> None:
    small.settings(train={"max_steps": 8}, keep={"tries": 1})
    write_increment(small.dataset, "increment_2", "place")
    champion = small.champion()
    filler = fill(small, 400_000)  # room for rows and the ledger, not for weights and checkpoints
    assert_clear(small.nacre("evolve", "increment_2"), "the disk is full", code=1)
    filler.unlink()
    assert small.champion() == champion
    assert small.json("verify")["faults"] == []
    assert small.nacre("evolve", "increment_2", "--json").json["version"] == 3
    assert small.json("verify")["faults"] == []
    small.json("gc")
    assert not [path for path in (small.root / ".nacre" / "artifacts").iterdir() if path.name.startswith(".staging")]


def test_a_read_only_folder_is_one_sentence(read_only: Place, lived_in: Place) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    hidden = lived_in.root / ".nacre"
    before = {path: path.stat().st_mtime_ns for path in hidden.rglob("*") if path.is_file()}
    for words in (
        ("promote", 1, "--force"),
        ("rollback",),
        ("evolve", "increment_2"),
        ("gc",),
        ("versions", "pin", 1),
        ("versions", "import", "x.tar"),
        ("serve", "--port", 0),
    ):
        found = read_only.nacre(*words)
        assert_clear(found, code=1)
        assert "read-only" in found.err or "cannot be opened" in found.err, found.err
    assert {path: path.stat().st_mtime_ns for path in hidden.rglob("*") if path.is_file()} == before
    assert lived_in.json("verify")["faults"] == []


def served(url: str) -> int:
    """The version that answers there."""
    with urllib.request.urlopen(f"{url}/health") as answer:
        return int(json.load(answer)["version"])


def named(url: str) -> set[str]:
    """The names of the versions that answer there."""
    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        return {one["id"] for one in json.load(answer)["data"]}


def until(url: str, version: int, within_s: float = 1.0) -> None:
    started = time.monotonic()
    while served(url) != version:
        assert time.monotonic() - started < within_s, f"{url} did not follow within {within_s} s"
        time.sleep(0.02)


def test_damaged_weights_are_not_promoted_not_served_and_named(lived_in: Place) -> None:
    weights = Path(lived_in.json("versions", "show", 1)["folder"]) / "model.safetensors"
    weights.chmod(0o644)
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert_clear(lived_in.nacre("promote", 1, "--force"), "model.safetensors was changed", code=1)
    assert_clear(lived_in.nacre("rollback"), "model.safetensors was changed", code=1)
    with Workspace.open(lived_in.root) as space:
        source = LedgerSource(space.ledger, space.weights, space.hidden / "secret", space.serving)
        with background(source, Serve(port=0)) as url:
            assert served(url) == 2
            with pytest.MonkeyPatch.context() as patch:  # damaged in the moment between the check and the move
                patch.setattr(space.store, "verify", lambda sha: None)
                space.ledger.promote(1, actor="test", why="x")
            time.sleep(1)
            assert served(url) == 2, "the old version goes on answering"
            weights.write_bytes(whole)  # restored from a backup
            until(url, 1, 10)
    weights.write_bytes(whole[:-1] + b"\0" if whole[-1] else whole[:-1] + b"\1")
    found = lived_in.json("verify", code=1)
    assert [(fault["what"].split(":")[0], fault["versions"]) for fault in found["faults"]] == [("version 1", [1])]
    assert found["touched"] == [1]


def test_a_missing_artifact_touches_all_that_sit_on_it_and_the_slot(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        version = space.ledger.version(2)
        sha = space.store.publish(lambda folder: (folder / "adapter_config.json").write_text("{}"))
        fields = version.model_dump(exclude={"number", "created", "schema_version", "artifact", "needs", "kind"})
        space.ledger.add_version(**fields, artifact=sha, needs=version.artifact, kind="adapter")
        shutil.rmtree(space.store.path(version.artifact))
    found = lived_in.json("verify", code=1)
    assert {fault["what"].split(":")[0]: fault["versions"] for fault in found["faults"]} == {
        "slot champion": [2],
        "version 2": [2, 3],
    }
    assert found["touched"] == [2, 3]
    assert "(touches version 2, 3)" in lived_in.nacre("verify").out


def test_a_slot_that_points_nowhere_is_found(lived_in: Place) -> None:
    with sqlite3.connect(lived_in.root / ".nacre" / "ledger.db") as connection:
        connection.execute("update slot set version = 9 where name = 'champion'")
    connection.close()
    faults = lived_in.json("verify", code=1)["faults"]
    assert any("points to version 9, which is not in the ledger" in fault["fault"] for fault in faults)
    assert any(fault["what"] == "event chain and slots" for fault in faults)


def test_an_older_ledger_is_updated_and_a_copy_is_named(lived_in: Place, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite3.connect(lived_in.root / ".nacre" / "ledger.db") as connection:
        for table in ("follower", "key", "key_use", "release", "review"):
            connection.execute(f"drop table {table}")
        added = {"event": ["kind"], "interaction": ["prompt"], "feedback": ["person", "increment", "why"]}
        for table, columns in added.items():
            for column in columns:
                connection.execute(f"drop index if exists ix_{table}_{column}")
                connection.execute(f"alter table {table} drop column {column}")
        connection.execute("update nacre_meta set value = '1'")
    connection.close()
    with caplog.at_level(logging.WARNING):
        assert lived_in.champion() == 2
    assert "ledger.db.schema-1" in caplog.text
    assert (lived_in.root / ".nacre" / "ledger.db.schema-1").is_file()
    assert lived_in.json("verify")["faults"] == []


def _held(space: Workspace) -> list[tuple[int, ...]]:
    """The versions that each running server holds."""
    return sorted(server.versions for server in leases.held(space.serving)[0])


def test_two_servers_of_different_generation_follow_within_a_second(lived_in: Place) -> None:
    with contextlib.ExitStack() as open_:
        spaces = [open_.enter_context(Workspace.open(lived_in.root)) for _ in range(3)]
        sources = [LedgerSource(one.ledger, one.weights, one.hidden / "secret", one.serving) for one in spaces]
        first = open_.enter_context(background(sources[0], Serve(port=0)))
        assert served(first) == 2
        elsewhere = spaces[2].ledger
        for why in ("one", "two"):  # the ledger goes on: the second server begins at a later generation
            elsewhere.rollback(actor="test", why=why)
            elsewhere.promote(2, actor="test", why=why)
        second = open_.enter_context(background(sources[1], Serve(port=0)))
        assert served(second) == 2
        for url in (first, second):
            while "nacre:previous-1" not in named(url):  # the champion before stays loaded, behind the champion
                time.sleep(0.02)
        assert _held(spaces[0]) == [(1, 2), (1, 2)]
        elsewhere.rollback(actor="test", why="bad answers")
        started = time.monotonic()
        for url in (first, second):
            until(url, 1, 1.0 - (time.monotonic() - started))
        started = time.monotonic()
        while _held(spaces[0]) != [(1,), (1,)]:
            assert time.monotonic() - started < 30, "what was taken back stays loaded"
            time.sleep(0.02)
    assert leases.held(lived_in.root / ".nacre" / "serving") == ([], [])
