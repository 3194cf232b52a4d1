"""`nacre evolve`: what it trains, judges, promotes and holds, and what it says."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workspace_kit import Place, assert_clear, rows, write_increment, write_lines

if TYPE_CHECKING:
    from toy_kit import Toy

FIELDS = {
    "version",
    "parent",
    "snapshot",
    "tasks",
    "matrix",
    "average_accuracy",
    "bwt",
    "forgetting",
    "verdict",
    "train_seconds",
    "evaluate_seconds",
    "peak_rss_bytes",
}
TASK_FIELDS = {"before", "after", "drop", "interval", "margin", "verdict"}


def reckless(place: Place) -> None:
    """Settings under which the old skill is lost."""
    place.settings(protect="none", train={"epochs": 10, "learning_rate": 1e-2})


def test_an_increment_is_learned_and_the_old_skill_kept(lived_in: Place) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    found = lived_in.json("evolve", "increment_2")
    assert set(found) >= FIELDS
    assert (found["version"], found["parent"], found["verdict"], found["promoted"]) == (3, 2, "pass", True)
    assert all(set(task) >= TASK_FIELDS for task in found["tasks"].values())
    assert {name: task["verdict"] for name, task in found["tasks"].items()} == {
        "base": "pass",
        "increment_1": "pass",
        "increment_2": "new",
    }
    for name in ("base", "increment_1"):
        task = found["tasks"][name]
        assert task["drop"] == task["before"] - task["after"]
        assert -0.1 < task["interval"][0] <= task["drop"] <= task["interval"][1] < 0.1
    assert found["tasks"]["increment_2"]["after"] > 0.9 > found["tasks"]["increment_2"]["before"]
    assert found["average_accuracy"] > 0.9
    assert found["bwt"] > -0.05
    assert found["forgetting"] < 0.05
    assert found["snapshot"]["task"] == "increment_2"
    assert found["train_seconds"] > 0
    assert found["evaluate_seconds"] > 0
    assert found["peak_rss_bytes"] > 50_000_000
    assert lived_in.champion() == 3
    assert not any((lived_in.root / ".nacre" / "runs").glob("*")), "the finished run left its checkpoints"


def test_the_same_data_again_does_nothing_and_says_so(lived_in: Place) -> None:
    before = (lived_in.root / ".nacre" / "ledger.db").read_bytes()
    found = lived_in.nacre("evolve", "increment_1")
    assert found.code == 0
    assert "nothing to do: version 2 has learned exactly these rows" in found.out
    assert "version 2: the gate passed it; it is in use" in found.out
    again = lived_in.json("evolve", "increment_1")
    assert (again["version"], again["trained"], again["promoted"], again["verdict"]) == (2, False, True, "pass")
    assert set(again) >= FIELDS
    assert len(lived_in.json("versions", "list")["versions"]) == 2
    assert (lived_in.root / ".nacre" / "ledger.db").read_bytes() == before


def test_changed_data_makes_a_new_version(lived_in: Place) -> None:
    path = lived_in.dataset / "increment_1" / "train.json"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    found = lived_in.json("evolve", "increment_1")
    assert (found["version"], found["parent"], found["trained"]) == (3, 2, True)
    assert found["tasks"]["increment_1"]["verdict"] == "pass", "a skill that is trained again is still a kept one"


def test_other_settings_for_the_same_data_are_pointed_out(lived_in: Place) -> None:
    lived_in.settings(train={"learning_rate": 4e-3})
    found = lived_in.json("evolve", "increment_1")
    assert not found["trained"]
    assert "it was trained with other settings; --from 1 trains these rows anew" in found["notes"]["training"][1]
    anew = lived_in.json("evolve", "increment_1", "--from", 1)
    assert (anew["version"], anew["parent"], anew["trained"]) == (3, 1, True)


def test_the_gate_refuses_a_version_that_forgot(lived_in: Place) -> None:
    reckless(lived_in)
    write_increment(lived_in.dataset, "increment_2", "place")
    found = lived_in.nacre("evolve", "increment_2")
    assert found.code == 3
    assert "version 3: the gate refused it; not promoted" in found.out
    assert lived_in.champion() == 2
    again = lived_in.json("evolve", "increment_2", code=3)
    assert (again["version"], again["trained"], again["verdict"]) == (3, False, "fail")
    assert "nothing to train: version 3 was trained on exactly these rows" in again["notes"]["training"][0]
    assert again["tasks"]["base"]["verdict"] == "fail"
    assert again["bwt"] < -0.3

    assert_clear(lived_in.nacre("promote", 3), "the gate did not pass version 3: fail", "--force")
    assert lived_in.champion() == 2
    event = lived_in.json("promote", 3, "--force", "--why", "we need it today", "--actor", "ada")
    assert (event["actor"], event["detail"]["why"]) == ("ada", "we need it today (gate overruled: fail)")
    assert lived_in.champion() == 3
    forced = lived_in.json("evolve", "increment_2")
    assert (forced["verdict"], forced["promoted"], forced["trained"]) == ("fail", True, False)


@pytest.mark.slow
def test_a_larger_margin_for_one_task_lets_its_loss_pass(lived_in: Place) -> None:
    reckless(lived_in)
    write_increment(lived_in.dataset, "increment_2", "place")
    lived_in.settings(keep={"max_drop": 1.0, "tasks": {"base": 0.05, "bse": 0.1}})
    found = lived_in.json("evolve", "increment_2", code=3)
    assert found["tasks"]["base"]["verdict"] == "fail"
    assert (found["tasks"]["base"]["margin"], found["tasks"]["increment_1"]["margin"]) == (0.05, 1.0)
    assert found["tasks"]["increment_1"]["verdict"] == "pass"
    assert any("'bse', which is not a kept task: ignored; did you mean 'base'?" in n for n in found["notes"]["gate"])

    lived_in.settings(keep={"tasks": {"base": 1.0}})
    judged_again = lived_in.json("evolve", "increment_2")
    assert (judged_again["version"], judged_again["trained"], judged_again["promoted"]) == (3, False, True)


@pytest.mark.slow
def test_too_few_dev_rows_are_undecided_and_held(fresh: Place) -> None:
    write_increment(fresh.dataset, "base", "paint", dev=6)
    write_increment(fresh.dataset, "increment_1", "feed", dev=6)
    fresh.json("evolve", "base")
    found = fresh.nacre("evolve", "increment_1")
    assert found.code == 4
    assert "held as a candidate until there are about" in found.out
    task = fresh.json("evolve", "increment_1", code=4)["tasks"]["base"]
    assert task["verdict"] == "undecided"
    assert task["more_rows"] > 0
    assert fresh.champion() == 1
    assert_clear(fresh.nacre("promote", 2), "the gate did not pass version 2: undecided")


@pytest.mark.slow
def test_promote_never_holds_a_version_that_passed(lived_in: Place) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    held = lived_in.nacre("evolve", "increment_2", "--promote", "never")
    assert held.code == 0
    assert "version 3: the gate passed it; held as a candidate: nacre promote 3 makes it champion" in held.out
    assert lived_in.champion() == 2
    taken_up = lived_in.json("evolve", "increment_2")
    assert (taken_up["version"], taken_up["trained"], taken_up["promoted"]) == (3, False, True)
    assert lived_in.champion() == 3


def test_a_version_that_was_rolled_back_is_not_promoted_again_by_itself(lived_in: Place) -> None:
    assert lived_in.json("rollback")["champion"] == 1
    found = lived_in.json("evolve", "increment_1")
    assert (found["version"], found["trained"], found["promoted"]) == (2, False, False)
    assert found["notes"]["training"][1].startswith("it was champion once and is not promoted again by itself: nacre")
    assert lived_in.champion() == 1


@pytest.mark.slow
def test_the_champions_tasks_are_kept_even_by_a_version_that_never_learned_them(lived_in: Place) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    found = lived_in.json("evolve", "increment_2", "--from", 1, code=3)
    assert found["parent"] == 1
    assert found["tasks"]["increment_1"]["verdict"] == "fail"
    assert found["tasks"]["base"]["verdict"] == "pass"
    assert lived_in.champion() == 2


def test_training_can_start_from_the_base_model_again(lived_in: Place) -> None:
    lived_in.settings(keep={"max_drop": 1.0}, train={"epochs": 1})
    write_increment(lived_in.dataset, "increment_2", "place")
    found = lived_in.json("evolve", "increment_2", "--from", 0)
    assert found["parent"] is None
    assert set(found["tasks"]) == {"base", "increment_1", "increment_2"}
    assert lived_in.json("versions", "show", 3)["parents"] == []


def test_dev_rows_of_the_champion_are_never_trained_on(lived_in: Place) -> None:
    dev = [json.loads(line) for line in (lived_in.dataset / "increment_1" / "dev.json").read_text().splitlines()]
    write_lines(lived_in.dataset / "increment_2" / "train.json", [*dev[:30], *rows("place")[:60]])
    write_lines(lived_in.dataset / "increment_2" / "dev.json", rows("place")[60:120])
    lived_in.settings(keep={"max_drop": 1.0}, train={"epochs": 1})
    found = lived_in.nacre("evolve", "increment_2", "--from", 1, "--json").json
    assert found["snapshot"]["train"]["rows"] == 60
    assert any("30 train rows equal dev rows of earlier increments" in note for note in found["notes"]["data"]), found


@pytest.mark.slow
def test_rows_that_are_dev_rows_now_are_not_replayed(lived_in: Place) -> None:
    learned = [json.loads(line) for line in (lived_in.dataset / "base" / "train.json").read_text().splitlines()]
    write_lines(lived_in.dataset / "increment_2" / "train.json", rows("place")[:60])
    write_lines(lived_in.dataset / "increment_2" / "dev.json", learned[:40])
    lived_in.settings(train={"max_steps": 5})
    notes = lived_in.nacre("evolve", "increment_2", "--promote", "never", "--json").json["notes"]["training"]
    assert any(note.startswith("40 kept rows are dev rows now and are not replayed") for note in notes), notes
    assert any(f"base {len(learned) - 40}" in note for note in notes if note.startswith("replay")), notes


def test_a_skill_without_dev_rows_is_learned_and_named(lived_in: Place) -> None:
    write_lines(lived_in.dataset / "increment_2" / "train.json", rows("place")[:12])
    lived_in.settings(keep={"max_drop": 1.0}, train={"max_steps": 5})
    found = lived_in.json("evolve", "increment_2")
    assert "increment_2 has no dev rows: it cannot be proved that it is learned" in found["notes"]["scoring"]
    write_increment(lived_in.dataset, "increment_3", "place")
    later = lived_in.json("evolve", "increment_3")
    assert "increment_2 has no dev rows: it cannot be proved that it is kept" in later["notes"]["scoring"]


def test_a_wrong_way_of_scoring_is_found_before_training(lived_in: Place) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    lived_in.settings(evaluate={"tasks": {"increment_2": {"metric": "exact_mach"}}})
    assert_clear(lived_in.nacre("evolve", "increment_2"), "unknown metric 'exact_mach'", "did you mean 'exact_match'?")
    assert not (lived_in.root / ".nacre" / "runs").exists()
    scoring = {"tasks": {"increment_2": {"metric": "token_f1"}, "increment_22": {"metric": "bleu"}}}
    lived_in.settings(evaluate=scoring, train={"max_steps": 5}, keep={"max_drop": 1.0})
    found = lived_in.json("evolve", "increment_2")
    assert any("'increment_22', which is no task" in note for note in found["notes"]["scoring"])
    scored = lived_in.json("evaluate")["tasks"]["increment_2"]
    assert scored["metric"] == "token_f1"


def test_another_base_model_under_the_same_ledger_is_refused(lived_in: Place, toy: "Toy") -> None:
    other = lived_in.root.parent / "other"
    shutil.copytree(toy.base.model, other)
    with (other / "config.json").open("a") as file:
        file.write("\n")
    lived_in.settings(model=str(other))
    write_increment(lived_in.dataset, "increment_2", "place")
    assert_clear(lived_in.nacre("evolve", "increment_2"), "version 2 was made from another base model", "key model")
    faults = lived_in.json("verify", code=1)["faults"]
    assert [fault["what"] for fault in faults] == [f"base model {other}"]


@pytest.mark.slow
def test_adapters_go_on_with_the_one_before_and_sit_on_the_base(fresh: Place) -> None:
    fresh.settings(
        tune={"name": "lora", "rank": 8}, train={"learning_rate": 2e-2, "max_steps": 10}, keep={"max_drop": 1.0}
    )
    fresh.json("evolve", "base")
    write_increment(fresh.dataset, "increment_1", "feed")
    found = fresh.json("evolve", "increment_1")
    shown = fresh.json("versions", "show", 2)
    assert (found["promoted"], shown["kind"], shown["needs"], shown["parents"]) == (True, "adapter", "", [1])
    assert sorted(path.name for path in Path(shown["folder"]).glob("*.safetensors")) == ["adapter_model.safetensors"]
    assert fresh.json("verify")["faults"] == []
