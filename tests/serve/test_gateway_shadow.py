"""The shadow: what it is asked, what is kept of it, and that no user ever waits for it."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_kit import WHY, Hall, NamedEngine, chat, loaded, make_hall, send, serving, until

from nacre.cycle.releases.rollout import look
from nacre.cycle.releases.steering import status
from nacre.records import Interaction


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    NamedEngine.forget()
    made = make_hall(tmp_path / "assistant")
    made.release(2, shadow_requests=100, steps=[50, 100])
    yield made
    made.space.close()
    NamedEngine.forget()


def _pairs(hall: Hall) -> list[tuple[Interaction, Interaction]]:
    rollout = hall.ledger.releases.active()
    assert rollout is not None
    found = []
    for pair in hall.ledger.releases.observed.pairs(rollout):
        old, new = (hall.ledger.interaction(identity) for identity in pair.ids)
        assert old is not None
        assert new is not None
        found.append((old, new))
    return found


def _count(url: str, key: str, name: str) -> float:
    lines = send(url, "/metrics", key=key).body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_the_shadow_answers_every_request_unseen_and_is_paired_with_the_champion(hall: Hall) -> None:
    with serving(hall) as server:
        loaded(server.url, "shadow")
        replies = [chat(server.url, f"question {number}", user="ann") for number in range(5)]
        assert [reply.text for reply in replies] == [f"1: question {number}" for number in range(5)]
        assert {reply.headers["x-nacre-arm"] for reply in replies} == {"champion"}
        until(lambda: len(_pairs(hall)) == 5)
    pairs = {old.id: (old, new) for old, new in _pairs(hall)}
    for reply in replies:
        old, new = pairs[reply.body["id"]]
        assert (old.id, new.twin, old.arm, new.arm) == (reply.body["id"], reply.body["id"], "champion", "shadow")
        assert new.answer == old.answer.replace("1:", "2:")
        assert (new.version, new.finish, new.messages, new.session) == (2, "stop", old.messages, old.session)
        assert new.id not in str(reply)
    told = status(hall.space)["active"]["similarity"]
    assert told["pairs"] == 5
    assert 0.5 < told["mean"] < 1
    assert told["same"] == 0


def test_what_may_not_be_kept_or_is_no_plain_answer_of_the_champion_is_not_asked(hall: Hall) -> None:
    with serving(hall) as server:
        loaded(server.url, "shadow")
        chat(server.url, headers={"x-nacre-no-store": "1"})
        chat(server.url, model="bot@2")
        chat(server.url, n=2)
        tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
        chat(server.url, tools=[tool])
        last = chat(server.url, "the last")
        until(lambda: len(_pairs(hall)) == 1)
    assert _pairs(hall)[0][0].id == last.body["id"]


def test_a_failing_or_hanging_shadow_is_kept_as_an_error_and_users_see_nothing(hall: Hall) -> None:
    with serving(hall, shadow={"deadline_s": 0.3, "patience_s": 0}) as server:
        loaded(server.url, "shadow")
        NamedEngine.failing.add(2)
        assert chat(server.url).text == "1: hello"
        until(lambda: len(_pairs(hall)) == 1)
        NamedEngine.failing.clear()
        NamedEngine.piece_s[2] = 3600.0
        assert chat(server.url).text == "1: hello"
        until(lambda: len(_pairs(hall)) == 2)
        NamedEngine.piece_s.clear()
        assert chat(server.url).text == "1: hello"
        until(lambda: len(_pairs(hall)) == 3)
    assert [new.finish for _, new in _pairs(hall)] == ["error", "error", "stop"]
    seen = look(hall.space)
    assert seen is not None
    assert [one.metric for one in seen.sight.findings] == ["shadow errors"]
    assert seen.sight.findings[0].arms.after == pytest.approx(2 / 3)


def test_a_full_queue_drops_the_newest_and_counts_it(hall: Hall) -> None:
    _, key = hall.ledger.keys.create("boss", ["admin", "infer"])
    NamedEngine.piece_s[2] = 3600.0
    with serving(hall, shadow={"queue": 3, "patience_s": 0}, drain_s=1) as server:
        loaded(server.url, "shadow", key)
        for _ in range(10):
            assert chat(server.url, key=key).text == "1: hello"
        assert _count(server.url, key, 'nacre_shadow_dropped_total{why="full"}') == 6
        assert _count(server.url, key, "nacre_shadow_waiting") == 3


def test_a_share_of_the_requests_is_asked_and_none_after_the_shadow(hall: Hall) -> None:
    with serving(hall, shadow={"share": 0.3, "queue": 1000}) as server:
        loaded(server.url, "shadow")
        for _ in range(150):
            chat(server.url)
        until(lambda: len(_pairs(hall)) > 20)
        time.sleep(0.3)
        count = len(_pairs(hall))
        assert abs(count - 45) <= 4 * (150 * 0.3 * 0.7) ** 0.5
        hall.ledger.releases.move("abort", WHY)
        until(lambda: "bot:shadow" not in str(send(server.url, "/v1/models").body))
        before = len(hall.ledger.releases.observed.latest(1000))
        chat(server.url)
        until(lambda: len(hall.ledger.releases.observed.latest(1000)) == before + 1)


def test_users_wait_no_longer_for_a_shadow_that_never_answers(hall: Hall) -> None:
    """Every task of the shadow is stuck and its queue is full: what a user waits for must stay what it was."""
    NamedEngine.piece_s[2] = 3600.0

    def median(url: str) -> float:
        times = []
        for _ in range(60):
            began_s = time.monotonic()
            assert chat(url).status == 200
            times.append(time.monotonic() - began_s)
        return statistics.median(times)

    with serving(hall, shadow={"queue": 5, "concurrency": 4}, drain_s=1) as server:
        loaded(server.url, "shadow")
        stuck = median(server.url)
    assert stuck < 1.0, "an answer that waits for the shadow takes its deadline, two minutes"


def test_pairs_are_shown_to_an_admin_while_the_release_is_on(hall: Hall) -> None:
    _, key = hall.ledger.keys.create("boss", ["admin", "infer"])
    with serving(hall) as server:

        def shown() -> list[dict[str, str]]:
            found: list[dict[str, str]] = send(server.url, "/admin/pairs", key=key).body["pairs"]
            return found

        loaded(server.url, "shadow", key)
        assert shown() == []
        chat(server.url, "which?", key=key)
        until(lambda: shown() != [])
        (found,) = shown()
        assert (found["question"], found["champion"], found["shadow"]) == ("which?", "1: which?", "2: which?")
        hall.ledger.releases.move("abort", WHY)
        assert shown() == []
