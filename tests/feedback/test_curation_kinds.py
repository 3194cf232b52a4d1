"""Preference pairs, judged answers, consent, and opinions that wait: what of a ledger's feedback becomes which row."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from nacre.feedback.curation import collect
from nacre.feedback.rows import unsigned
from nacre.records import ChatTurn, Feedback, Interaction
from nacre.registry.ledger import Ledger
from nacre.registry.store import ArtifactStore

PROMPT = "p" * 64


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", ArtifactStore(tmp_path / "artifacts")) as ledger:
        yield ledger


_numbers = count()


def answered(ledger: Ledger, question: str, answer: str = "shown", **more: Any) -> str:
    name = f"i{next(_numbers)}"
    asked = {
        "id": name,
        "time": "2026-01-01T00:00:00.000+00:00",
        "version": 1,
        "arm": "champion",
        "messages": [ChatTurn(role="user", content=question)],
        "answer": answer,
        "finish": "stop",
        "prompt": PROMPT,
    }
    ledger.add_interactions([Interaction.model_validate(asked | more)])
    return name


def says(ledger: Ledger, name: str, kind: str, value: float | None = None, text: str = "", **more: Any) -> int:
    hour = f"{next(_numbers) % 24:02d}"
    said = {"time": f"2026-01-02T{hour}:00:00+00:00", "interaction": name, "kind": kind, "value": value, "text": text}
    return ledger.add_feedback(Feedback.model_validate(said | more))


def test_a_correction_is_a_pair_over_what_was_shown_even_after_it_was_learned(ledger: Ledger) -> None:
    number = says(ledger, answered(ledger, "q"), "correction", text="right")
    found = collect(ledger, task="t")
    (pair,) = found.pairs
    assert (pair.kind, pair.answer, pair.answers[1].content) == ("preference", "right", "shown")
    assert found.pair_ids == found.feedback_ids == (number,)
    ledger.export_feedback([number], "harvested", "test", {"increment": "feedback_1"})
    later = collect(ledger, task="t")
    assert (later.examples, later.pair_ids) == ((), (number,))
    ledger.export_feedback([number], "harvested", "test", {"increment": "feedback_2_dpo"})
    assert collect(ledger, task="t").pairs == ()
    assert ledger.feedback()[0].increment == "feedback_1+feedback_2_dpo"


def test_a_comparison_is_a_pair_whichever_side_won(ledger: Ledger) -> None:
    for value, chosen in ((1, "left 1"), (0, "right 0"), (0.5, None)):
        left = answered(ledger, f"q {value}", f"left {value}")
        says(ledger, left, "pair", value, other=answered(ledger, f"q {value}", f"right {value}"))
        assert (chosen is None) or chosen in [row.answer for row in collect(ledger, task="t").pairs]
    found = collect(ledger, task="t")
    assert len(found.pairs) == 2
    assert found.left_out == {"a comparison without a winner": 1}
    assert found.examples == (), "that one answer is better does not make it right"


def test_what_a_judge_said_of_shadow_pairs_makes_pairs_once(ledger: Ledger) -> None:
    for place, (old_score, new_score) in enumerate(((0.2, 0.9), (0.9, 0.2), (0.5, 0.6))):
        old = answered(ledger, f"q {place}", "old")
        new = answered(ledger, f"q {place}", "new", arm="shadow", twin=old, version=2)
        for name, score in ((old, old_score), (new, new_score)):
            says(ledger, name, "score", score, source="judge x", status="exported")
    found = collect(ledger, task="t")
    assert [row.answer for row in found.pairs] == ["new", "old"]
    ledger.export_feedback(found.pair_ids, "harvested", "test", {"increment": "feedback_1_dpo"})
    assert collect(ledger, task="t").pairs == ()


def test_thumbs_that_people_share_judge_an_answer(ledger: Ledger) -> None:
    good, bad, alone = (answered(ledger, f"question {name}", "shown") for name in ("good", "bad", "alone"))
    ids = [says(ledger, good, "thumb", 1, person=f"p{k}", source="k") for k in range(2)]
    ids += [says(ledger, bad, "thumb", 0, person=f"p{k}", source="k") for k in range(2)]
    says(ledger, alone, "thumb", 1, person="p0", source="k")
    looked = says(ledger, answered(ledger, "looked at"), "thumb", 1, status="accepted")
    found = collect(ledger, task="t")
    assert [(row.prompt[0].content, row.desirable) for row in found.thumbs] == [
        ("question good", True),
        ("question bad", False),
        ("looked at", True),
    ]
    assert found.thumb_ids == (*ids, looked)
    assert found.left_out == {"a thumb alone teaches no answer": 1}


def test_what_a_user_did_not_consent_to_is_never_learned(ledger: Ledger) -> None:
    for consent in ("refused", "given", "assumed"):
        name = answered(ledger, f"the question {consent}", consent=consent)
        says(ledger, name, "correction", text=consent)
    found = collect(ledger, task="t")
    assert [row.answer for row in found.examples] == ["given", "assumed"]
    assert [row.origin.extra["consent"] for row in found.examples] == ["given", "assumed"]
    assert found.left_out == {"its user did not consent to learning from it": 1}


def test_rows_say_where_they_came_from(ledger: Ledger) -> None:
    name = "chatcmpl-" + "a" * 24 + "-" + "b" * 32
    answered(ledger, "q", id=name)
    numbers = [says(ledger, name, "correction", text="right", person=f"p{k}", source="k") for k in range(2)]
    (row,) = collect(ledger, task="t").examples
    assert row.origin.extra == {
        "interaction": "chatcmpl-" + "a" * 24,
        "feedback": f"{numbers[1]},{numbers[0]}",
        "consent": "assumed",
        "person": "p1",
    }
    assert unsigned(name) == row.origin.extra["interaction"], "an id with its signature would let readers rate"


def test_what_one_person_says_is_held_with_its_reason(ledger: Ledger) -> None:
    number = says(ledger, answered(ledger, "q"), "correction", text="poison", person="p1", source="k")
    found = collect(ledger, task="t")
    assert found.examples == ()
    assert found.held == {number: "fewer than 2 independent people say so"}
    assert found.left_out == {"fewer than 2 independent people say so": 1}
    ledger.mark_feedback([number], "accepted")
    assert collect(ledger, task="t").vouched


def test_what_people_agree_on_is_not_vouched_for(ledger: Ledger) -> None:
    for person in ("p1", "p2"):
        says(ledger, answered(ledger, "q"), "correction", text="right", person=person, source="k")
    found = collect(ledger, task="t")
    assert len(found.examples) == 1
    assert not found.vouched
    says(ledger, answered(ledger, "q"), "correction", text="the operator knows better")
    found = collect(ledger, task="t")
    assert [row.answer for row in found.examples] == ["the operator knows better"]
    assert found.vouched


def test_turns_of_tools_are_left_out_and_counted(ledger: Ledger) -> None:
    turns = [ChatTurn(role="user", content="q"), ChatTurn(role="tool", content="{}")]
    says(ledger, answered(ledger, "q", messages=turns), "correction", text="right")
    found = collect(ledger, task="t")
    assert found.examples == ()
    assert found.left_out == {"the conversation has turns that cannot be learned from (tools)": 1}


def test_who_takes_a_rating_back_is_believed(ledger: Ledger) -> None:
    name = answered(ledger, "q")
    says(ledger, name, "stars", 5, time="2026-01-01T00:00:00+00:00")
    says(ledger, name, "stars", 1, time="2026-01-03T00:00:00+00:00")
    found = collect(ledger, task="t")
    assert found.examples == ()
    assert found.left_out == {
        "a newer opinion of the same person says otherwise": 1,
        "fewer than 4 stars and no correction": 1,
    }
