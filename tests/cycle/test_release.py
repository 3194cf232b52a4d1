"""`promote`, `rollback`, `verify`, `versions`, `matrix`, `evaluate`: moving versions, and looking at them."""

from pathlib import Path

import pytest

from workspace_kit import Place, assert_clear, write_increment


def test_promote_and_rollback_move_the_champion_and_tell_the_history(lived_in: Place) -> None:
    assert lived_in.champion() == 2
    back = lived_in.nacre("rollback", "--why", "it was rude", "--actor", "ada")
    assert (back.code, back.out.strip()) == (0, "version 1 is champion again: it was rude")
    assert lived_in.champion() == 1
    event = lived_in.json("promote", 2, "--why", "it was not")
    assert (event["kind"], event["detail"]["to"], event["detail"]["why"]) == ("promoted", 2, "it was not")
    told = [(event["kind"], event["detail"].get("why")) for event in lived_in.json("versions", "show", 2)["events"]]
    assert told == [
        ("registered", None),
        ("judged", None),
        ("promoted", "the gate passed after increment_1"),
        ("rolled back", "it was rude"),
        ("promoted", "it was not"),
    ]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("promote", 9), ("there is no version 9", "known: 1, 2")),
        (("promote", 2), ("version 2 is the champion already",)),
        (("promote", "two"), ("'version'", "see nacre promote --help")),
        (("rollback", "--to", 9), ("version 9 is none of the last champions", "choose among 1")),
        (("versions", "show", 9), ("there is no version 9",)),
        (("versions", "diff", 1, 9), ("there is no version 9",)),
        (("evaluate", 9), ("there is no version 9",)),
        (("matrix", 9), ("there is no version 9",)),
        (("evolve", "base", "--from", 9), ("there is no version 9",)),
    ],
)
def test_what_does_not_exist_is_named(lived_in: Place, words: tuple[str | int, ...], parts: tuple[str, ...]) -> None:
    assert_clear(lived_in.nacre(*words), *parts)
    assert lived_in.champion() == 2


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("rollback",), "there is no earlier champion to go back to"),
        (("promote", 1), "there is no version 1"),
        (("matrix",), "there is no champion yet"),
        (("evaluate",), "there is no champion yet"),
        (("harvest",), "there is no feedback to learn from"),
    ],
)
def test_an_empty_workspace_says_what_is_missing(fresh: Place, words: tuple[str | int, ...], part: str) -> None:
    assert_clear(fresh.nacre(*words), part)


@pytest.mark.slow
def test_a_verdict_against_an_older_champion_does_not_promote(lived_in: Place) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    write_increment(lived_in.dataset, "increment_3", "place", train=60)
    lived_in.settings(train={"max_steps": 30})
    lived_in.nacre("evolve", "increment_2", "--promote", "never")
    lived_in.nacre("evolve", "increment_3", "--promote", "never")
    lived_in.nacre("promote", 4, "--force")
    assert lived_in.champion() == 4
    refused = lived_in.nacre("promote", 3)
    assert_clear(refused, "version 3", "nacre promote 3 --force")
    assert lived_in.champion() == 4


def test_a_rollback_past_the_first_version_has_no_history(lived_in: Place) -> None:
    lived_in.json("rollback")
    assert_clear(lived_in.nacre("rollback"), "there is no earlier champion to go back to", "nacre promote")


def damage(path: Path) -> None:
    path.chmod(0o644)
    found = bytearray(path.read_bytes())
    found[-1] ^= 1
    path.write_bytes(found)


def test_a_corrupted_artifact_is_found_and_never_promoted(lived_in: Place) -> None:
    assert "0 faulty" in lived_in.nacre("verify").out
    lived_in.json("rollback")
    weights = Path(lived_in.json("versions", "show", 2)["folder"]) / "model.safetensors"
    damage(weights)
    assert_clear(lived_in.nacre("promote", 2), "version 2", "model.safetensors was changed", str(weights), code=1)
    assert lived_in.champion() == 1
    found = lived_in.json("verify", code=1)
    assert [fault["what"].split(":")[0] for fault in found["faults"]] == ["version 2"]
    assert "✗ version 2: artifact" in lived_in.nacre("verify").out


def test_verify_reads_rows_history_and_the_base_model_again(lived_in: Place, tmp_path: Path) -> None:
    damage(next((lived_in.root / ".nacre" / "memory" / "rows").glob("*.jsonl")))
    found = lived_in.json("verify", code=1)
    assert len(found["faults"]) == 1
    assert found["faults"][0]["what"].startswith("rows of ")
    lived_in.settings(model=str(tmp_path / "gone"))
    assert sum("base model" in fault["what"] for fault in lived_in.json("verify", code=1)["faults"]) == 1


def test_versions_shows_what_was_made_and_how(lived_in: Place) -> None:
    listed = lived_in.json("versions", "list")["versions"]
    assert [(row["version"], row["slots"], row["verdict"]) for row in listed] == [
        (1, ["previous-1"], "pass"),
        (2, ["champion"], "pass"),
    ]
    shown = lived_in.json("versions", "show", 2)
    assert (Path(shown["folder"]) / "model.safetensors").is_file()
    assert Path(shown["folder"]).name == shown["artifact"]
    assert shown["recipe"]["train"]["learning_rate"] == 5e-3
    assert shown["snapshot"]["train"]["rows"] == 96
    assert shown["environment"]["packages"]["torch"]
    assert set(shown["scores"]) == {"base", "increment_1"}
    differs = lived_in.json("versions", "diff", 1, 2)
    assert differs["snapshot.task"] == ["base", "increment_1"]
    assert "recipe.train.learning_rate" not in differs
    for words in (("versions", "list"), ("versions", "show", 2), ("versions", "diff", 1, 2)):
        found = lived_in.nacre(*words)
        assert found.code == 0
        assert "increment_1" in found.out


def test_the_matrix_is_shown_filled_and_drawn(lived_in: Place, tmp_path: Path) -> None:
    found = lived_in.json("matrix")
    assert (found["versions"], found["tasks"]) == (["v1 +base", "v2 +increment_1"], ["base", "increment_1"])
    assert found["base"][1] is None
    assert "mean over" in found["BWT"]["definition"]
    filled = lived_in.json("matrix", "--fill", "--png", tmp_path / "m.png", "--html", tmp_path / "m.html")
    assert None not in filled["base"]
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    assert "increment_1" in (tmp_path / "m.html").read_text()
    assert "average accuracy" in lived_in.nacre("matrix").out


def test_scores_are_looked_up_not_made_again(lived_in: Place) -> None:
    first, second = (lived_in.json("evaluate") for _ in range(2))
    assert first == second
    assert first["version"] == 2
    report = first["tasks"]["increment_1"]
    assert {"exact_match", "token_f1", "rouge_l"} <= set(report["scores"])
    assert {"bleu", "distinct_1", "distinct_2", "perplexity"} <= set(report["totals"])
    assert len(report["scores"]["exact_match"]) == report["rows"] == 80
    assert report["latency_s"]
    text = lived_in.nacre("evaluate", 1).out
    assert "version 1" in text
    assert "scored by exact_match" in text
