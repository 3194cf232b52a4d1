"""Snapshots of the documents: every switch is in the history, can be taken back, and costs few questions a passage."""

import json
from pathlib import Path
from typing import Any

import pytest
from traffic_kit import add_version

from nacre.cycle.rows import knowledge
from nacre.cycle.workspace import Workspace
from nacre.serve.knowledge.snapshots import Snapshots
from questions_kit import people_asked
from workspace_kit import Place, assert_clear, damage_event

OPEN, SEND = "When does the shop open?", "Can goods be sent back?"
HOURS = ("knowledge", "search", OPEN)


@pytest.fixture
def shelf_of(tmp_path: Path) -> Place:
    place = Place(tmp_path / "assistant")
    (place.root / "handbook").mkdir(parents=True)
    (place.root / "nacre.yaml").write_text(json.dumps({"model": "nothing"}))
    _write(place, "hours.txt", "The shop opens at hour 1.\n")
    _write(place, "returns.md", "Goods can be sent back within 30 days.\n")
    assert place.json("knowledge", "add", "handbook")["snapshot"] == 1
    return place


def _write(place: Place, name: str, text: str) -> None:
    (place.root / "handbook" / name).write_text(text, encoding="utf-8")


def _opens_at(place: Place, hour: int, *words: str, code: int = 0) -> Any:
    """The handbook says another hour from now on, and the store is refreshed."""
    _write(place, "hours.txt", f"The shop opens at hour {hour}.\n")
    return place.json("knowledge", "refresh", *words, code=code)


def _history(place: Place) -> list[dict[str, Any]]:
    with Workspace.open(place.root) as space:
        space.ledger.verify_chain()
        return [event.detail | {"actor": event.actor} for event in space.ledger.events() if event.kind == "knowledge"]


def _two_champions(place: Place) -> None:
    """Versions 1 and 2, one after the other; 2 stays."""
    with Workspace.open(place.root) as space:
        for number in (1, 2):
            add_version(space, number)
            space.ledger.promote(number, actor="test", why="start")


def _hour(place: Place) -> str:
    return str(place.json(*HOURS)["passages"][0]["text"]).removeprefix("The shop opens at hour ").rstrip(".")


def test_every_switch_is_in_the_history_with_both_snapshots_and_the_reason(shelf_of: Place) -> None:
    _opens_at(shelf_of, 2, "--actor", "ann", "--why", "summer hours")
    shelf_of.json("knowledge", "rollback", "--actor", "bob", "--why", "it is still spring")
    (shelf_of.root / "more.md").write_text("Parking is free.\n")
    shelf_of.json("knowledge", "add", "more.md")
    shelf_of.json("knowledge", "remove", "more.md")
    found = _history(shelf_of)
    told = [(one["how"], one["before"], one["snapshot"]) for one in found]
    assert told == [("add", None, 1), ("refresh", 1, 2), ("rollback", 2, 1), ("add", 1, 3), ("remove", 3, 4)]
    assert (found[1]["actor"], found[1]["why"]) == ("ann", "summer hours")
    assert (found[2]["actor"], found[2]["why"]) == ("bob", "it is still spring")
    assert all(one["why"] for one in found)


def test_going_back_to_any_snapshot_that_is_kept_and_forward_again(shelf_of: Place) -> None:
    _opens_at(shelf_of, 2)
    _opens_at(shelf_of, 3)
    assert shelf_of.json("knowledge", "rollback", "--to", "1")["snapshot"] == 1
    assert _hour(shelf_of) == "1"
    listed = shelf_of.json("knowledge", "list")["snapshots"]
    assert [(one["snapshot"], one["state"]) for one in listed] == [(3, "aside"), (2, "aside"), (1, "in use")]
    assert shelf_of.json("knowledge", "rollback", "--to", "3")["snapshot"] == 3
    assert _hour(shelf_of) == "3"
    assert_clear(shelf_of.nacre("knowledge", "rollback", "--to", "3"), "in use already")
    assert_clear(shelf_of.nacre("knowledge", "rollback", "--to", "9"), "snapshot 9 is not kept", "1, 2, 3")
    assert _hour(shelf_of) == "3"
    assert [one["snapshot"] for one in _history(shelf_of)] == [1, 2, 3, 1, 3]


