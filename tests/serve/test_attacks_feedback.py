"""Feedback that floods: the same vote again and again, and words without an end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_kit import Hall, chat, loaded, make_hall, send, serving

from nacre.registry.conversations import MOST_OPINIONS
from nacre.registry.observed import Observed


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    made = make_hall(tmp_path / "assistant")
    yield made
    made.space.close()


def test_an_answer_takes_so_many_opinions_and_one_of_them_counts(hall: Hall) -> None:
    rollout = hall.release(2)
    with serving(hall) as server:
        loaded(server.url, "challenger")
        answers = {}
        for number in range(40):
            reply = chat(server.url, "hello", user=f"user {number}")
            answers[reply.headers["x-nacre-arm"]] = reply.body["id"]
        assert set(answers) == {"champion", "challenger"}
        said = {"response_id": answers["challenger"], "thumb": "down"}
        statuses = [send(server.url, "/v1/feedback", said).status for _ in range(MOST_OPINIONS + 5)]
        assert statuses == [200] * MOST_OPINIONS + [400] * 5
        refused = send(server.url, "/v1/feedback", said)
        assert refused.code == "too_many_opinions"
        assert send(server.url, "/v1/feedback", said | {"response_id": answers["champion"]}).status == 200
    assert len(hall.ledger.feedback()) == MOST_OPINIONS + 1
    opinions = Observed(hall.ledger._database).opinions(rollout)
    assert len(opinions) == 2, "a thousand votes on one answer are one vote to a release"


def test_words_have_a_length(hall: Hall) -> None:
    with serving(hall) as server:
        identity = chat(server.url, "hello").body["id"]
        for kind in ("comment", "correction"):
            said = {"response_id": identity, kind: "x" * (64 * 1024)}
            assert send(server.url, "/v1/feedback", said).status == 200
            assert send(server.url, "/v1/feedback", said | {kind: "x" * (64 * 1024 + 1)}).status == 400
    assert len(hall.ledger.feedback()) == 2
