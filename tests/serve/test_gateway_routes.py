"""Who is answered by which version: shares, stickiness, names, and how fast the ledger's moves take effect."""

import collections
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from gateway_kit import WHY, Hall, NamedEngine, chat, make_hall, send, serving, until

from nacre.serve import live
from nacre.serve.engines import Target
from nacre.serve.routing import Live, user_of
from postgres_kit import postgres  # noqa: F401  # a fixture is used by its name

USERS = 10_000


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    NamedEngine.forget()
    made = make_hall(tmp_path / "assistant")
    yield made
    made.space.close()
    NamedEngine.forget()


def _live(hall: Hall) -> Live:
    slots = {name: held.version for name, held in hall.ledger.slots().items()}
    targets = {name: Target(number, hall.resolve(hall.ledger.version(number))) for name, number in slots.items()}
    return Live(targets, hall.ledger.releases.active())


def _arms(routes: Live, key: str = "k") -> dict[str, str]:
    found = {f"user {number}": routes.route(user_of(key, f"user {number}")) for number in range(USERS)}
    return {user: route.arm for user, route in found.items() if route is not None}


@pytest.mark.parametrize("percent", [1, 5, 50, 100])
def test_a_canary_has_its_share_of_ten_thousand_users(hall: Hall, percent: int) -> None:
    hall.release(2, steps=[percent] if percent < 100 else [50, 100])
    if percent == 100:
        hall.ledger.releases.move("advance", WHY)
    arms = _arms(_live(hall))
    count = collections.Counter(arms.values())["challenger"]
    deviation = (USERS * percent / 100 * (1 - percent / 100)) ** 0.5
    assert abs(count - USERS * percent / 100) <= 4 * deviation
    assert len(arms) == USERS


def test_users_keep_their_arm_while_the_share_grows_and_get_another_with_another_rollout(hall: Hall) -> None:
    hall.release(2, steps=[5, 25, 50, 100])
    small = {user for user, arm in _arms(_live(hall)).items() if arm == "challenger"}
    hall.ledger.releases.move("advance", WHY)
    larger = {user for user, arm in _arms(_live(hall)).items() if arm == "challenger"}
    assert small < larger
    hall.ledger.releases.move("abort", WHY)
    assert set(_arms(_live(hall)).values()) == {"champion"}
    hall.release(3, steps=[5, 100])
    other = {user for user, arm in _arms(_live(hall)).items() if arm == "challenger"}
    assert len(small & other) < len(small) / 4


def test_one_key_cannot_choose_the_arm_of_another_keys_user(hall: Hall) -> None:
    hall.release(2, steps=[50, 100])
    routes = _live(hall)
    mine, theirs = _arms(routes, "key a"), _arms(routes, "key b")
    differing = sum(mine[user] != theirs[user] for user in mine)
    assert abs(differing - USERS / 2) <= 4 * (USERS / 4) ** 0.5
    assert user_of("a", "b\nc") != user_of("a\nb", "c") or user_of("a", "b\nc") != user_of("ab", "\nc")


def test_two_gateways_and_a_restart_give_a_user_the_same_arm(hall: Hall) -> None:
    _same_everywhere(hall)