def test_the_list_says_what_each_snapshot_holds_since_when_and_how_many_questions_it_answered(shelf_of: Place) -> None:
    people_asked(shelf_of, OPEN, "How do I bake bread?")
    _opens_at(shelf_of, 2)
    new, old = shelf_of.json("knowledge", "list")["snapshots"]
    assert (new["snapshot"], new["state"], new["documents"], new["chunks"]) == (2, "in use", 2, 2)
    assert (old["snapshot"], old["state"], old["how"]) == (1, "before", "add")
    assert new["since"] >= new["created"] > ""
    assert [(one["questions"], one["answered"]) for one in new["asked"]] == [(2, 1)]
    told = shelf_of.nacre("knowledge", "list").out
    assert "in use" in told
    assert "1 of 2" in told


def test_a_snapshot_that_is_left_behind_goes_with_the_next_one(shelf_of: Place) -> None:
    for hour in (2, 3, 4, 5):
        _opens_at(shelf_of, hour)
    store = Snapshots(shelf_of.root / ".nacre" / "knowledge")
    assert store.order() == [5, 4, 3]
    shelf_of.json("knowledge", "rollback", "--to", "3")
    assert (store.order(), store.aside()) == ([3], [5, 4])
    _opens_at(shelf_of, 6)
    assert (store.order(), store.aside()) == ([6, 3], [])
    tables = sorted(path.name for path in (shelf_of.root / ".nacre" / "knowledge").glob("*.lance"))
    assert tables == ["chunks_000003.lance", "chunks_000006.lance"]


def test_documents_that_answer_fewer_questions_are_not_put_to_use(shelf_of: Place) -> None:
    people_asked(shelf_of, OPEN, SEND)
    (shelf_of.root / "handbook" / "returns.md").unlink()
    made = _opens_at(shelf_of, 2, code=3)
    assert (made["snapshot"], made["changed"], made["made"]) == (1, False, 2)
    assert "1 of 2" in made["refused"]
    assert "2 of 2" in made["refused"]
    assert _hour(shelf_of) == "1"
    last = _history(shelf_of)[-1]
    assert (last["how"], last["snapshot"], last["made"], last["refused"]) == ("refused", 1, 2, made["refused"])
    told = shelf_of.nacre("knowledge", "refresh")
    assert told.code == 3
    assert "snapshot 1 stays in use" in told.out
    assert "nacre knowledge rollback --to 3" in told.out
    states = [(one["snapshot"], one["state"]) for one in shelf_of.json("knowledge", "list")["snapshots"]]
    assert states == [(3, "refused"), (1, "in use")]
    assert shelf_of.json("knowledge", "rollback", "--to", "3")["snapshot"] == 3
    assert _hour(shelf_of) == "2"


def test_who_forces_documents_in_is_in_the_history_and_a_small_loss_is_allowed(shelf_of: Place) -> None:
    people_asked(shelf_of, OPEN, SEND)
    (shelf_of.root / "handbook" / "returns.md").unlink()
    made = _opens_at(shelf_of, 2, "--force")
    assert (made["snapshot"], made["changed"], made["refused"]) == (2, True, "")
    last = _history(shelf_of)[-1]
    assert last["how"] == "refresh"
    assert "1 of 2" in last["forced"]
    shelf_of.settings(knowledge={"max_drop": 0.5})
    _write(shelf_of, "hours.txt", "Nothing is said.\n")
    assert shelf_of.json("knowledge", "refresh")["snapshot"] == 3


def test_a_snapshot_that_cannot_be_searched_holds_up_no_other_one(shelf_of: Place) -> None:
    people_asked(shelf_of, OPEN)
    (shelf_of.root / ".nacre" / "knowledge" / "1.npy").unlink()
    made = _opens_at(shelf_of, 2)
    assert made["snapshot"] == 2
    assert any("snapshot 1 cannot be searched" in sentence for sentence in made["told"])


def test_the_weekly_schedule_leaves_the_snapshot_before_in_use_and_says_so(shelf_of: Place) -> None:
    shelf_of.settings(schedule=[{"name": "docs", "every": "week", "do": ["knowledge"]}], knowledge={"target": 0})
    people_asked(shelf_of, OPEN, SEND)
    (shelf_of.root / "handbook" / "returns.md").unlink()
    ran = shelf_of.json("schedule", "run", "docs", code=3)["ran"]["docs"]
    assert (ran["status"], ran["knowledge"]["snapshot"], ran["knowledge"]["made"]) == ("refused", 1, 2)
    assert any("snapshot 1 stays in use" in sentence for sentence in ran["told"])
    assert shelf_of.json("knowledge", "search", SEND)["snapshot"] == 1
    _write(shelf_of, "returns.md", "Goods can be sent back within 60 days.\n")
    ran = shelf_of.json("schedule", "run", "docs")["ran"]["docs"]
    assert (ran["status"], ran["knowledge"]["snapshot"]) == ("done", 3)
    assert _history(shelf_of)[-1]["why"] == "schedule docs"


