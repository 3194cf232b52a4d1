"""`protect: auto` goes on when the gate refuses, says so, and leaves every try in the ledger."""

import pytest

from nacre.data.rows import rows_path
from nacre.train.protect import auto
from nacre.train.protect.auto import Rung
from workspace_kit import Place, write_increment

WEAK = Rung(({"name": "l2", "strength": 1e-6},), "next to nothing is done")
FIRM = Rung(({"name": "replay", "share": 0.4, "order": "forgotten-first"},), "much is replayed")


@pytest.fixture
def place(lived_in: Place) -> Place:
    """Two skills learned, a third to come."""
    write_increment(lived_in.dataset, "increment_2", "place")
    return lived_in


def test_a_refused_increment_is_learned_again_with_more_protection(place: Place, monkeypatch) -> None:
    monkeypatch.setattr(auto, "ALL", (WEAK, FIRM))
    found = place.json("evolve", "increment_2")
    assert (found["version"], found["verdict"], found["promoted"]) == (4, "pass", True)
    (told,) = found["notes"]["protection"]
    assert told.startswith("version 3 was refused (")
    assert "base -" in told
    assert told.endswith("tried again: much is replayed")
    assert any("drawn by the score that the last report saw lost" in note for note in found["notes"]["training"])
    first, second = place.json("versions", "show", 3), place.json("versions", "show", 4)
    assert (first["verdict"]["outcome"], second["verdict"]["outcome"]) == ("fail", "pass")
    assert first["parents"] == second["parents"]

    again = place.json("evolve", "increment_2")
    assert (again["version"], again["trained"]) == (4, False)


@pytest.mark.slow
def test_it_stops_after_the_stated_number_of_tries_and_names_the_best(place: Place, monkeypatch) -> None:
    monkeypatch.setattr(auto, "ALL", (WEAK, Rung(({"name": "l2", "strength": 2e-6},), "hardly more"), FIRM))
    place.settings(keep={"tries": 2})
    found = place.json("evolve", "increment_2", code=3)
    assert found["version"] in (3, 4)
    assert any("was refused too" in note for note in found["notes"]["protection"])
    assert [row["version"] for row in place.json("versions", "list")["versions"]][-1] == 4
    assert place.champion() == 2
    place.settings(keep={"tries": 3})
    found = place.json("evolve", "increment_2")
    assert (found["version"], found["verdict"]) == (5, "pass"), "the tries made before are not made again"


@pytest.mark.slow
def test_a_list_that_the_user_wrote_is_tried_once(place: Place) -> None:
    place.settings(protect=["l2"])
    found = place.json("evolve", "increment_2", code=3)
    assert "protection" not in found["notes"]
    assert found["version"] == 3


@pytest.mark.slow
def test_only_the_kept_share_of_the_rows_outlives_its_increment(fresh: Place) -> None:
    write_increment(fresh.dataset, "increment_1", "feed")
    fresh.settings(keep={"data": 0.25}, protect=["replay"])
    found = fresh.json("evolve", "base")
    assert "keep.data 0.25: 24 of 96 train rows outlive this increment" in found["notes"]["data"]
    snapshot = fresh.json("versions", "show", 1)["snapshot"]
    memory = fresh.root / ".nacre" / "memory"
    assert not rows_path(memory, snapshot["train"]["sha256"]).exists()
    assert len(rows_path(memory, snapshot["kept"]["sha256"]).read_text().splitlines()) == 24
    found = fresh.json("evolve", "increment_1", "--promote", "never")
    assert any("from 24 rows of past tasks (base 24)" in note for note in found["notes"]["training"])


@pytest.mark.slow
def test_with_no_old_rows_auto_protects_without_them_and_says_what_that_costs(fresh: Place) -> None:
    write_increment(fresh.dataset, "increment_1", "feed")
    fresh.settings(keep={"data": 0.0, "tries": 1})
    fresh.nacre("evolve", "base")
    found = fresh.nacre("evolve", "increment_1", "--promote", "never")
    assert found.code in (0, 3)
    assert "no old rows may be kept" in found.out
    rows = (fresh.root / ".nacre" / "memory" / "rows").glob("*.jsonl")
    dev = {fresh.json("versions", "show", number)["snapshot"]["dev"]["sha256"] for number in (1, 2)}
    assert {path.stem for path in rows if path.stat().st_size} == dev


@pytest.mark.slow
def test_without_old_rows_a_refused_increment_is_merged_with_the_version_before(fresh: Place) -> None:
    write_increment(fresh.dataset, "increment_1", "feed")
    fresh.settings(keep={"data": 0.0, "tries": 3}, tune={"name": "freeze", "trainable_layers": 2})
    fresh.nacre("evolve", "base")
    found = fresh.nacre("evolve", "increment_1", "--promote", "never", "--json")
    assert found.code in (3, 4), found  # refused, or undecided: merging gives up too much of what is new to pass
    assert "merged with the version before" in found.json["notes"]["protection"][0]
    tried = [fresh.json("versions", "show", number) for number in (2, 3)]
    assert [entry["name"] for entry in tried[1]["recipe"]["protect"]][-1] == "merge"
    lost = [one["verdict"]["tasks"][0]["drop"] for one in tried]
    assert lost[1] < lost[0], "the firmer list keeps more"
