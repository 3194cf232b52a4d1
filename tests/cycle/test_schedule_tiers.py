"""The three tiers on a workspace that has learned: coverage, an increment of feedback, a review of base models."""

import json
import shutil
from pathlib import Path

import pytest

from nacre.cycle.workspace import Workspace
from nacre.records import ChatTurn, Feedback, Interaction
from toy_kit import make_model, make_tokenizer
from workspace_kit import Place, assert_clear


def serve(space: Workspace, questions: list[str], correction: str = "") -> None:
    for place, text in enumerate(questions):
        one = Interaction(
            id=f"{text} {place}",
            time="2026-05-01T00:00:00.000+00:00",
            version=2,
            arm="champion",
            messages=(ChatTurn(role="user", content=text),),
            answer="hay",
            finish="stop",
        )
        space.ledger.add_interactions([one])
        if correction:
            said = Feedback(time=one.time, interaction=one.id, kind="correction", text=correction)
            space.ledger.add_feedback(said)


def test_the_three_tiers_run_by_themselves(lived_in: Place) -> None:
    """The default schedules on a real workspace: coverage of served questions, an increment of feedback, a review."""
    lived_in.settings(keep={"tries": 1}, train={"max_steps": 5})
    things = ("cat", "dog", "bird", "sun", "moon", "sea", "tree", "stone")
    with Workspace.open(lived_in.root) as space:
        serve(space, [f"place big old {thing}" for thing in things for _ in range(3)], correction="hill")
    listed = lived_in.json("schedule", "list")["schedules"]
    assert [(one["name"], one["every"], one["due"]) for one in listed] == [
        ("knowledge", "week", True),
        ("increment", "month", True),
        ("review", "quarter", True),
    ]
    found = lived_in.json("schedule", "run", code=3)["ran"]  # 3: the coverage is below its target
    assert found["knowledge"]["coverage"][0]["questions"] == 24
    assert found["knowledge"]["status"] == "refused"
    assert found["increment"]["increment"] == "feedback_1"
    assert found["increment"]["versions"] == [3]
    assert found["review"]["status"] == "done"
    assert lived_in.nacre("schedule", "run").out.strip() == "nothing is due"
    assert "place big old" not in json.dumps(lived_in.json("versions", "show", 3)["events"])
    assert "review" in lived_in.nacre("schedule", "list").out
    assert lived_in.nacre("schedule", "cron").out.startswith("*/10 * * * * mkdir -p ")
    assert_clear(lived_in.nacre("schedule", "run", "knowlege"), "did you mean 'knowledge'?")


@pytest.mark.slow  # trains once more
def test_an_increment_that_was_harvested_before_a_kill_is_learned_by_the_next_run(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        serve(space, [f"place big old {thing}" for thing in ("cat", "dog", "sun", "sea")] * 3, correction="hill")
    lived_in.json("harvest")
    lived_in.settings(keep={"tries": 1}, train={"max_steps": 5})
    found = json.loads(lived_in.nacre("schedule", "run", "increment", "--json").out)["ran"]["increment"]
    assert found["versions"] == [3]
    assert found["told"][0] == "harvest: there is no feedback to learn from"


def test_a_file_of_questions_is_held_against_the_rows(lived_in: Place) -> None:
    (lived_in.root / "domain.txt").write_text("paint big old cat\nfeed small new dog\n\nhow are you today\n")
    entry = {"name": "domain", "every": "week", "do": ["coverage"], "questions": "domain.txt", "target": 0.6}
    lived_in.settings(schedule=[entry])
    found = lived_in.json("schedule", "run")["ran"]["domain"]
    assert [(one["source"], one["covered"], one["questions"]) for one in found["coverage"]] == [("domain.txt", 2, 3)]
    lived_in.settings(schedule=[entry | {"questions": "gone.txt"}])
    found = lived_in.json("schedule", "run", "domain", code=1)["ran"]["domain"]
    assert "the file of questions cannot be read" in found["told"][0]


def test_the_review_compares_base_models_on_every_kept_task(lived_in: Place, tmp_path: Path) -> None:
    other = tmp_path / "other"
    tokenizer = make_tokenizer()
    make_model(tokenizer, seed=5).save_pretrained(other)
    with Workspace.open(lived_in.root) as space:
        present = space.base.model
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (Path(present) / name).exists():
            shutil.copy(Path(present) / name, other / name)
    found = lived_in.json("schedule", "review", "--models", other, present)
    assert list(found["metrics"]) == ["base", "increment_1"]
    assert [model["model"] for model in found["models"]] == [present, str(other), "champion, version 2"]
    base, untrained, champion = found["models"]
    assert base["scores"]["base"] > untrained["scores"]["base"]
    assert untrained["against_present"]["base"][2] < 0
    assert champion["mean"] > base["mean"]
    assert f"{other}: shown better than {present} on no task, worse on base (each at 95 %)" in found["told"]
    assert base["parameters"] == untrained["parameters"] > 1000
    assert (base["size_bytes"] > 0, base["latency_s"] > 0) == (True, True)
    assert base["architecture"]["model_type"] == "llama"
    shown = lived_in.nacre("schedule", "review", other)
    assert (shown.code, "is scored by exact_match" in shown.out) == (0, True)
    assert_clear(lived_in.nacre("schedule", "review", "nowhere"), "the model path does not exist")


def test_without_a_champion_nothing_is_reviewed_or_covered(tmp_path: Path) -> None:
    place = Place(tmp_path / "new")
    Workspace.init(place.root, "base-model")
    assert_clear(place.nacre("schedule", "review"), "there is nothing to compare models on")
    found = place.json("schedule", "run", code=1)["ran"]
    assert found["knowledge"]["told"][0] == "knowledge: there are no documents"
    assert found["knowledge"]["told"][1].startswith("there is no champion yet")