def test_questions_of_a_file_must_stay_answered_too(shelf_of: Place) -> None:
    entry = {"name": "docs", "every": "week", "do": ["knowledge"], "questions": "must.txt"}
    shelf_of.settings(schedule=[entry], knowledge={"target": 0})
    (shelf_of.root / "must.txt").write_text(f"{SEND}\n")
    (shelf_of.root / "handbook" / "returns.md").unlink()
    ran = shelf_of.json("schedule", "run", "docs", code=3)["ran"]["docs"]
    assert (ran["status"], ran["knowledge"]["snapshot"]) == ("refused", 1)


def test_a_switch_that_was_cut_off_before_its_event_is_written_down_by_the_next_command(
    shelf_of: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(shelf_of, "hours.txt", "The shop opens at hour 2.\n")
    with monkeypatch.context() as patch, Workspace.open(shelf_of.root) as space:
        patch.setattr("nacre.registry.ledger.Ledger.record", _killed)
        with pytest.raises(KeyboardInterrupt):
            knowledge.refresh(space)
    assert [one["snapshot"] for one in _history(shelf_of)] == [1]
    assert "nothing has changed" in shelf_of.nacre("knowledge", "refresh").out
    last = _history(shelf_of)[-1]
    assert (last["how"], last["before"], last["snapshot"]) == ("found", 1, 2)
    assert len(_history(shelf_of)) == 2


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_slots_record_the_documents_and_the_champion_can_be_taken_back_with_them(shelf_of: Place) -> None:
    with Workspace.open(shelf_of.root) as space:
        for number in (1, 2):
            add_version(space, number)
        first = space.ledger.promote(1, actor="test", why="start")
        assert first.detail["documents"] == 1
    _opens_at(shelf_of, 2)
    with Workspace.open(shelf_of.root) as space:
        assert space.ledger.promote(2, actor="test", why="better").detail["documents"] == 2
    for hour in (3, 4, 5, 6):
        _opens_at(shelf_of, hour)
    listed = {one["snapshot"]: one for one in shelf_of.json("knowledge", "list")["snapshots"]}
    assert sorted(listed) == [2, 4, 5, 6], "the one version 1 answered with last is kept beside the last three"
    assert listed[2]["champions"] == [1]
    assert _history(shelf_of)[-1]["champion"] == 2
    told = shelf_of.json("rollback", "--documents", "--why", "both were worse")
    assert (told["champion"], told["documents"]) == (1, {"snapshot": 2, "then": 2})
    assert _hour(shelf_of) == "2"
    last = _history(shelf_of)[-1]
    assert (last["how"], last["before"], last["snapshot"], last["why"]) == ("rollback", 6, 2, "both were worse")
    assert last["champion"] == 1


def test_a_rollback_of_the_champion_leaves_the_documents_and_says_which_it_had(shelf_of: Place) -> None:
    _two_champions(shelf_of)
    _opens_at(shelf_of, 2)
    told = shelf_of.nacre("rollback").out
    assert "the documents stay at snapshot 2" in told
    assert "nacre knowledge rollback --to 1" in told
    assert _hour(shelf_of) == "2"
    assert _history(shelf_of)[-1]["snapshot"] == 2


def test_a_champion_whose_documents_are_gone_is_not_taken_back_half(shelf_of: Place) -> None:
    _two_champions(shelf_of)
    _opens_at(shelf_of, 2)
    (shelf_of.root / ".nacre" / "knowledge" / "1.json").unlink()
    assert_clear(shelf_of.nacre("rollback", "--documents"), "snapshot 1", code=1)
    with Workspace.open(shelf_of.root) as space:
        champion = space.ledger.slot("champion")
        assert champion is not None
        assert champion.version == 2


def test_a_damaged_event_of_the_documents_holds_no_rollback_up(shelf_of: Place) -> None:
    _two_champions(shelf_of)
    with Workspace.open(shelf_of.root) as space:
        damage_event(space, space.ledger.record("knowledge", "ann", {"snapshot": 1}).id)
    assert_clear(shelf_of.nacre("rollback", "--documents"), "cannot be read", code=1)
    assert shelf_of.json("rollback")["champion"] == 1
