"""Two gateways on two hosts, as processes of their own with no file in common but the store, on one PostgreSQL ledger.

What every gateway counts for itself is looked at too: it is said in the documents.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import sqlalchemy as sa
from gateway_kit import WHY, Hall, NamedEngine, Reply, chat, make_hall, send, until
from load_kit import child

from nacre.records.key import Limits
from nacre.serve.gateway.ids import SECRET
from postgres_kit import postgres  # noqa: F401  # a fixture is used by its name

pytestmark = pytest.mark.slow
USERS = [f"user {number}" for number in range(40)]


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Hall]:
    first = request.getfixturevalue("postgres")
    engine = sa.create_engine(first, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("create database gateways_apart"))
    engine.dispose()
    NamedEngine.forget()
    made = make_hall(tmp_path_factory.mktemp("hosts") / "assistant", first.replace("/postgres?", "/gateways_apart?"))
    yield made
    made.space.close()


@pytest.fixture(scope="module")
def key(hall: Hall) -> str:
    return hall.ledger.keys.create("ann", ["infer", "feedback"])[1]


@pytest.fixture(scope="module")
def pair(hall: Hall, key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Both servers' addresses. Each has a folder of its own; the secret comes from the environment."""
    url, store = hall.space.settings.ledger.url, hall.space.hidden / "artifacts"
    with pytest.MonkeyPatch.context() as patch, ExitStack() as running:
        patch.setenv(SECRET, "a secret that both gateways are given")
        folders = [tmp_path_factory.mktemp(f"host-{place}") for place in (1, 2)]
        started = [running.enter_context(child(url, store, folder / "secret", engine="named")) for folder in folders]
        yield started[0].url, started[1].url


def asked(url: str, user: str, key: str) -> tuple[str, str]:
    reply = chat(url, user=user, key=key)
    return reply.headers["x-nacre-arm"], reply.text


def test_a_user_meets_one_version_on_both_and_a_promotion_reaches_both(hall: Hall, pair, key: str) -> None:
    hall.release(2, steps=[50, 100])
    for url in pair:
        until(lambda url=url: "bot:challenger" in str(send(url, "/v1/models", key=key).body))
    one, other = ({user: asked(url, user, key) for user in USERS} for url in pair)
    assert one == other
    assert set(one.values()) == {("champion", "1: hello"), ("challenger", "2: hello")}
    hall.ledger.releases.move("promote", WHY)
    for url in pair:
        until(lambda url=url: {asked(url, user, key) for user in USERS[:8]} == {("champion", "2: hello")})
    hall.ledger.rollback(actor="test", why="back")
    for url in pair:
        until(lambda url=url: {asked(url, user, key) for user in USERS[:8]} == {("champion", "1: hello")})
    slots = {name: held.version for name, held in hall.ledger.slots().items()}
    assert slots["champion"] == 1


def test_an_opinion_may_be_given_to_the_other_gateway_at_once(hall: Hall, pair, key: str) -> None:
    def rate(url: str, answer: Reply) -> Reply:
        return send(url, "/v1/feedback", {"response_id": answer.body["id"], "stars": 4}, key=key)

    for asking, told in (pair, pair[::-1]):
        for _ in range(4):
            answer = chat(asking, key=key)
            said = rate(told, answer)  # before the other has written the answer, which it does with many at a time
            assert said.status == 200, said.body
            kept = hall.ledger.interaction(answer.body["id"])
            assert kept is not None
            assert kept.answer == answer.text


def test_a_budget_is_of_both_and_a_limit_a_minute_of_each(hall: Hall, pair, key: str) -> None:
    one, other = pair
    _, poor = hall.ledger.keys.create("poor", ["infer"], limits=Limits(budget=60, budget_per="total"))
    _, slow = hall.ledger.keys.create("slow", ["infer"], limits=Limits(requests=2))
    for url in pair:
        until(lambda url=url: chat(url, key=poor).status != 401)
        until(lambda url=url: chat(url, key=slow).status != 401)
    until(lambda: chat(one, key=poor).status == 429)
    until(lambda: chat(other, key=poor).status == 429)
    assert chat(other, key=poor).code == "insufficient_quota"
    until(lambda: chat(one, key=slow).status == 429)
    assert chat(other, key=slow).status == 200, "the other has a bucket of its own, which one request has left"


def test_a_key_that_was_revoked_on_one_opens_neither(hall: Hall, pair, key: str) -> None:
    _, boss = hall.ledger.keys.create("boss", ["admin"])
    made, secret = hall.ledger.keys.create("gone", ["infer"])
    for url in pair:
        until(lambda url=url: chat(url, key=secret).status == 200)
        until(lambda url=url: send(url, "/admin/keys", key=boss).status == 200)
    assert send(pair[0], f"/admin/keys/{made.id}/revoke", {}, key=boss).status == 200
    for url in pair:
        until(lambda url=url: chat(url, key=secret).status == 401)


@pytest.mark.alone
def test_a_promotion_is_routed_by_both_within_a_second(hall: Hall, pair, key: str) -> None:
    for version in (3, 4, 3):
        hall.ledger.promote(version, actor="test", why="newer")
        took_s = [
            until(lambda url=url, version=version: chat(url, key=key).text == f"{version}: hello") for url in pair
        ]
        assert sum(took_s) < 1.0, "both are looked at one after the other"
