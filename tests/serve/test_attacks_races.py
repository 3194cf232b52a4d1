"""What is lost between two steps: a ledger that says no after it has said yes."""

import threading

import pytest
from serving_kit import Place

from nacre.base.errors import NacreError
from nacre.records import Interaction
from nacre.registry.ledger import Ledger
from nacre.serve import interactions
from nacre.serve.interactions import Writer


class Forgetful(Ledger):
    """Its connection breaks right after the first commit: the rows are there, and the writer is told they are not."""

    broke: threading.Event

    def add_interactions(self, added: list[Interaction]) -> None:  # type: ignore[override]  # what the writer gives
        super().add_interactions(added)
        if not self.broke.is_set():
            self.broke.set()
            raise NacreError("the connection was lost")


def _interaction(number: int) -> Interaction:
    return Interaction(
        id=f"chatcmpl-{number:04}",
        time="2026-01-01T00:00:00.000+00:00",
        version=1,
        arm="champion",
        messages=(),
        answer="a",
        finish="stop",
    )


def test_what_came_while_a_lost_commit_was_tried_again_is_written(
    champion: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next batch holds rows that are stored and rows that are not; `flush` has acknowledged them all."""
    monkeypatch.setattr(interactions, "_RETRY_S", 0.5)
    ledger = Forgetful(champion.url, champion.store)
    ledger.broke = threading.Event()
    writer = Writer(ledger)
    writer.add(_interaction(0))
    assert ledger.broke.wait(20)
    for number in range(1, 5):
        writer.add(_interaction(number))
    writer.flush()
    writer.close()
    assert writer.dropped == 0
    assert [number for number in range(5) if ledger.interaction(f"chatcmpl-{number:04}") is None] == []
    ledger.close()
