"""`nacre compress`: the child version it registers, what it measures, and what the gate says of it."""

import json
from pathlib import Path

import pytest

from nacre.cycle.workspace import Workspace
from nacre.model.load import load_model
from nacre.model.smaller.pruned import zeros_of
from workspace_kit import Place, assert_clear, write_increment


def artifact(place: Place, number: int) -> Path:
    with Workspace.open(place.root) as space:
        return space.store.path(space.ledger.version(number).artifact)


def test_int8_is_a_child_version_that_the_gate_judged(lived_in: Place) -> None:
    found = lived_in.json("compress", 2, "--to", "int8")
    assert (found["version"], found["parent"], found["verdict"], found["promoted"]) == (3, 2, "pass", True)
    assert {name: task["verdict"] for name, task in found["tasks"].items()} == {"base": "pass", "increment_1": "pass"}
    assert found["compressed"] == {"to": "int8", "method": "weight-only", "keep": 1.0, "heal": 0.0}
    assert found["after"]["size_bytes"] < found["before"]["size_bytes"]
    assert found["size_ratio"] == found["after"]["size_bytes"] / found["before"]["size_bytes"]
    assert found["after"]["perplexity"] == pytest.approx(found["before"]["perplexity"], rel=0.05)
    assert found["after"]["perplexity"] != found["before"]["perplexity"]
    assert min(found[side]["tokens_s"] for side in ("before", "after")) > 0
    assert min(found[side]["first_token_s"] for side in ("before", "after")) > 0
    assert found["same_tokens"] >= found["same_answers"] > 0.98
    shown = lived_in.json("versions", "show", 3)
    assert (shown["kind"], shown["parents"], shown["tasks"]) == ("int8", [2], ["base", "increment_1"])
    assert shown["compressed"]["after"]["size_bytes"] == found["after"]["size_bytes"]
    assert shown["scores"].keys() == {"base", "increment_1"}
    assert lived_in.champion() == 3
    assert lived_in.nacre("verify").code == 0
    assert not any((lived_in.root / ".nacre" / "runs").glob("*"))
    report = lived_in.json("report", 3)
    assert any(note.startswith("size ") for note in report["notes"]["smaller"])

    said = lived_in.nacre("compress", 2, "--to", "int8")
    assert said.code == 0
    assert "nothing to make: version 3 was made from version 2 in exactly this way" in said.out
    assert "weights on disk" in said.out
    assert len(lived_in.json("versions", "list")["versions"]) == 3

    write_increment(lived_in.dataset, "increment_2", "place")
    assert_clear(lived_in.nacre("evolve", "increment_2"), "version 3 is held in int8", "--from 2")
    assert_clear(lived_in.nacre("compress", 3, "--to", "int4"), "version 3 is held in int8 already", "compress 2")
    again = lived_in.json("reproduce", 3, code=3)
    assert "nacre compress 2 --to int8 makes it again" in again["reasons"][0]
    on = lived_in.json("evolve", "increment_2", "--from", 2)
    assert (on["version"], on["parent"], on["verdict"]) == (4, 2, "pass")


def test_a_pruned_version_is_healed_and_its_zeros_stay(lived_in: Place) -> None:
    found = lived_in.json("compress", 2, "--to", "pruned")
    assert found["compressed"] == {"to": "pruned", "method": "wanda", "keep": 0.8, "heal": 1.0}
    assert (found["version"], found["parent"], found["verdict"]) == (3, 2, "pass")
    assert found["zeros"] == pytest.approx(0.2, abs=0.02)
    assert any(note.startswith("healed by 1 passes over 192 kept rows") for note in found["notes"]["smaller"])
    assert found["train_seconds"] > 0
    with Workspace.open(lived_in.root) as space:
        made = space.ledger.version(3)
        assert zeros_of(load_model(space.weights(made))) == pytest.approx(found["zeros"])
    assert json.loads((artifact(lived_in, 3) / "nacre.json").read_text())["compressed"]["to"] == "pruned"
    assert any(note.startswith("pruned: 19% of the linear layers'") for note in found["notes"]["healing"])


def test_the_gate_refuses_what_lost_too_much(lived_in: Place) -> None:
    found = lived_in.json("compress", 2, "--to", "pruned", "--method", "magnitude", "--keep", 0.1, "--heal", 0, code=3)
    assert (found["version"], found["verdict"], found["promoted"]) == (3, "fail", False)
    assert lived_in.champion() == 2
    assert found["same_answers"] < 0.9


@pytest.mark.slow
def test_an_adapter_version_is_merged_and_made_smaller(fresh: Place) -> None:
    fresh.settings(tune={"name": "lora", "rank": 16})
    fresh.json("evolve", "base")
    merged = fresh.json("compress", 1, "--to", "merged")
    assert (merged["version"], merged["verdict"]) == (2, "pass")
    assert merged["same_tokens"] > 0.99
    small = fresh.nacre("compress", 1, "--to", "int4", "--promote", "never", "--json").json  # whatever the gate says
    assert (small["version"], small["parent"], small["promoted"]) == (3, 1, False)
    assert small["before"]["size_bytes"] > 2 * small["after"]["size_bytes"]
    assert fresh.json("versions", "show", 3)["kind"] == "int4"
    assert fresh.champion() == 2
    assert not (artifact(fresh, 3) / "adapter_config.json").exists()
    assert fresh.nacre("evaluate", 3, "--json").code == 0
    assert_clear(fresh.nacre("compress", 2, "--to", "merged"), "version 2 has no adapter to merge")


def test_mistakes_are_told(lived_in: Place) -> None:
    assert_clear(lived_in.nacre("compress", 2, "--to", "int5"), "unknown compression 'int5'", "int4")
    assert_clear(lived_in.nacre("compress", 2, "--to", "int4", "--method", "gptq"), "gptq is not offered")
    assert_clear(lived_in.nacre("compress", 9, "--to", "int8"), "there is no version 9")
    assert_clear(lived_in.nacre("compress", 0, "--to", "int8"), "version 0 is the base model")
    assert_clear(lived_in.nacre("compress", 2, "--to", "pruned", "--method", "2:4", "--keep", "0.8"), "2:4 keeps 0.5")
    assert len(lived_in.json("versions", "list")["versions"]) == 2


@pytest.mark.slow
def test_the_embedded_engine_answers_from_int8_rows_as_from_whole_weights(lived_in: Place) -> None:
    asked = [f"paint big old {thing}" for thing in ("cat", "sun", "sea")]

    def answers() -> list[tuple[str, str]]:
        told = [lived_in.json("chat", question, "--temperature", 0) for question in asked]
        return [(one["version"], one["answer"]) for one in told]

    before = answers()
    lived_in.json("compress", 2, "--to", "int8")
    assert answers() == [("3", answer) for _, answer in before]
    assert len({answer for _, answer in before}) > 1
