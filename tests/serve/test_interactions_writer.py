import time
from collections.abc import Sequence

import pytest
from serving_kit import Place

from nacre.base.errors import NacreError
from nacre.records import ChatTurn, Feedback, Interaction
from nacre.registry.conversations import NoAnswer
from nacre.registry.ledger import Ledger
from nacre.serve import interactions
from nacre.serve.interactions import Writer
from nacre.serve.privacy import Redactor


class Refusing(Ledger):
    """A ledger whose disk is full for the first `refusals` writes."""

    refusals = 0
    batches: list[int]

    def add_interactions(self, added: Sequence[Interaction]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise NacreError("the disk is full")
        super().add_interactions(added)
        self.batches.append(len(added))


@pytest.fixture
def ledger(champion: Place) -> Refusing:
    ledger = Refusing(champion.url, champion.store)
    ledger.batches = []
    return ledger


def _interaction(number: int) -> Interaction:
    return Interaction(
        id=f"chatcmpl-{number:04}",
        time=f"2025-01-01T00:00:00.{number:03}+00:00",
        version=1,
        arm="champion",
        messages=(ChatTurn(role="user", content="q"),),
        answer="a",
        finish="stop",
    )


def test_all_is_written_in_order_and_in_batches_although_the_ledger_refuses_at_first(
    ledger: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactions, "_RETRY_S", 0.05)
    ledger.refusals = 3
    writer = Writer(ledger)
    for number in range(100):
        writer.add(_interaction(number))
    writer.flush()
    assert all(ledger.interaction(f"chatcmpl-{number:04}") for number in range(100))
    assert sum(ledger.batches) == 100
    assert len(ledger.batches) <= 2, "what waited must be written together"
    writer.close()
    ledger.close()


def test_flush_says_when_the_ledger_does_not_take_it_and_close_counts_the_loss(
    ledger: Refusing, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.refusals = 1000
    writer = Writer(ledger)
    writer.add(_interaction(1))
    with pytest.raises(NacreError, match="does not take"):
        writer.flush(timeout_s=0.2)
    writer.close()
    assert "1 interactions were not written" in caplog.text
    ledger.close()


def test_memory_is_bounded_and_what_is_dropped_is_counted(ledger: Refusing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactions, "_MOST_KEPT", 10)
    ledger.refusals = 1000
    writer = Writer(ledger)
    for number in range(25):
        writer.add(_interaction(number))
    assert writer.dropped == 15
    writer.close()
    assert ledger.batches == []
    ledger.close()


def test_what_a_ledger_refused_before_the_end_is_tried_once_more_at_the_end(ledger: Refusing) -> None:
    ledger.refusals = 1_000_000
    writer = Writer(ledger)
    for number in range(10):
        writer.add(_interaction(number))
    while ledger.refusals == 1_000_000:
        time.sleep(0.01)
    ledger.refusals = 0
    writer.close()
    assert sum(ledger.batches) == 10
    ledger.close()


def _opinion(number: int, text: str = "") -> Feedback:
    kind = {"kind": "comment", "text": text} if text else {"kind": "stars", "value": 5}
    return Feedback.model_validate({"time": "t", "interaction": f"chatcmpl-{number:04}"} | kind)


def test_an_opinion_waits_for_its_answer_however_many_are_before_it(ledger: Refusing) -> None:
    writer = Writer(ledger)
    for number in range(1200):
        writer.add(_interaction(number % 1000).changed(id=f"chatcmpl-{number:04}"))
    late, early, unknown = writer.say([_opinion(1199)]), writer.say([_opinion(3)] * 2), writer.say([_opinion(9999)])
    assert len(late.result(30)) == 1
    assert len(set(early.result(30))) == 2
    with pytest.raises(NoAnswer):
        unknown.result(30)
    assert len(ledger.feedback()) == 3
    writer.close()
    ledger.close()


def test_while_answers_are_refused_opinions_wait_and_one_whose_client_left_is_not_stored(
    ledger: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactions, "_RETRY_S", 0.05)
    ledger.refusals = 1_000_000
    writer = Writer(ledger, Redactor(("pii",)))
    writer.add(_interaction(1).changed(answer="ann@example.org"))
    waits, left = writer.say([_opinion(1)]), writer.say([_opinion(1, "gone")])
    while ledger.refusals > 999_998:
        time.sleep(0.01)
    writer.add(_interaction(2))
    assert left.cancel()
    assert not waits.done()
    ledger.refusals = 0
    assert len(waits.result(30)) == 1
    writer.flush()
    assert [one.kind for one in ledger.feedback()] == ["stars"]
    first, second = ledger.interaction("chatcmpl-0001"), ledger.interaction("chatcmpl-0002")
    assert first is not None
    assert second is not None
    assert (first.answer, first.removed, second.prompt) == ("[EMAIL]", {"EMAIL": 1}, first.prompt)
    assert dict(writer.redactor.removed) == {"EMAIL": 1}, "cleaned once, however often it is tried"
    writer.close()
    ledger.close()


def test_who_speaks_when_it_ends_is_told(ledger: Refusing) -> None:
    ledger.refusals = 1_000_000
    writer = Writer(ledger)
    writer.add(_interaction(1))
    waits = writer.say([_opinion(1)])
    writer.close()
    for one in (waits, writer.say([_opinion(1)])):
        with pytest.raises(NacreError, match="does not take"):
            one.result(1)
    ledger.close()


def test_half_a_character_does_not_end_the_writing(ledger: Refusing) -> None:
    writer = Writer(ledger)
    writer.add(_interaction(1).model_copy(update={"answer": "half \ud800"}))
    writer.add(_interaction(2))
    writer.flush()
    kept = [ledger.interaction(f"chatcmpl-{number:04}") for number in (1, 2)]
    assert [one.answer for one in kept if one] == ["half \ufffd", "a"]
    writer.close()
    ledger.close()
