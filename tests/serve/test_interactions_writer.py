import time
from collections.abc import Sequence

import pytest
from serving_kit import Place

from nacre.base.errors import NacreError
from nacre.records import ChatTurn, Interaction
from nacre.registry.ledger import Ledger
from nacre.serve import interactions
from nacre.serve.interactions import Writer


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
