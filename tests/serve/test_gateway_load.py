"""Promotions, rollbacks and kills while 32 clients stream."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_kit import WHY, Hall, NamedEngine, make_hall, send
from load_kit import Child, Load, child, lateness
from serving_kit import ANSWERS, QUESTION, Place

CLIENTS = 32
SAID = {str(number): f"{number}: hello" for number in range(1, 5)}


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    NamedEngine.forget()
    made = make_hall(tmp_path / "assistant")
    yield made
    made.space.close()


def _address(hall: Hall) -> tuple[str, Path, Path]:
    return f"sqlite:///{hall.space.hidden / 'ledger.db'}", hall.space.hidden / "artifacts", hall.space.hidden / "secret"


def _back_and_forth(load: Load, hall: Hall | Place, turns: int) -> list[float]:
    """Promote and roll back so many times in a row; seconds until each took effect."""
    took = []
    for turn in range(turns):
        if turn % 2:
            hall.ledger.rollback(actor="test", why="back")
        else:
            hall.ledger.promote(2, actor="test", why="forth")
        took.append(load.wait_for("1" if turn % 2 else "2", time.monotonic()))
    return took


def test_no_request_fails_and_no_answer_is_mixed_while_versions_change(hall: Hall) -> None:
    with child(*_address(hall), engine="named") as server, Load(server.url, CLIENTS, SAID) as load:
        load.wait_for("1", time.monotonic())
        _back_and_forth(load, hall, 6)
    assert load.problems == []
    assert {one.version for one in load.seen} == {"1", "2"}


def test_a_canary_is_taken_back_while_users_stream(hall: Hall) -> None:
    with child(*_address(hall), engine="named") as server, Load(server.url, CLIENTS, SAID) as load:
        load.wait_for("1", time.monotonic())
        hall.release(2, steps=[50, 100])
        while not any(one.version == "2" for one in list(load.seen)):
            time.sleep(0.02)
        hall.ledger.releases.move("abort", WHY)
        load.wait_for("1", time.monotonic())
    assert load.problems == []


@pytest.mark.slow
@pytest.mark.alone
def test_a_hundred_promotions_and_rollbacks_of_real_models_take_effect_within_a_second_each(champion: Place) -> None:
    store = champion.store.path(champion.ledger.version(1).artifact).parent
    says = {"1": ANSWERS[0], "2": ANSWERS[1]}
    with (
        child(champion.url, store, champion.secret) as server,
        Load(server.url, CLIENTS, says, question=QUESTION) as load,
    ):
        load.wait_for("1", time.monotonic())
        champion.ledger.promote(2, actor="test", why="load it")
        load.wait_for("2", time.monotonic())
        champion.ledger.rollback(actor="test", why="and go back")
        load.wait_for("1", time.monotonic())
        with lateness() as late:
            took = _back_and_forth(load, champion, 100)
    print(f"{len(load.seen)} answers; effective after {sorted(took)[50]:.3f} s (median), {max(took):.3f} s (most)")
    assert load.problems == []
    assert max(took) <= 1.0 + 2 * max(late), "a busy machine is late by itself, in this process and in the server's"


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(hall: Hall) -> None:
    with child(*_address(hall), engine="named") as server, Load(server.url, CLIENTS, SAID, rate=True) as load:
        while len(load.rated) < 100:
            assert not load.problems
            time.sleep(0.01)
        server.kill()
        while len(load.problems) < CLIENTS:
            time.sleep(0.01)
    acknowledged = set(load.rated)
    assert acknowledged <= {opinion.id for opinion in hall.ledger.feedback()}
    assert all(
        one.startswith(("Client", "Server", "Connection", "ValueError: the stream was cut")) for one in load.problems
    )
    hall.ledger.verify_chain()
    kept = hall.ledger.releases.observed.latest(1)[0]
    with child(*_address(hall), engine="named") as again, Load(again.url, 4, SAID, rate=True) as after:
        _rates(again, kept.id)
        while len(after.rated) < 20:
            time.sleep(0.01)
    assert after.problems == []


def _rates(server: Child, identity: str) -> None:
    """An answer from before the kill can be rated after it: its signature is still known."""
    reply = send(server.url, "/v1/feedback", {"response_id": identity, "thumb": "up"})
    assert reply.status == 200, reply
