"""Rows leave for good: from every kept file, with everything named that they touched."""

import json

import pytest

from nacre.cycle.rows.forget import forget
from nacre.cycle.rows.wanted import wanted
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows, rows_path
from nacre.registry.forgetting import Forgetting
from workspace_kit import Place, assert_clear, write_lines


def kept(place: Place) -> str:
    """All text that nacre keeps as rows."""
    return "".join(path.read_text() for path in (place.root / ".nacre" / "memory").rglob("*.jsonl"))


def row_in(place: Place, part: str) -> str:
    lines = (place.dataset / "increment_1" / f"{part}.json").read_text().splitlines()
    return json.loads(lines[3])["instruction"]


def test_a_train_row_leaves_and_what_it_touched_is_named(lived_in: Place) -> None:
    asked = row_in(lived_in, "train")
    assert asked in kept(lived_in)
    before = lived_in.json("verify")["checked"]
    dry = lived_in.json("data", "forget", "--pattern", asked, "--dry-run")
    assert asked in kept(lived_in)
    assert dry["event"] is None
    found = lived_in.json("data", "forget", "--pattern", asked, "--why", "asked for by letter")
    assert asked not in kept(lived_in)
    assert found["rows"] == dry["rows"] == 1
    assert list(found["versions"]) == list(dry["versions"]) == ["2"]
    assert found["versions"]["2"][0].startswith("trained on 1 of them: snapshot ")
    assert found["retrain"] == ["version 2: nacre evolve increment_1 --from 1"]
    assert found["datasets"] == ["dataset/increment_1/train.json: line 4"]
    was, now = found["files"][0]["was"], found["files"][0]["now"]
    assert not rows_path(lived_in.root / ".nacre" / "memory", was).exists()
    with Workspace.open(lived_in.root) as space:
        assert len(read_rows(space.memory, now)) == 95
        assert asked not in "".join(event.to_json() for event in space.ledger.events())
    after = lived_in.json("verify")
    assert after["faults"] == []
    assert after["checked"] == before + 1
    assert lived_in.json("data", "forget", "list")["removed"][0]["why"] == "asked for by letter"
    lived_in.nacre("gc")
    assert rows_path(lived_in.root / ".nacre" / "memory", now).exists()
    assert_clear(lived_in.nacre("data", "forget", "--pattern", asked), "no kept row fits", "your own files")


@pytest.mark.slow
def test_what_was_removed_is_not_read_in_again(lived_in: Place) -> None:
    asked = row_in(lived_in, "train")
    lived_in.json("data", "forget", "--pattern", asked)
    found = lived_in.json("evolve", "increment_1", "--from", "1")
    assert found["trained"]
    assert found["snapshot"]["train"]["rows"] == 95
    assert any("removed for good" in note for note in found["notes"]["data"])
    assert asked not in kept(lived_in)
    assert lived_in.json("verify")["faults"] == []


@pytest.mark.slow
def test_a_dev_row_leaves_with_all_that_was_said_about_it(lived_in: Place) -> None:
    asked = row_in(lived_in, "dev")
    found = lived_in.json("data", "forget", "--pattern", asked)
    assert found["retrain"] == []
    assert any("judged by 1 of them" in line for line in found["versions"]["2"])
    assert any("reports were removed" in line for line in found["left"])
    with Workspace.open(lived_in.root) as space:
        was = found["files"][0]["was"]
        assert all(report.dev != was for report in space.ledger.reports(aside=True))
    again = lived_in.json("matrix", "--fill")
    assert again
    with Workspace.open(lived_in.root) as space:
        now = found["files"][0]["now"]
        assert {report.rows for report in space.ledger.reports() if report.dev == now} == {79}
    assert lived_in.json("verify")["faults"] == []


def test_base_rows_touch_every_version_after(lived_in: Place) -> None:
    lines = (lived_in.dataset / "base" / "train.json").read_text().splitlines()
    asked = json.loads(lines[0])["instruction"]
    found = lived_in.json("data", "forget", "--pattern", asked, "--dry-run")
    assert "trained on" in found["versions"]["1"][0]
    assert found["versions"]["2"] == ["could replay them: rows of base"]
    assert found["retrain"] == [
        "version 1: nacre evolve base --from 0",
        "version 2: nacre evolve increment_1 --from the version that takes the place of 1",
    ]


