"""What retention keeps beyond slots and pins: whole lines, and what somebody is about to need."""

import os
import time

import pytest
from test_retention import OLD_S, _long_lived, place

from nacre.cycle.versions import collect as collecting
from nacre.cycle.versions.verify import verify
from nacre.cycle.workspace import Workspace
from workspace_kit import Place, assert_clear

__all__ = ["_long_lived", "place"]


def again(space: Workspace, number: int, **changes: object) -> int:
    """A version like `number`, under the next number."""
    old = space.ledger.version(number)
    fields = old.model_dump(exclude={"number", "created", "schema_version"})
    return space.ledger.add_version(**fields | {"snapshot": old.snapshot, "recipe": old.recipe} | changes).number


def test_the_whole_line_of_a_merge_stays_by_every_parent(place: Place) -> None:
    with Workspace.open(place.root) as space:
        beside = again(space, 2, parents=(3,))
        merged = again(space, 6, parents=(1, beside))
    place.settings(retention={"versions": 1, "parents": "all"})
    with Workspace.open(place.root) as space:
        assert {merged, 1, beside, 3, 2} <= set(collecting.needed(space).versions)
    place.settings(retention={"versions": 1, "parents": "one"})
    with Workspace.open(place.root) as space:
        assert 3 not in collecting.needed(space).versions


def test_rows_that_somebody_is_about_to_need_stay(place: Place) -> None:
    """A report is put after its rows were written, and nothing holds `gc` back in between."""
    from nacre.data.rows import read_rows, rows_path, write_rows

    place.settings(retention={"versions": 1})
    place.json("rollback", "--to", 1)
    with Workspace.open(place.root) as space:
        again(space, 1)
        needless = space.ledger.version(5).snapshot.train
        assert write_rows(space.memory, read_rows(space.memory, needless)) == needless  # they are there already
        fresh = write_rows(space.memory, read_rows(space.memory, needless) * 3)
    gone = {item["name"] for item in place.json("gc")["goes"] if item["kind"] == "rows"}
    with Workspace.open(place.root) as space:
        assert space.ledger.version(4).snapshot.train.sha256 in gone
        assert rows_path(space.memory, needless.sha256).is_file()
        assert rows_path(space.memory, fresh.sha256).is_file()


def test_rows_under_a_report_on_the_base_model_stay(place: Place) -> None:
    from nacre.data.rows import read_rows, write_rows
    from nacre.records import Report
    from nacre.records.recipe import Decoding

    with Workspace.open(place.root) as space:
        rows = write_rows(space.memory, read_rows(space.memory, space.ledger.version(1).snapshot.train) * 5)
        path = space.memory / "rows" / f"{rows.sha256}.jsonl"
        os.utime(path, (OLD_S, OLD_S))
        scores = {"exact_match": (1.0,) * rows.rows}
        report = Report(
            weights=space.base.identity, task="elsewhere", dev=rows.sha256, rows=rows.rows, metric="exact_match",
            why="x", decoding=Decoding(max_new_tokens=4), scores=scores, totals={}, answers=(),
        )  # fmt: skip
        space.ledger.put_report(report)
    assert place.json("gc")["goes"] == []
    assert path.is_file()


def test_a_collection_while_it_is_verified_is_no_fault(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.settings(retention={"versions": 1})
    with Workspace.open(place.root) as space, Workspace.open(place.root) as other:
        real = space.ledger.evidence.faults

        def slow() -> object:
            assert collecting.collect(other).versions
            return real()

        monkeypatch.setattr(space.ledger.evidence, "faults", slow)
        assert [check for check in verify(space) if check.fault] == []


def test_a_dry_run_enrols_no_webhook(place: Place) -> None:
    import sqlalchemy as sa

    from nacre.registry.tables import follower

    place.settings(notify=[{"url": "http://127.0.0.1:9/x"}])
    place.json("gc", "--dry-run")
    with Workspace.open(place.root) as space, space.ledger._database.read() as connection:
        assert connection.execute(sa.select(follower.c.name)).all() == []


def test_whoever_needs_collected_weights_is_told_of_gc(place: Place) -> None:
    place.settings(retention={"versions": 1})
    place.json("gc")
    for words in (("gate", 6, 3), ("evaluate", 3)):
        assert_clear(place.nacre(*words), "weights of version 3 were removed by nacre gc", "--from 1", code=1)


def test_a_lost_list_of_files_is_a_fault_and_costs_no_memory_file(place: Place) -> None:
    from nacre.base.hashing import content_hash

    with Workspace.open(place.root) as space:
        artifact = space.ledger.version(6).artifact
        hashes = {name: sha for name, sha in space.store.hashes(artifact).items() if name.endswith(".safetensors")}
        kept = space.memory / "importance" / f"fisher-{content_hash(hashes)}.safetensors"
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("x")
        (space.store.root / f"{artifact}.json").unlink()
    assert "its list of files is missing" in place.nacre("verify").out
    place.json("gc")
    assert kept.is_file()


def test_converted_versions_that_nobody_loads_go_after_a_while(place: Place) -> None:
    with Workspace.open(place.root) as space:
        young, old = space.converted / ("a" * 32), space.converted / ("b" * 32)
    for folder in (young, old):
        folder.mkdir(parents=True)
        (folder / "model.bin").write_bytes(b"x" * 1000)
    month = time.time() - 31 * 86_400
    os.utime(old, (month, month))
    told = {item["name"]: item for item in place.json("gc", "--dry-run")["goes"] if item["kind"] == "converted"}
    assert list(told) == [old.name]
    assert told[old.name]["bytes"] == 1000
    assert told[old.name]["why"] == "loaded not within 30 days"
    place.json("gc")
    assert (young.exists(), old.exists()) == (True, False)
    assert place.json("verify")["faults"] == []