def test_two_gateways_on_postgresql_give_a_user_the_same_arm(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    first = request.getfixturevalue("postgres")
    engine = sa.create_engine(first, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("create database two_gateways"))
    engine.dispose()
    NamedEngine.forget()
    hall = make_hall(tmp_path / "on-postgres", first.replace("/postgres?", "/two_gateways?"))
    _same_everywhere(hall)
    hall.space.close()


def _same_everywhere(hall: Hall) -> None:
    users = [f"user {number}" for number in range(24)]
    hall.release(2, steps=[50, 100])

    def arms(url: str) -> dict[str, tuple[str, str]]:
        replies = {user: chat(url, user=user) for user in users}
        return {user: (reply.headers["x-nacre-arm"], reply.text) for user, reply in replies.items()}

    with serving(hall) as one, serving(hall) as other:
        for server in (one, other):
            until(lambda server=server: len(send(server.url, "/v1/models").body["data"]) == 5)
        found = arms(one.url)
        assert arms(other.url) == found
    assert set(found.values()) == {("champion", "1: hello"), ("challenger", "2: hello")}
    with serving(hall) as again:
        until(lambda: len(send(again.url, "/v1/models").body["data"]) == 5)
        assert arms(again.url) == found
    kept = [one for one in hall.ledger.releases.observed.latest(1000) if one.session]
    sessions = collections.defaultdict(set)
    for one in kept:
        sessions[one.session].add((one.arm, one.version))
    assert len(sessions) == len(users)
    assert all(len(met) == 1 for met in sessions.values()), "a user met two versions"


def test_names_reach_slots_and_versions_and_count_in_no_comparison(hall: Hall) -> None:
    hall.release(2)
    with serving(hall) as server:
        until(lambda: chat(server.url, model="bot:challenger").status == 200)
        for name, version in (("bot@1", "1"), ("bot@2", "2"), ("bot:champion", "1"), ("bot:challenger", "2")):
            reply = chat(server.url, model=name)
            assert (reply.text, reply.headers["x-nacre-version"]) == (f"{version}: hello", version)
            assert reply.headers["x-nacre-arm"] == "direct"
        for name in ("bot@3", "bot:shadow", "bot@", "bot:", "bot@../1", "bot@1/../2", "BOT", "bot@1@2", "/etc/passwd"):
            assert chat(server.url, model=name).code == "model_not_found", name
    arms = {one.arm for one in hall.ledger.releases.observed.latest(100)}
    assert arms == {"direct"}


def test_the_champion_answers_before_another_version_is_begun(hall: Hall) -> None:
    hall.ledger.promote(2, actor="test", why="so that 1 is the one before")
    with serving(hall) as server:
        assert chat(server.url).text == "2: hello"
        until(lambda: "bot:previous-1" in str(send(server.url, "/v1/models").body))
    assert NamedEngine.begun == [2, 1]


def test_an_abort_a_promotion_and_a_rollback_take_effect_while_another_version_loads(hall: Hall) -> None:
    """Nothing waits for the slow one: it takes far longer than this test is given."""
    hall.release(2)
    hall.ledger.releases.move("promote", WHY)
    NamedEngine.load_s[3] = 3600.0
    with serving(hall, drain_s=1) as server:
        until(lambda: chat(server.url).text == "2: hello")
        until(lambda: "bot:previous-1" in str(send(server.url, "/v1/models").body))
        hall.release(3, steps=[100], shadow_requests=1)
        hall.ledger.releases.move("advance", WHY)
        until(lambda: 3 in NamedEngine.begun)
        assert chat(server.url, user="u").text == "2: hello", "a challenger that is not loaded answers nobody"
        hall.ledger.rollback(actor="test", why="back")
        until(lambda: chat(server.url).text == "1: hello")
        hall.ledger.promote(2, actor="test", why="forth")
        until(lambda: chat(server.url).text == "2: hello")
        assert "bot:challenger" not in {one["id"] for one in send(server.url, "/v1/models").body["data"]}


def test_a_challenger_that_cannot_be_loaded_is_told_and_users_get_the_champion(
    hall: Hall, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_RETRY_S", 0.3)
    NamedEngine.broken.add(2)
    _, key = hall.ledger.keys.create("boss", ["admin", "infer"])
    hall.release(2, steps=[50, 100])
    with serving(hall) as server:
        until(lambda: "troubles" in send(server.url, "/health", key=key).body)
        health = send(server.url, "/health", key=key).body
        assert (health["status"], health["version"]) == ("ok", "1")
        assert health["troubles"] == {"challenger": "the weights of 2 are torn"}
        assert 'nacre_slot_refused{slot="challenger"} 1.0' in send(server.url, "/metrics", key=key).body.decode()
        assert {chat(server.url, key=key, user=f"u{number}").text for number in range(8)} == {"1: hello"}
        assert sum("version 2 cannot be served" in one.message for one in caplog.records) == 1
        NamedEngine.broken.clear()
        hall.ledger.releases.move("hold", WHY)
        until(lambda: "troubles" not in send(server.url, "/health", key=key).body)
        until(lambda: "2: hello" in {chat(server.url, key=key, user=f"u{number}").text for number in range(8)})


def test_what_leaves_the_slots_answers_to_its_number_a_moment_longer(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scripted_engine import MADE

    monkeypatch.setattr(live, "LINGER_S", 3600.0)
    with serving(hall) as server:
        engine = MADE[-1]
        for number in (2, 3):
            hall.ledger.promote(number, actor="test", why="newer")
            until(lambda number=number: chat(server.url).text == f"{number}: hello")
        assert chat(server.url, model="bot@1").text == "1: hello", "a server in front of this one may still send here"
        assert "bot@1" in {one["id"] for one in send(server.url, "/v1/models").body["data"]}
        monkeypatch.setattr(live, "LINGER_S", 0.0)
        for number in (2, 1):
            hall.ledger.promote(number, actor="test", why="and again")
            until(lambda number=number: chat(server.url).text == f"{number}: hello")
        hall.ledger.promote(4, actor="test", why="newest")
        until(lambda: {target.version for target in engine.loaded} == {1, 4})
        assert chat(server.url, model="bot@2").status == 404


def test_what_no_slot_holds_is_unloaded_and_the_champion_before_stays_warm(hall: Hall) -> None:
    from scripted_engine import MADE

    with serving(hall) as server:
        engine = MADE[-1]
        for number in (2, 3, 4):
            hall.ledger.promote(number, actor="test", why="newer")
            until(lambda number=number: chat(server.url).text == f"{number}: hello")
        until(lambda: {target.version for target in engine.loaded} == {3, 4})
        NamedEngine.load_s[3] = 3600.0  # a rollback loads nothing
        hall.ledger.rollback(actor="test", why="back")
        until(lambda: chat(server.url).text == "3: hello")
