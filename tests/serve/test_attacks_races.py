"""What is lost between two steps: a ledger that says no after it has said yes."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gateway_kit import Hall, chat, make_hall, send, serving, until
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


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    made = make_hall(tmp_path / "assistant")
    yield made
    made.space.close()


def test_feedback_that_waits_for_the_ledger_keeps_no_rollback_waiting(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each opinion waits for its answer to be written; while it is not, a hundred of them must not take all threads."""
    _, admin = hall.ledger.keys.create("boss", ["admin", "infer", "feedback"])
    stuck = threading.Event()
    write = Ledger.add_interactions

    def waits(self: Ledger, added: list[Interaction]) -> None:
        stuck.wait(60)
        write(self, added)

    hall.ledger.promote(2, actor="test", why="next")
    with serving(hall) as server, ThreadPoolExecutor(101) as users:
        until(lambda: chat(server.url, key=admin).headers.get("x-nacre-version") == "2")
        monkeypatch.setattr(Ledger, "add_interactions", waits)
        said = {"response_id": chat(server.url, key=admin).body["id"], "thumb": "up"}
        told = [users.submit(send, server.url, "/v1/feedback", said, key=admin) for _ in range(100)]
        until(lambda: send(server.url, "/metrics", key=admin).body.count(b"nacre_requests_running 100.0") == 1)
        back = users.submit(send, server.url, "/admin/rollback", {"why": "bad"}, key=admin)
        try:
            until(lambda: hall.ledger.slots()["champion"].version == 1)
            until(lambda: chat(server.url, key=admin).headers["x-nacre-version"] == "1")
            assert not any(one.done() for one in told), "the opinions were to wait meanwhile"
        finally:
            stuck.set()
        assert back.result().status == 200
        assert {one.result().status for one in told} <= {200, 400}


def test_long_prompts_do_not_fill_the_memory_while_the_ledger_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        def add_interactions(self, added: list[Interaction]) -> None:
            raise NacreError("away")

    monkeypatch.setattr(interactions, "_MOST_LETTERS", 1000)
    writer = Writer(Away())  # type: ignore[arg-type]  # of the ledger nothing else is asked
    for number in range(30):
        writer.add(_interaction(number).changed(answer="x" * 100))
    assert writer.dropped == 20
    writer.close()


def test_what_is_written_makes_room(champion: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactions, "_MOST_LETTERS", 1000)
    writer = Writer(champion.ledger)
    for number in range(30):
        writer.add(_interaction(number).changed(answer="x" * 100))
        writer.flush()
    writer.close()
    assert writer.dropped == 0
    assert champion.ledger.interaction("chatcmpl-0029") is not None
