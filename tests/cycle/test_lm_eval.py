"""The bridge to lm-evaluation-harness in a workspace: imports that the gate compares, and (slow) the real harness."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from nacre.cycle.scores import lm_eval
from nacre.records import Weights
from workspace_kit import DEV_ROWS, Place, assert_clear

RECORDED = (
    Path(__file__).parents[1] / "evaluate" / "lm_eval_samples" / "samples_colours_2026-11-21T15-42-47.123456.jsonl"
)


def many(folder: Path, right: int, rows: int = 200) -> Path:
    """The recorded file's first row so many times, under other ids, with so many right answers."""
    first = json.loads(RECORDED.read_text().splitlines()[0])
    path = folder / RECORDED.name
    folder.mkdir()
    lines = [
        first | {"doc_id": place, "doc_hash": f"{place:064d}", "exact_match": float(place < right)}
        for place in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_samples_become_reports_that_the_gate_and_the_matrix_read(lived_in: Place, tmp_path: Path) -> None:
    for version, right in ((0, 190), (1, 180), (2, 100)):
        found = lived_in.json("lm-eval", "import", many(tmp_path / str(version), right), "--version", version)
        assert found["tasks"]["lm-eval:colours"]["mean"] == right / 200
    judged = lived_in.json("gate", 1, 2, code=3)
    task = judged["tasks"]["lm-eval:colours"]
    assert task["drop"] == pytest.approx(0.4)
    assert judged["verdict"] == "fail"
    lived_in.settings(evaluate={"general": ["lm-eval:colours"]})
    delta = lived_in.json("matrix", 2)["general delta"]
    assert delta["value"] == pytest.approx(0.5 - 0.95)


def test_scores_on_other_rows_are_not_compared_and_that_is_said(lived_in: Place, tmp_path: Path) -> None:
    lived_in.json("lm-eval", "import", many(tmp_path / "a", 180), "--version", 1)
    lived_in.json("lm-eval", "import", many(tmp_path / "b", 180, rows=190), "--version", 2)
    judged = lived_in.nacre("gate", 1, 2, "--json")
    assert "lm-eval:colours" not in judged.json["tasks"]
    assert "answered other rows or other prompts" in judged.out


def test_the_same_file_again_changes_nothing_and_mistakes_are_named(lived_in: Place, tmp_path: Path) -> None:
    first, second = (lived_in.json("lm-eval", "import", RECORDED, "--version", 2) for _ in range(2))
    assert first == second
    assert "lm-eval:colours" in lived_in.nacre("lm-eval", "import", RECORDED).out
    assert_clear(lived_in.nacre("lm-eval", "import", RECORDED, "--version", 7), "there is no version 7")
    assert_clear(lived_in.nacre("lm-eval", "import", RECORDED, "--metric", "acc"), "unknown metric 'acc'")
    twice = many(tmp_path / "again", 3)
    assert_clear(lived_in.nacre("lm-eval", "import", RECORDED, twice), "two of the files are of the task colours")


def test_other_scores_on_the_same_rows_are_the_ones_that_count(lived_in: Place, tmp_path: Path) -> None:
    lived_in.settings(evaluate={"general": ["lm-eval:colours"]})
    first, second = many(tmp_path / "a", 180), many(tmp_path / "b", 100)
    lived_in.json("lm-eval", "import", many(tmp_path / "base", 190), "--version", 0)
    lived_in.json("lm-eval", "import", first, "--version", 1)
    for file, right in ((first, 180), (second, 100), (first, 180), (first, 180)):
        lived_in.json("lm-eval", "import", file, "--version", 2)
        assert lived_in.json("matrix", 2)["general"][0]["version"] == right / 200
        drop = lived_in.nacre("gate", 1, 2, "--json").json["tasks"]["lm-eval:colours"]["drop"]
        assert drop == pytest.approx((180 - right) / 200)


def test_a_router_that_would_read_the_answers_is_refused(
    fresh: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "router.json").write_text("{}")
    routed = Weights(identity="routed", model="toy", adapter=tmp_path / "adapters")
    monkeypatch.setattr(lm_eval, "weights_of", lambda *_: routed)
    found = fresh.nacre("lm-eval", "run", 0, "--tasks", "arc_easy")
    assert_clear(found, "does not say where a question ends", "several adapters behind a router")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs the extra lm-eval")
def test_the_real_harness_agrees_with_nacre_row_by_row(lived_in: Place, tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    assert lived_in.json("lm-eval", "export", folder)["tasks"] == {
        "base": "nacre_base",
        "increment_1": "nacre_increment_1",
    }
    found = lived_in.json("lm-eval", "run", 1, "--tasks", "nacre_dev", "--include_path", folder)
    lived_in.json("matrix", 2, "--fill")  # version 1 on what it was not taught
    cells = lived_in.json("matrix", 2)["cells"][0]
    assert [found["tasks"][f"lm-eval:nacre_{task}"]["mean"] for task in ("base", "increment_1")] == cells
    assert cells[0] > 0.9 > 0.1 > cells[1], "right and wrong answers are both there to agree on"
    assert_clear(
        lived_in.nacre("lm-eval", "run", 1, "--tasks", "nacre_bse", "--include_path", folder),
        "did you mean 'nacre_base'",
    )
    # the harness alone, without nacre, on the version's folder
    model = lived_in.json("versions", "show", 1)["folder"]
    words = ("--model", "hf", "--model_args", f"pretrained={model}", "--device", "cpu", "--tasks", "nacre_base")
    subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "run", *words, "--include_path", str(folder)),
            *("--log_samples", "--output_path", str(tmp_path / "out"), "--batch_size", "16"),
        ],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        check=True,
        capture_output=True,
    )
    (samples,) = (tmp_path / "out").rglob("samples_nacre_base_*.jsonl")
    imported = lived_in.json("lm-eval", "import", samples, "--version", 1)["tasks"]["lm-eval:nacre_base"]
    assert imported == found["tasks"]["lm-eval:nacre_base"], "the same rows, prompts and scores"
    ours = lived_in.json("evaluate", 1)["tasks"]["base"]["scores"]["exact_match"]
    theirs = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [row["exact_match"] for row in sorted(theirs, key=lambda row: row["doc_id"])] == ours
    assert len(ours) == DEV_ROWS
