from collections.abc import Iterator
from pathlib import Path

import pytest

from nacre.feedback.curation import collect
from nacre.records import ChatTurn, Feedback, Interaction
from nacre.registry.ledger import Ledger
from nacre.registry.store import ArtifactStore


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", ArtifactStore(tmp_path / "artifacts")) as ledger:
        yield ledger


def _answered(ledger: Ledger, name: str, question: str, answer: str = "shown", finish: str = "stop") -> None:
    turns = (ChatTurn(role="system", content="Be kind."), ChatTurn(role="user", content=question))
    ledger.add_interactions(
        [
            Interaction(
                id=name,
                time="2025-01-01T00:00:00.000+00:00",
                version=0,
                arm="champion",
                messages=turns,
                answer=answer,
                finish=finish,
            )
        ]
    )


def _say(ledger: Ledger, name: str, kind: str, value: float | None = None, text: str = "") -> int:
    said = {"time": "2025-01-02", "interaction": name, "kind": kind, "value": value, "text": text}
    return ledger.add_feedback(Feedback.model_validate(said))


def test_corrections_and_good_answers_become_rows_of_the_task(ledger: Ledger) -> None:
    _answered(ledger, "a", "one?")
    _answered(ledger, "b", "two?", answer="two!")
    ids = [_say(ledger, "a", "correction", text="ONE"), _say(ledger, "b", "stars", 4)]
    harvest = collect(ledger, task="feedback_1")
    assert [(row.prompt[0].content, row.answer) for row in harvest.examples] == [("one?", "ONE"), ("two?", "two!")]
    row = harvest.examples[0]
    assert (row.system, row.origin.task, row.prompt[0].role, row.kind) == ("Be kind.", "feedback_1", "user", "sft")
    assert harvest.feedback_ids == tuple(ids)
    assert harvest.left_out == {}


def test_everything_left_out_is_counted_with_its_reason_and_stays_open(ledger: Ledger) -> None:
    _answered(ledger, "a", "one?")
    _answered(ledger, "cut", "two?", finish="length")
    for kind, value, text in (("stars", 2, ""), ("stars", 3, ""), ("thumb", 1, ""), ("comment", None, "hm")):
        _say(ledger, "a", kind, value, text)
    _say(ledger, "cut", "stars", 5)
    harvest = collect(ledger, task="t")
    assert (harvest.examples, harvest.feedback_ids) == ((), ())
    assert harvest.left_out == {
        "fewer than 4 stars and no correction": 2,
        "a thumb alone teaches no answer": 1,
        "a comment names no answer": 1,
        "good stars for an answer that was cut off": 1,
    }


def test_the_newest_correction_of_a_prompt_wins_over_older_ones_and_over_stars(ledger: Ledger) -> None:
    for name in ("a", "b", "c"):
        _answered(ledger, name, "same?", answer=f"shown by {name}")
    _say(ledger, "a", "correction", text="first")
    _say(ledger, "b", "correction", text="second")
    _say(ledger, "c", "stars", 5)
    harvest = collect(ledger, task="t")
    assert [row.answer for row in harvest.examples] == ["second"]
    assert len(harvest.feedback_ids) == 3, "what the row speaks for must not come back next time"
    assert harvest.left_out == {
        "a correction of the same prompt counts instead": 1,
        "a newer correction of the same prompt": 1,
    }


def test_equal_rows_are_one_row_and_different_good_answers_are_two(ledger: Ledger) -> None:
    for name, answer in (("a", "yes"), ("b", "yes"), ("c", "indeed")):
        _answered(ledger, name, "same?", answer=answer)
        _say(ledger, name, "stars", 5)
    _say(ledger, "a", "stars", 4)
    harvest = collect(ledger, task="t")
    assert sorted(row.answer for row in harvest.examples) == ["indeed", "yes"]
    assert harvest.left_out == {"the same row twice": 2}


def test_nothing_is_marked_until_the_caller_says_so(ledger: Ledger) -> None:
    _answered(ledger, "a", "one?")
    _say(ledger, "a", "correction", text="ONE")
    _say(ledger, "a", "thumb", 0)
    first = collect(ledger, task="t")
    assert collect(ledger, task="t") == first
    ledger.mark_feedback(first.feedback_ids, "exported")
    again = collect(ledger, task="t")
    assert (again.examples, again.feedback_ids) == ((), ())
    assert again.left_out == {"a thumb alone teaches no answer": 1}


def test_rejected_feedback_teaches_nothing(ledger: Ledger) -> None:
    _answered(ledger, "a", "one?")
    number = _say(ledger, "a", "correction", text="poison")
    ledger.mark_feedback([number], "rejected")
    assert collect(ledger, task="t").examples == ()
