"""What a harvest makes, beyond its crash safety: quarantine, three stages, topics, history, review, import, trace."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from traffic_kit import add_version, make_space

from nacre.base.errors import InputError
from nacre.cycle.rows import harvest as harvesting
from nacre.cycle.rows.imported_opinions import import_file
from nacre.cycle.rows.opinions import decide, listed, trace, trace_version
from nacre.cycle.workspace import Workspace
from nacre.feedback.summary import summary
from nacre.feedback.voices import IMPORTED, IMPORTED_ARM
from nacre.records import ChatTurn, Feedback, Interaction
from workspace_kit import Place, assert_clear, rows, write_lines

_numbers = count()


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    with make_space(tmp_path / "space") as made:
        yield made


def said(space: Workspace, question: str, kind: str = "correction", text: str = "", **more: Any) -> int:
    number = next(_numbers)
    answer = more.pop("answer", "shown")
    asked = Interaction(
        id=f"i{number}",
        time="2026-01-01T00:00:00.000+00:00",
        version=1,
        arm="champion",
        messages=(ChatTurn(role="user", content=question),),
        answer=answer,
        finish="stop",
    )
    space.ledger.add_interactions([asked])
    time = f"2026-{1 + number // 600 % 12:02d}-{1 + number // 24 % 25:02d}T{number % 24:02d}:00:00+00:00"
    record = {"time": time, "interaction": asked.id, "kind": kind, "text": text} | more
    return space.ledger.add_feedback(Feedback.model_validate(record))


def by_people(space: Workspace, question: str, text: str, people: int = 2, **more: Any) -> list[int]:
    start = next(_numbers)
    return [said(space, question, text=text, person=f"p{start}-{k}", source="app", **more) for k in range(people)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_one_person_says_waits_and_is_listed_with_its_reason(space: Workspace) -> None:
    number = said(space, "capital of France", text="Lyon", person="p1", source="app")
    with pytest.raises(harvesting.NothingToLearn, match="fewer than 2 independent people"):
        harvesting.harvest(space)
    (one,) = listed(space, "quarantined")
    assert (one.said.id, one.said.why, one.question) == (
        number,
        "fewer than 2 independent people say so",
        "capital of France",
    )
    decide(space, [number], "accepted", why="checked", actor="anna")
    assert (listed(space)[0].said.status, space.ledger.events()[-1].actor) == ("accepted", "anna")
    found = harvesting.harvest(space)
    (row,) = lines(found.folder / "train.json")
    assert row["messages"][1]["content"] == "Lyon"
    assert (row["feedback"], row["person"], row["consent"]) == (str(number), "p1", "assumed")
    with pytest.raises(InputError, match="made into rows of feedback_1"):
        decide(space, [number], "rejected")


def test_decisions_are_all_or_none_and_need_consent(space: Workspace) -> None:
    number = said(space, "q", text="a", person="p1", source="app")
    with pytest.raises(InputError, match="no feedback has the number 999"):
        decide(space, [number, 999], "accepted")
    assert listed(space)[0].said.status == "new"
    asked = space.ledger.interaction(listed(space)[0].said.interaction)
    assert asked is not None
    space.ledger.add_interactions([asked.changed(id="secret", consent="refused")])
    opinion = Feedback(time="2026-01-01", interaction="secret", kind="correction", text="b", source="app")
    private = space.ledger.add_feedback(opinion)
    with pytest.raises(InputError, match="did not consent"):
        decide(space, [private], "accepted")
    decide(space, [number, private], "rejected", why="spam")
    with pytest.raises(harvesting.NothingToLearn):
        harvesting.harvest(space)


def test_users_rows_wait_until_the_gate_can_see_something(space: Workspace) -> None:
    for place in range(30):
        by_people(space, f"question {place} of {place * 37}", f"answer {place * 13}")
    look = harvesting.look(space)
    assert (look.rows["sft"], look.enough) == (30, False)
    assert look.statistics is not None
    with pytest.raises(harvesting.NotEnough, match=r"30 rows, 3 of them to prove it.* wait for about \d+") as refused:
        harvesting.harvest(space)
    assert "--anyway" in refused.value.fix
    assert not list(space.dataset_dir.glob("feedback*"))
    assert all(one.said.status == "new" for one in listed(space))
    found = harvesting.harvest(space, anyway=True)
    assert (found.train, found.dev) == (27, 3)
    assert [one.stage for one in found.increments] == ["sft", "dpo"]
    pair = lines(found.increments[1].folder / "train.json")[0]
    assert pair["rejected"] == {"content": "shown", "role": "assistant"}


def test_so_many_rows_are_enough_as_it_says(space: Workspace) -> None:
    from nacre.cycle.rows.enough import enough

    few = enough(space, "feedback_1", 612, 61)
    assert not few.holds
    assert few.smallest > few.margin == 0.10
    assert enough(space, "feedback_1", few.wanted, few.wanted // 10).holds
    assert not enough(space, "feedback_1", few.wanted - 20, few.wanted // 10 - 2).holds


def test_history_and_dev_rows_stay_out(space: Workspace) -> None:
    write_lines(
        space.dataset_dir / "other" / "dev.json", [{"instruction": "Who made it?", "input": "", "output": "Ann"}]
    )
    said(space, "who   MADE it?", text="Bob")
    said(space, "what colour is the sky over the sea in the morning", text="blue")
    said(space, "what is new", text="this")
    found = harvesting.harvest(space)
    assert (found.train, found.left_out) == (2, {"asks what a dev row asks": 1})
    said(space, "what colour is the sky over the sea in the mornings", text="Blue")
    said(space, "what colour is the sky over the sea in the morning", text="grey, I said")
    said(space, "what is newest", text="that")
    found = harvesting.harvest(space)
    assert found.left_out == {"learned before": 1}
    answers = [row["messages"][1]["content"] for row in lines(found.folder / "train.json")]
    assert answers == ["grey, I said", "that"], "a new answer to a learned question is what a correction is for"


def test_weak_spots_show_by_topic(space: Workspace) -> None:
    for place in range(20):
        said(space, f"how do I cancel invoice number {place * 31}", text=f"call us about {place}")
        said(space, f"weather forecast tomorrow in town {place * 17}", "stars", value=5, answer=f"sunny {place}")
    found = harvesting.harvest(space)
    worst, best = found.topics[0], found.topics[-1]
    assert "invoice" in worst.example
    assert worst.share > 0.9
    assert "weather" in best.example
    assert best.share < 0.1
    assert sum(topic.rated for topic in found.topics) == 40
    topics = {row["topic"] for row in lines(found.folder / "dev.json")}
    assert len(topics) > 1, "the dev rows show the topics"


def test_rows_wait_for_a_person_where_that_is_asked_for(space: Workspace) -> None:
    from nacre.cycle.rows.drafts import decide as decide_draft
    from nacre.cycle.rows.drafts import write_accepted

    for place in range(3):
        said(space, f"question {place}", text=f"answer {place}")
    found = harvesting.harvest(space, review=True)
    assert found.queue
    assert not found.folder.exists()
    assert space.ledger.drafts.queues() == ["feedback_1"]
    with pytest.raises(harvesting.NothingToLearn):
        harvesting.harvest(space, review=True)
    drafts = space.ledger.drafts.drafts("feedback_1")
    decide_draft(space, drafts[0].id, "accepted", by="anna")
    decide_draft(space, drafts[1].id, "rejected", by="anna")
    with pytest.raises(InputError, match="keep the name of their queue"):
        write_accepted(space, "feedback_1", "another")
    write_accepted(space, "feedback_1", "feedback_1")
    (row,) = lines(space.dataset_dir / "feedback_1" / "train.jsonl")
    assert (row["accepted_by"], row["feedback"]) == ("anna", str(trace(space, row["feedback"])[0].said.said.id))
    assert [one.said.status for one in listed(space)] == ["exported", "rejected", "exported"]
    assert [one.detail["increment"] for one in space.ledger.events() if one.kind == "harvested"] == ["feedback_1"]


def test_a_harvest_for_review_that_is_killed_is_taken_up(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(space.ledger).export_feedback
    said(space, "question", text="answer")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(space.ledger), "export_feedback", killed)
    with pytest.raises(KeyboardInterrupt):
        harvesting.harvest(space, review=True)
    monkeypatch.setattr(type(space.ledger), "export_feedback", real)
    assert harvesting.harvest(space, review=True).name == "feedback_1"
    assert len(space.ledger.drafts.drafts("feedback_1")) == 1
    assert listed(space)[0].said.increment == "feedback_1"


def test_an_opinion_is_traced_to_versions_and_back(space: Workspace) -> None:
    number = said(space, "q", text="a")
    other = said(space, "q", "thumb", value=1.0)
    harvesting.harvest(space)
    (before,) = trace(space, str(number))
    assert [one.as_dict()["versions"] for one in before.learned] == [[]]
    assert before.learned[0].row == ("q", "a")
    add_version(space, 4, "feedback_1", parents=(1,))
    add_version(space, 5, "next", parents=(4,))
    space.ledger.promote(5, actor="test", why="so", expected=space.ledger.slot("champion").generation)
    (found,) = trace(space, listed(space)[0].said.interaction)
    (learned,) = found.learned
    assert (learned.versions, learned.heirs, dict(learned.slots)) == ((4,), (5,), {"champion": 5})
    assert learned.as_dict()["live"]
    assert [vars(one) for one in trace_version(space, 5)] == [
        {"feedback": number, "increment": "feedback_1", "learned_in": 4}
    ]
    assert trace_version(space, 1) == []
    assert trace(space, str(other))[0].learned == ()
    with pytest.raises(InputError, match="no feedback has the number 999"):
        trace(space, "999")


CSV = """prompt,answer,stars,correction,person
capital of France,Lyon,1,Paris,anna
capital of France,Lyon,,Paris,ben
mail me at anna@example.org,ok,5,,anna
"""


def test_a_file_of_opinions_is_taken_once_and_cleaned(space: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "opinions.csv"
    path.write_text(CSV, encoding="utf-8")
    found = import_file(space, path)
    assert (found.added, found.known) == (4, 0)
    assert import_file(space, path).as_dict() | {"notes": []} == {"added": 0, "known": 4, "ids": [], "notes": []}
    assert "anna@example.org" not in str([one.question for one in listed(space)])
    assert {one.said.source for one in listed(space)} == {IMPORTED}
    found = harvesting.harvest(space, anyway=True)
    assert [row["messages"][1]["content"] for row in lines(found.folder / "train.json")] == ["Paris"]
    assert listed(space, "quarantined")[0].said.kind == "stars"


def test_an_import_that_is_killed_took_nothing(
    space: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "opinions.csv"
    path.write_text(CSV, encoding="utf-8")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for last in ("add_opinions", "events.append"):
        with monkeypatch.context() as patched:
            owner = "nacre.registry.conversations" if last == "add_opinions" else "nacre.registry.usage"
            patched.setattr(f"{owner}.{last}", killed)
            with pytest.raises(KeyboardInterrupt):
                import_file(space, path)
        assert listed(space) == []
        assert space.ledger.usage.persons() == set(), "no answer stays either"
        assert not [one for one in space.ledger.events() if one.kind == "feedback imported"]
    found = import_file(space, path)
    (event,) = [one for one in space.ledger.events() if one.kind == "feedback imported"]
    assert (found.added, event.detail["opinions"], event.detail["file"]) == (4, 4, "opinions.csv")
    assert any("4 opinions do not say when they were given" in note for note in found.notes)


def test_lines_without_consent_teach_nothing(space: Workspace, tmp_path: Path) -> None:
    said(space, "ours", "thumb", value=1.0)
    ours = listed(space)[0].said.interaction
    given = {"prompt": "q", "correction": "a"}
    path = write_lines(
        tmp_path / "opinions.jsonl",
        [
            given | {"person": "x"},
            given | {"person": "x", "consent": "refused"},
            {"response_id": ours, "correction": "mine", "consent": "refused"},
        ],
    )
    assert import_file(space, path, accept=True).added == 3
    assert [one.said.status for one in listed(space)] == ["new", "accepted", "accepted", "rejected"]
    found = harvesting.harvest(space, anyway=True)
    assert [row["messages"][1]["content"] for row in lines(found.folder / "train.json")] == ["a"]
    assert found.left_out["its user did not consent to learning from it"] == 1


def test_imported_answers_say_nothing_of_how_they_came_about(space: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "opinions.csv"
    path.write_text(CSV, encoding="utf-8")
    import_file(space, path)
    (row,) = [row for row in summary(space.ledger).rows if row.arm == IMPORTED_ARM]
    assert {"stars", "corrected"} <= row.figures.keys()
    assert not {"completed", "seconds", "regenerated"} & row.figures.keys()
    assert space.ledger.releases.observed.latest(10) == []


def test_rows_that_rest_on_as_few_people_as_may_be_are_counted(space: Workspace) -> None:
    by_people(space, "capital of France", "Paris")
    by_people(space, "colour of the sky", "blue", people=3)
    said(space, "how much is two and two", text="4")
    found = harvesting.harvest(space, "first", anyway=True)
    assert found.as_dict()["barely"] == 1
    assert "1 of 3 rows rest on the word of 2 people each, who could be one: nacre harvest --review" in found.note
    by_people(space, "name of the moon", "Luna")
    queued = harvesting.harvest(space, "second", anyway=True, review=True)
    assert (queued.barely, "--review" in queued.note) == (1, False)


def test_of_many_who_say_the_same_each_is_traced_to_the_row(space: Workspace) -> None:
    numbers = by_people(space, "q", "a", people=40)
    assert len(",".join(map(str, numbers))) > 64, "more than the row names"
    harvesting.harvest(space, anyway=True)
    for number in (numbers[0], numbers[-1]):
        (found,) = trace(space, str(number))
        assert found.learned[0].row == ("q", "a")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"prompt": "q", "answer": "a", "stars": 9}', "stars is 9"),
        ('{"prompt": "q", "answer": "a", "thumb": "sideways"}', "thumb is 'sideways'"),
        ('{"prompt": "q", "answer": "a"}', "says nothing about an answer"),
        ('{"stars": 5}', "does not say what it is about"),
        ('{"prompt": "q", "stars": 5}', "no answer that it is about"),
        ('{"prompt": "q", "answer": "a", "star": 5}', "unknown column 'star'"),
        ('{"response_id": "chatcmpl-1", "stars": 5}', "no answer has the id"),
        ('{"prompt": "q", "chosen": "a"}', "names no two answers"),
        ('{"prompt": "q", "chosen": "a", "rejected": "a"}', "are the same"),
        ('{"prompt": [1], "correction": "a"}', "neither text nor messages"),
        ('{"prompt": "q", "correction": "a", "time": "soon"}', "the time 'soon' cannot be read"),
        ("{broken", "double quotes"),
    ],
)
def test_a_bad_line_is_told_with_its_place_and_nothing_is_written(
    space: Workspace, tmp_path: Path, line: str, what: str
) -> None:
    path = tmp_path / "opinions.jsonl"
    path.write_text('{"prompt": "good", "correction": "line"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=what) as refused:
        import_file(space, path)
    assert "opinions.jsonl, line 2" in refused.value.where
    assert refused.value.fix
    assert listed(space) == []


def test_comparisons_are_imported_as_pairs(space: Workspace, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", [{"prompt": "q", "chosen": "good", "rejected": "bad", "user": "u"}])
    import_file(space, path, accept=True)
    found = harvesting.harvest(space, anyway=True)
    (row,) = lines(found.folder / "train.json")
    assert (found.name, row["chosen"]["content"], row["rejected"]["content"]) == ("feedback_1_dpo", "good", "bad")


def test_opinions_on_answers_of_this_workspace_are_imported_by_their_id(space: Workspace, tmp_path: Path) -> None:
    said(space, "q", "thumb", value=1.0)
    name = listed(space)[0].said.interaction
    path = write_lines(tmp_path / "more.jsonl", [{"response_id": name, "correction": "right", "comment": "hm"}])
    assert import_file(space, path).added == 2
    assert [one.question for one in listed(space)] == ["q"] * 3


def test_exports_of_label_studio_and_langfuse_are_read(space: Workspace, tmp_path: Path) -> None:
    def task(kind: str, value: dict[str, Any], **data: str) -> dict[str, Any]:
        result = [{"type": kind, "from_name": "x", "to_name": "y", "value": value}]
        annotations = [{"id": k, "completed_by": k, "result": result} for k in (1, 2)]
        return {"id": 1, "data": {"prompt": "q", **data}, "annotations": annotations}

    studio = tmp_path / "studio.json"
    studio.write_text(json.dumps([task("textarea", {"text": ["better"]}, answer="worse")]))
    assert import_file(space, studio).added == 2
    assert {(one.said.kind, one.said.text, one.answer) for one in listed(space)} == {("correction", "better", "worse")}
    fuse = tmp_path / "langfuse.jsonl"
    scores = [
        {"name": "user-feedback", "value": 1, "dataType": "BOOLEAN", "source": "API"},
        {"name": "stars", "value": 1, "source": "API"},
        {"name": "correction", "stringValue": "so", "source": "ANNOTATION", "authorUserId": "anna"},
        {"name": "faithfulness", "value": 0.3, "source": "EVAL"},
        {"name": "length", "value": 431, "source": "API"},
    ]
    trace_ = {
        "id": "t",
        "input": [{"role": "user", "content": "fuse"}],
        "output": {"role": "assistant", "content": "o"},
    }
    write_lines(fuse, [trace_ | {"userId": "u1", "scores": scores}])
    found = import_file(space, fuse)
    kinds = [(one.said.kind, one.said.value, one.said.text) for one in listed(space) if one.question == "fuse"]
    assert kinds == [("thumb", 1.0, ""), ("stars", 1.0, ""), ("correction", None, "so")]
    assert found.notes[:2] == (
        "1 scores that a program gave",
        "1 scores 'length', which are neither thumb, stars, comment nor correction",
    )
    assert import_file(space, fuse).added == 0


@pytest.mark.slow  # trains three times
def test_every_harvested_increment_is_learned(lived_in: Place) -> None:
    """Rows, pairs and judged answers of people: each stage trains on the toy model, and is traced to its version."""
    lived_in.settings(train={"max_steps": 2}, protect="none")
    held = {
        row["instruction"] for name in ("base", "increment_1") for row in lines(lived_in.dataset / name / "dev.json")
    }
    asked = [row["instruction"].replace("feed", "place") for row in rows("feed")]
    with Workspace.open(lived_in.root) as space:
        for place, question in enumerate([one for one in asked if one not in held][:24]):
            by_people(space, question, ("hill", "lake")[place % 2], answer="hay")
            for person in ("t1", "t2"):
                said(space, question, "thumb", value=0.0, person=f"{person} {place}", source="app", answer="fish")
    assert_clear(lived_in.nacre("evolve", "--from", "feedback"), "24 rows, 2 of them to prove it", "--anyway")
    assert lived_in.json("versions", "list")["versions"][-1]["version"] == 2
    made = lived_in.json("harvest", "--anyway")["increments"]
    assert [one["stage"] for one in made] == ["sft", "dpo", "kto"]
    lived_in.settings(keep={"max_drop": 1.0})  # what so few steps learn, and lose, is not what this is about
    found = lived_in.json("evolve", "--from", "feedback")
    assert found["harvest"] is None
    assert [one["version"] for one in found["evolutions"]] == [3, 4, 5]
    traced = lived_in.json("feedback", "trace", 1)
    learned = traced["opinions"][0]["learned"]
    assert [(one["version"], one["live"]) for one in traced["versions"]] == [(3, False), (4, False), (5, True)]
    assert [(one["increment"], one["versions"]) for one in learned] == [("feedback_1", [3]), ("feedback_1_dpo", [4])]
    back = lived_in.json("feedback", "trace", "--version", 5)["opinions"]
    assert {(one["increment"], one["learned_in"]) for one in back} == {
        ("feedback_1", 3),
        ("feedback_1_dpo", 4),
        ("feedback_1_kto", 5),
    }
    assert lived_in.json("versions", "show", 4)["recipe"]["train"]["stage"] == "dpo"
    assert lived_in.json("verify")["faults"] == []
    assert_clear(lived_in.nacre("evolve", "--from", "feedback"), "there is no feedback to learn from")


def test_the_verbs_of_feedback(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        number = said(space, "q", text="a", person="p1", source="app")
    assert lived_in.nacre("harvest").code == 2
    (one,) = lived_in.json("feedback", "list", "--status", "quarantined")
    assert one["id"] == number
    assert "fewer than 2" in lived_in.nacre("feedback", "list").out
    assert lived_in.json("feedback", "accept", number, "--why", "known")["ids"] == [number]
    assert lived_in.json("feedback", "reject", number)["status"] == "rejected"
    assert "nothing was made of it" in lived_in.nacre("feedback", "trace", number).out
    for words in (("accept", 99), ("trace",), ("trace", "x"), ("trace", "--version", 99), ("import", "gone.csv")):
        assert_clear(lived_in.nacre("feedback", *words))
    for words in (("--from", "x", "base"), ("--from", "feedback", "base"), ()):
        assert_clear(lived_in.nacre("evolve", *words))
