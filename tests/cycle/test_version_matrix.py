"""`nacre matrix` in a workspace: a line, the whole branching history, brackets, general ability, files."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from rich.cells import cell_len

from nacre.cli import matrix as verb
from workspace_kit import Place, assert_clear, rows, write_lines


@pytest.fixture(scope="module")
def branched(_lived_in: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Beside versions 1 and 2: version 3 learned the increment unprotected, version 4 both at once from the base."""
    root = tmp_path_factory.mktemp("branched") / "assistant"
    shutil.copytree(_lived_in.root, root)
    place = Place(root)
    place.settings(protect="none")
    place.nacre("evolve", "increment_1", "--from", 1, "--promote", "never")
    place.nacre("evolve", "base,increment_1", "--from", 0, "--promote", "never")
    text = " ".join(row["instruction"] for row in rows("place")[:20])
    write_lines(root / "general.json", [{"text": text}, {"text": text[:100]}])
    write_lines(root / "asked.json", rows("place")[:10])
    place.settings(evaluate={"general": ["general.json", "asked.json"]})
    return place


def value(found: dict, name: str) -> float:
    assert found[name]["value"] is not None, found[name]["reason"]
    return found[name]["value"]


def test_the_line_is_held_against_the_base_model_and_both_brackets(branched: Place, tmp_path: Path) -> None:
    found = branched.json("matrix", 2, "--fill", "--out", tmp_path / "m.json")
    assert found["versions"] == ["v1 +base", "v2 +increment_1"]
    assert any("version 4 is the joint bracket" in note and "100%" in note for note in found["notes"])
    assert any("version 3 is the plain bracket" in note for note in found["notes"])
    last = found["cells"][-1]
    mean, joint, plain = (sum(scores) / 2 for scores in (last, found["joint"], found["plain"]))
    assert value(found, "average accuracy") == pytest.approx(mean)
    assert value(found, "gap to joint") == pytest.approx(joint - mean)
    assert value(found, "gap closed") == pytest.approx((mean - plain) / (joint - plain))
    assert value(found, "BWT") == pytest.approx(last[0] - found["cells"][0][0])
    general = {row["name"]: row for row in found["general"]}
    assert {name: row["measure"] for name, row in general.items()} == {"general": "perplexity", "asked": "score"}
    ratio = general["general"]["version"] / general["general"]["base"]
    assert value(found, "general perplexity ratio") == pytest.approx(ratio)
    assert value(found, "general delta") == pytest.approx(general["asked"]["version"] - general["asked"]["base"])
    assert json.loads((tmp_path / "m.json").read_text())["BWT"] == found["BWT"]
    assert branched.json("matrix", 2, "--joint", 4, "--plain", 3)["gap closed"] == found["gap closed"]


def test_the_whole_history_is_one_table_with_every_branch(branched: Place, tmp_path: Path) -> None:
    found = branched.json("matrix", "--all", "--fill", "--out", tmp_path / "all.csv", "--out", tmp_path / "all.html")
    assert found["versions"][2:] == ["v3 +increment_1 (from v1)", "v4 +base+increment_1 (from base)"]
    assert found["parents"] == [[], [0], [0], []]
    assert found["tasks"] == ["base", "increment_1"], "the joint version's own dev rows are those of the tasks"
    assert None not in [score for row in found["cells"] for score in row]
    lines = {number: {name: each["value"] for name, each in read.items()} for number, read in found["figures"].items()}
    assert lines["2"]["BWT"] == pytest.approx(found["cells"][1][0] - found["cells"][0][0])
    assert lines["3"]["BWT"] == pytest.approx(found["cells"][2][0] - found["cells"][0][0])
    assert lines["4"]["BWT"] is None
    table = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert [row["version"] for row in table] == [*found["versions"], "base"]
    assert "v3 +increment_1 (from v1)" in (tmp_path / "all.html").read_text()


def test_eighty_columns_are_enough(branched: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb.console, "width", 80)
    for words in (("matrix", 2), ("matrix", "--all")):
        found = branched.nacre(*words)
        assert found.code == 0
        shown = found.out.split("   matrix  ")[0].splitlines()
        assert max(map(cell_len, shown)) <= 80
        assert "v2 +increment_1" in found.out
    assert "Lopez-Paz" in branched.nacre("matrix", 2).out, "every figure has its source"


def test_what_is_wrong_is_said(branched: Place, tmp_path: Path) -> None:
    assert_clear(branched.nacre("matrix", "--out", tmp_path / "m.gif"), "unknown kind of file '.gif'", ".html")
    assert_clear(branched.nacre("matrix", 2, "--all"), "leave one of the two out")
    assert_clear(branched.nacre("matrix", "--joint", 9), "there is no version 9")
    assert_clear(branched.nacre("matrix", "--joint", 0), "the base model is no bracket")
    assert_clear(branched.nacre("matrix", 2, "--plain", 1), "version 1 was never taught increment_1")


def test_general_files_of_one_name_are_told_apart(lived_in: Place) -> None:
    for folder in ("one", "two"):
        write_lines(lived_in.root / folder / "asked.json", rows("place")[: 5 if folder == "one" else 7])
    lived_in.settings(evaluate={"general": ["one/asked.json", "two/asked.json"]})
    found = lived_in.json("matrix", 2, "--fill")["general"]
    assert [row["name"] for row in found] == ["one/asked.json", "two/asked.json"]
    assert None not in [row["version"] for row in found]


def test_general_entries_that_are_nowhere_or_hold_bad_rows_are_refused(lived_in: Place) -> None:
    write_lines(lived_in.root / "general.json", [{"text": "cat"}, {"text": 3}])
    for entry, parts in (
        ("generel.json", ("neither a file nor a task", "did you mean 'general.json'")),
        ("general.json", ("line 2",)),
    ):
        lived_in.settings(evaluate={"general": [entry]})
        assert_clear(lived_in.nacre("matrix"), *parts)
    lived_in.settings(evaluate={"general": ["base", "lm-eval:arc"]})
    found = lived_in.json("matrix")
    assert found["general delta"]["reason"].startswith("not scored: v2 +increment_1 on lm-eval:arc")
    assert found["general"][0]["version"] == found["cells"][1][0], "a task that increments taught counts as it is"
