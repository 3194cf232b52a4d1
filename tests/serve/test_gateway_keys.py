"""Keys at the gateway: what they open, how much, until when; and that no route answers without one."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_kit import Hall, chat, make_hall, send, serving, until

from nacre.base.errors import InputError, NacreError
from nacre.records.key import Limits
from nacre.registry.keys import Used
from nacre.serve.admin import ADMIN_ROUTES, METRICS_ROUTE
from nacre.serve.api.routes import ROUTES
from nacre.serve.gateway import keyring
from nacre.serve.gateway.callers import Meter
from nacre.serve.gateway.errors import ApiError
from nacre.serve.gateway.keyring import KeyRing


@pytest.fixture(scope="module", autouse=True)
def _quick_looks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyring, "POLL_S", 0.05)
        yield


@pytest.fixture(scope="module")
def url(hall: Hall, admin: str) -> Iterator[str]:
    with serving(hall, api_keys=("configured-key",)) as server:
        yield server.url


def test_every_route_is_shut_without_a_key(url: str) -> None:
    paths = [route.path for route in (*ROUTES, *ADMIN_ROUTES, METRICS_ROUTE)]
    assert len(paths) > 15
    filled = [path.replace("{number}", "1").replace("{", "").replace("}", "") for path in paths]
    for path in (*filled, "/", "/admin", "/admin/nothing", "/v1", "/docs", "//admin/keys", "/health/", "/%61dmin/keys"):
        for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
            for key in ("", "wrong", "nk_00000000_" + "0" * 48):
                assert send(url, path, key=key, method=method).status in (401, 404), (method, path)
    assert send(url, "/health").body == {"status": "ok"}


def test_a_key_opens_what_its_scopes_say(hall: Hall, url: str, admin: str) -> None:
    _, infer = hall.ledger.keys.create("infer", ["infer"])
    _, feedback = hall.ledger.keys.create("feedback", ["feedback"])
    until(lambda: chat(url, key=infer).status == 200)
    until(lambda: send(url, "/v1/feedback", {}, key=feedback).status == 400)
    assert send(url, "/v1/feedback", {}, key=infer).code == "missing_scope"
    assert chat(url, key=feedback).status == 403
    for key in (infer, feedback, "configured-key"):
        for route in (*ADMIN_ROUTES, METRICS_ROUTE):
            method = next(iter(route.methods - {"HEAD"}))
            path = route.path.replace("{number}", "1").replace("{", "").replace("}", "")
            assert send(url, path, key=key, method=method).status == 403, path
    assert chat(url, key=admin).status == 403
    assert send(url, "/admin/slots", key=admin).status == 200
    assert chat(url, key="configured-key").status == 200
    assert send(url, "/v1/feedback", {}, key="configured-key").status == 400


def test_a_revoked_and_a_rotated_key(hall: Hall, url: str) -> None:
    made, first = hall.ledger.keys.create("ann", ["infer"])
    until(lambda: chat(url, key=first).status == 200)
    _, second = hall.ledger.keys.rotate(made.id, grace_s=3600)
    until(lambda: chat(url, key=second).status == 200)
    assert chat(url, key=first).status == 200
    hall.ledger.keys.rotate(made.id)
    until(lambda: chat(url, key=first).status == 401)
    assert chat(url, key=second).status == 401
    _, third = hall.ledger.keys.rotate(made.id)
    until(lambda: chat(url, key=third).status == 200)
    hall.ledger.keys.revoke(made.id)
    until(lambda: chat(url, key=third).status == 401)


def test_an_expired_key_and_an_old_secret_open_nothing_without_any_look_at_the_ledger(hall: Hall) -> None:
    made, secret = hall.ledger.keys.create("soon", ["infer"], expires_s=3)
    other, old = hall.ledger.keys.create("turned", ["infer"])
    hall.ledger.keys.rotate(other.id, grace_s=3)
    ring = KeyRing((), hall.ledger.keys)
    ring.load()
    assert ring.find(f"Bearer {secret}") is not None
    assert ring.find(f"Bearer {old}") is not None
    until(lambda: ring.find(f"Bearer {secret}") is None)
    until(lambda: ring.find(f"Bearer {old}") is None)
    assert ring.find(f"Basic {secret}") is None
    assert ring.find(f"Bearer {secret[:-1]}") is None
    hall.ledger.keys.revoke(made.id)


def test_too_many_requests_are_told_when_to_come_again(hall: Hall, url: str) -> None:
    _, key = hall.ledger.keys.create("few", ["infer"], limits=Limits(requests=2))
    until(lambda: (first := chat(url, key=key)).status == 200 and first.headers["x-ratelimit-limit-requests"] == "2")
    second = chat(url, key=key)
    assert (second.status, second.headers["x-ratelimit-remaining-requests"]) == (200, "0")
    third = chat(url, key=key)
    assert (third.status, third.code) == (429, "rate_limit_exceeded")
    assert third.body["error"]["type"] == "rate_limit_error"
    assert 1 <= int(third.headers["retry-after"]) <= 30
    assert third.headers["x-ratelimit-reset-requests"].endswith("s")


def test_tokens_and_budgets_are_charged_with_what_answers_took(hall: Hall, url: str) -> None:
    made, key = hall.ledger.keys.create("spender", ["infer"], limits=Limits(tokens=40))
    until(lambda: chat(url, "x" * 50, key=key).status == 200)
    refused = chat(url, key=key)
    assert (refused.status, refused.headers["x-ratelimit-remaining-tokens"]) == (429, "0")
    poor, small = hall.ledger.keys.create("poor", ["infer"], limits=Limits(budget=100, budget_per="total"))
    until(lambda: chat(url, "y" * 10, key=small).status == 200)
    while (reply := chat(url, "y" * 10, key=small)).status == 200:
        pass
    assert (reply.status, reply.code, reply.headers["x-should-retry"]) == (429, "insufficient_quota", "false")
    until(lambda: hall.ledger.keys.use().get(poor.id, Used()).tokens >= 100)
    used = hall.ledger.keys.use()[poor.id]
    assert used.tokens < 100 + 2 * (2 * 13)
    assert used.requests == used.tokens // 26
    with serving(hall) as elsewhere:  # what another gateway counted is known there from the start
        assert chat(elsewhere.url, key=small).status == 429
    assert hall.ledger.keys.use()[made.id].tokens >= 100


def test_a_meter_counts_what_runs() -> None:
    clock = [0.0]
    meter = Meter(Limits(concurrency=2, requests=60), lambda: clock[0])
    meter.admit()
    meter.admit()
    with pytest.raises(ApiError, match="run already") as caught:
        meter.admit()
    assert caught.value.status == 429
    meter.release()
    meter.admit()
    assert meter.fresh == Used(3, 0)
    for _ in range(57):
        meter.release()
        meter.admit()
    meter.release()
    with pytest.raises(ApiError, match="60 requests a minute") as refused:
        meter.admit()
    assert refused.value.headers is not None
    assert refused.value.headers["retry-after"] == "1"
    clock[0] += 1.0  # one came back
    meter.admit()
    meter.limit(Limits(requests=60))  # no limit of concurrency any more, and the bucket is as it was
    with pytest.raises(ApiError):
        meter.admit()
    meter.limit(Limits())
    meter.admit()


def test_what_the_ledger_did_not_take_is_told_later_and_counts_meanwhile(hall: Hall) -> None:
    """The ledger refuses once: nothing is lost, nothing is counted twice, and the budget holds all the time."""
    made, secret = hall.ledger.keys.create("debtor", ["infer"], limits=Limits(budget=50, budget_per="total"))
    keys = hall.ledger.keys
    ring = keyring.KeyRing((), keys)
    ring.load()
    caller = ring.find(f"Bearer {secret}")
    assert caller is not None

    def refuse(*_: object) -> None:
        raise NacreError("the disk is full")

    async def spend() -> None:
        caller.meter.admit()
        caller.meter.charge(60)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keys, "add_use", refuse)
            with pytest.raises(NacreError, match="the disk is full"):
                await ring.refresh()
        assert caller.meter.fresh == Used(1, 60)
        with pytest.raises(ApiError, match="is spent"):
            caller.meter.admit()
        await ring.refresh()
        await ring.close()
        with pytest.raises(ApiError, match="is spent"):
            caller.meter.admit()

    asyncio.run(spend())
    assert hall.ledger.keys.use()[made.id] == Used(1, 60)


def test_a_key_of_the_ledger_closes_a_server_that_was_open(tmp_path: Path) -> None:
    hall = make_hall(tmp_path / "open")
    with serving(hall) as server:
        assert chat(server.url).status == 200
        assert send(server.url, "/admin/slots").status == 401, "who has no key steers nothing, on loopback too"
        assert send(server.url, "/metrics").status == 401
        made, key = hall.ledger.keys.create("first", ["infer"])
        until(lambda: chat(server.url).status == 401)
        assert chat(server.url, key=key).status == 200
        hall.ledger.keys.revoke(made.id)
        until(lambda: chat(server.url, key=key).status == 401)
        assert chat(server.url).status == 401, "revoking the last key must not open it"
    hall.space.close()


def test_others_are_served_where_the_ledger_has_a_key(tmp_path: Path) -> None:
    hall = make_hall(tmp_path / "wide")
    with pytest.raises(InputError, match="without an API key") as caught, serving(hall, host="0.0.0.0"):
        pass
    assert "nacre keys create" in caught.value.fix
    made, key = hall.ledger.keys.create("first", ["infer"])
    with serving(hall, host="0.0.0.0") as server:
        assert chat(server.url.replace("0.0.0.0", "127.0.0.1"), key=key).status == 200
    hall.ledger.keys.revoke(made.id)
    with pytest.raises(InputError, match="without an API key"), serving(hall, host="0.0.0.0"):
        pass
    with pytest.raises(InputError, match="without an API key"), serving(hall, admin_host="0.0.0.0", admin_port=0):
        pass
    hall.space.close()
