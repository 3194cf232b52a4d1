"""Promotions, rollbacks and kills while 32 clients stream, with a second nacre behind the gateway."""

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from gateway_kit import Hall, NamedEngine, make_hall, send
from load_kit import Child, Load, child, lateness

from postgres_kit import postgres  # noqa: F401  # a fixture is used by its name

CLIENTS = 32
SAID = {str(number): f"{number}: hello" for number in range(1, 5)}
CLEAN = (
    "Client",
    "Server",
    "Connection",
    "ValueError: the stream was cut",
    "ValueError: the upstream",
    "ValueError: 503",
)

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture
def hall(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hall]:
    NamedEngine.forget()
    url = request.getfixturevalue("postgres") if request.param == "postgresql" else ""
    if url:
        name = f"load_{secrets.token_hex(4)}"
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        url = url.replace("/postgres?", f"/{name}?")
    made = make_hall(tmp_path / "assistant", url)
    yield made
    made.space.close()


def server(hall: Hall, **settings: Any) -> AbstractContextManager[Child]:
    url = hall.space.settings.ledger.url or f"sqlite:///{hall.space.hidden / 'ledger.db'}"
    return child(url, hall.space.hidden / "artifacts", hall.space.hidden / "secret", **settings)


def gateway(hall: Hall, behind: Child) -> AbstractContextManager[Child]:
    upstream = {"urls": (behind.url,), "kind": "nacre", "health_s": 0.2, "breaker_open_s": 0.5}
    return server(hall, engine="upstream", upstream=upstream)


@pytest.mark.parametrize("hall", ["postgresql"], indirect=True)
def test_a_hundred_promotions_and_rollbacks_reach_through_both_within_a_second_each(hall: Hall) -> None:
    with ExitStack() as running:
        behind = running.enter_context(server(hall, engine="named"))
        front = running.enter_context(gateway(hall, behind))
        load = running.enter_context(Load(front.url, CLIENTS, SAID))
        load.wait_for("1", time.monotonic())
        hall.ledger.promote(2, actor="test", why="load it")
        load.wait_for("2", time.monotonic())
        hall.ledger.rollback(actor="test", why="and go back")
        load.wait_for("1", time.monotonic())
        took = []
        with lateness() as late:
            for turn in range(100):
                if turn % 2:
                    hall.ledger.rollback(actor="test", why="back")
                else:
                    hall.ledger.promote(2, actor="test", why="forth")
                took.append(load.wait_for("1" if turn % 2 else "2", time.monotonic()))
    print(f"{len(load.seen)} answers; effective after {sorted(took)[50]:.3f} s (median), {max(took):.3f} s (most)")
    assert load.problems == []
    assert max(took) <= 1.0 + 2 * max(late), "a busy machine is late by itself, in this process and in the servers'"


@pytest.mark.parametrize("hall", ["sqlite"], indirect=True)
def test_kill_9_of_the_gateway_loses_nothing_that_was_acknowledged(hall: Hall) -> None:
    with server(hall, engine="named") as behind:
        with gateway(hall, behind) as front, Load(front.url, CLIENTS, SAID, rate=True) as load:
            _rated(load, 100)
            front.kill()
            while len(load.problems) < CLIENTS:
                time.sleep(0.01)
        assert all(one.startswith(CLEAN) for one in load.problems), set(load.problems)
        _all_kept(hall, load)
        kept = hall.ledger.releases.observed.latest(1)[0]
        with gateway(hall, behind) as again, Load(again.url, 4, SAID, rate=True) as after:
            reply = send(again.url, "/v1/feedback", {"response_id": kept.id, "thumb": "up"})
            assert reply.status == 200, reply
            _rated(after, 20)
        assert after.problems == []


@pytest.mark.parametrize("hall", ["postgresql"], indirect=True)
def test_kill_9_of_what_stands_behind_gives_clean_errors_until_it_is_back(hall: Hall) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as running:
        behind = running.enter_context(server(hall, engine="named", port=port))
        front = running.enter_context(gateway(hall, behind))
        load = running.enter_context(Load(front.url, CLIENTS, SAID, rate=True))
        _rated(load, 100)
        behind.kill()
        while len(load.problems) < CLIENTS:
            time.sleep(0.01)
        running.enter_context(server(hall, engine="named", port=port))
        before = len(load.rated)
        _rated(load, before + 100, problems=True)
        assert any(not one.problem for one in load.seen[-2 * CLIENTS :])
    assert all(one.startswith(CLEAN) for one in load.problems), set(load.problems)
    _all_kept(hall, load)


def _rated(load: Load, count: int, *, problems: bool = False) -> None:
    """Wait until so many opinions are acknowledged."""
    until_s = time.monotonic() + 120
    while len(load.rated) < count:
        assert problems or not load.problems, load.problems[:3]
        assert time.monotonic() < until_s, "the clients get nowhere"
        time.sleep(0.01)


def _all_kept(hall: Hall, load: Load) -> None:
    acknowledged = set(load.rated)
    assert acknowledged <= {opinion.id for opinion in hall.ledger.feedback()}
    hall.ledger.verify_chain()