def test_a_removal_that_was_cut_off_is_named_and_ended(lived_in: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = row_in(lived_in, "train")
    real = Forgetting.forget

    def killed(*given, **more):
        real(*given, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, Workspace.open(lived_in.root) as space:
        patch.setattr(Forgetting, "forget", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(space, wanted([], [asked], []))
    assert asked in kept(lived_in)
    faults = lived_in.json("verify", code=1)["faults"]
    assert ["still there" in fault["fault"] for fault in faults] == [True]
    lived_in.json("data", "forget", "finish")
    assert asked not in kept(lived_in)
    assert lived_in.json("verify")["faults"] == []


@pytest.mark.slow
def test_rows_are_found_by_column_and_by_id(fresh: Place) -> None:
    rows = [json.loads(line) for line in (fresh.dataset / "base" / "train.json").read_text().splitlines()]
    write_lines(fresh.dataset / "base" / "train.json", [one | {"user": f"u{k % 4}"} for k, one in enumerate(rows)])
    fresh.json("evolve", "base")
    found = fresh.json("data", "forget", "--where", "user=u3")
    assert found["rows"] == 24
    with Workspace.open(fresh.root) as space:
        left = read_rows(space.memory, found["files"][0]["now"])
    assert {row.origin.extra["user"] for row in left} == {"u0", "u1", "u2"}
    again = fresh.json("data", "forget", "--id", left[0].content_id[:12])
    assert again["rows"] == 1
    assert again["files"][0]["was"] == found["files"][0]["now"]
    assert fresh.json("verify")["faults"] == []


def test_what_cannot_be_asked_is_said(lived_in: Place) -> None:
    assert_clear(lived_in.nacre("data", "forget"), "not said which rows")
    assert_clear(lived_in.nacre("data", "forget", "--pattern", "("), "cannot be read")
    assert_clear(lived_in.nacre("data", "forget", "--pattern", ".*"), "fits every row")
    assert_clear(lived_in.nacre("data", "forget", "--where", "user"), "not COLUMN=VALUE")
    assert_clear(lived_in.nacre("data", "forget", "--id", "nobody-here"), "no kept row fits")


def test_a_task_may_lose_all_its_dev_rows(lived_in: Place) -> None:
    found = lived_in.json("data", "forget", "--where", "file=dev.json", "--where", "task=increment_1")
    assert found["rows"] == 160 + 96  # the dev rows of both tasks, and what increment_1 was taught
    assert sum(line.startswith("no row is left of") for line in found["left"]) == 3
    assert lived_in.json("verify")["faults"] == []
    assert "no task has dev rows" in lived_in.nacre("matrix").err


def test_rows_that_could_not_be_used_leave_by_all_that_names_them(fresh: Place) -> None:
    train = fresh.dataset / "base" / "train.json"
    named = {"instruction": "张三的电话\u2028是多少", "output": "", "user": "u7"}
    long = {"instruction": "x" * 5000 + " 李四", "output": ""}
    also = {"instruction": "who", "output": "", "user": "u8"}
    bad = [
        json.dumps(named),
        json.dumps(named | {"user": "u9"}, ensure_ascii=False),
        json.dumps(long),
        json.dumps(also),
    ]
    train.write_text(train.read_text() + "\n".join(bad) + "\n", encoding="utf-8")
    fresh.settings(data={"drop_budget": 0.2})
    fresh.json("evolve", "base")
    aside = fresh.root / ".nacre" / "memory" / "dropped" / "base.jsonl"
    with Workspace.open(fresh.root) as space:
        snapshot = space.ledger.version(1).snapshot
    assert len(snapshot.dropped) == 4

    found = fresh.json("data", "forget", "--pattern", "张三")
    assert found["rows"] == 0
    assert found["versions"] == {
        "1": [f"has the text of 2 of them, which could not be used: snapshot {snapshot.digest[:12]} (base)"]
    }
    assert found["retrain"] == []
    assert found["datasets"][0].endswith("line 97, 98")
    fresh.json("data", "forget", "--pattern", "李四")
    fresh.json("data", "forget", "--where", "user=u8")
    assert not aside.exists()
    with Workspace.open(fresh.root) as space:
        assert [one.original for one in space.ledger.version(1).snapshot.dropped] == [""] * 4


def test_the_step_leaks_knows_the_dev_rows_of_the_ledger(lived_in: Place) -> None:
    lines = (lived_in.dataset / "increment_1" / "dev.json").read_text().splitlines()
    new = {"instruction": "a question that nobody was ever judged by", "output": "yes"}
    write_lines(lived_in.root / "raw.json", [json.loads(lines[3]), new])
    found = lived_in.json("data", "clean", "raw.json", "--out", "clean.json", "--steps", "leaks")
    assert (found["rows"], found["kept"], found["steps"][0]["dropped"]) == (2, 1, 1)
