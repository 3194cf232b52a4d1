"""Keys: guessed, planted in another header or the query, used on the wrong route; and one tenant as another."""

import hmac
import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from gateway_kit import Hall, chat, make_hall, send, serving, until
from hypothesis import given
from hypothesis import strategies as st

from nacre.base.errors import InputError
from nacre.serve.admin import ADMIN_ROUTES
from nacre.serve.gateway.keyring import KeyRing
from nacre.serve.gateway.keys import check_keys
from nacre.serve.routing import user_of
from nacre.serve.run import ApiServer

KEY = "a-key-of-some-length"
TEXT = st.text(max_size=20) | st.sampled_from(["", "\n", "a\nb", "ann", "\x00", "\ud800"])


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    made = make_hall(tmp_path_factory.mktemp("keys") / "assistant")
    yield made
    made.space.close()


@pytest.fixture(scope="module")
def server(hall: Hall) -> Iterator[ApiServer]:
    with serving(hall, api_keys=(KEY,), admin_port=0) as server:
        yield server


@pytest.mark.parametrize("key", ["1", "sk-1234", "my-key", "fifteen-letters"])
def test_a_key_that_can_be_guessed_opens_nothing_to_others(key: str) -> None:
    for hosts in (("0.0.0.0",), ("127.0.0.1", "::"), ("example.org",)):
        with pytest.raises(InputError, match="can be guessed") as caught:
            check_keys((KEY, key), *hosts)
        assert len(key) < 3 or key not in str(caught.value)
    check_keys((key,), "127.0.0.1", "::1", "localhost")
    check_keys((KEY,), "0.0.0.0")


def test_the_server_asks_it(hall: Hall) -> None:
    with pytest.raises(InputError, match="can be guessed"), serving(hall, host="0.0.0.0", api_keys=("sk-1234",)):
        pass
    with (
        pytest.raises(InputError, match="can be guessed"),
        serving(hall, admin_host="0.0.0.0", admin_port=0, api_keys=("sk-1234",)),
    ):
        pass


def test_how_much_of_a_key_is_right_is_not_told_by_the_work_done(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    made, secret = hall.ledger.keys.create("timed", ["infer"])
    ring = KeyRing((KEY, "another-key-of-length"), hall.ledger.keys)
    ring.load()
    compared: list[tuple[int, int]] = []

    def counted(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("nacre.serve.gateway.keyring.hmac", SimpleNamespace(compare_digest=counted))
    work = []
    for sent in ("x", KEY[:-1], KEY + "x", secret[:-1] + "x", f"nk_{made.id}_{'0' * 48}", f"nk_00000000_{'0' * 48}"):
        compared.clear()
        assert ring.find(f"Bearer {sent}") is None
        work.append(tuple(compared))
    assert len(set(work)) == 1
    assert len(work[0]) == 4
    hall.ledger.keys.revoke(made.id)


PLACES = [
    ("/v1/models", {"x-api-key": KEY}),
    ("/v1/models", {"api-key": KEY}),
    ("/v1/models", {"cookie": f"authorization=Bearer {KEY}"}),
    ("/v1/models", {"proxy-authorization": f"Bearer {KEY}"}),
    ("/v1/models", {"x-forwarded-for": "127.0.0.1"}),
    ("/v1/models", {"x-original-url": "/health", "x-rewrite-url": "/health"}),
    (f"/v1/models?api_key={KEY}&authorization=Bearer%20{KEY}", {}),
    ("/v1/models", {"authorization": f"Basic {KEY}"}),
    ("/v1/models", {"authorization": KEY}),
    ("/health/../v1/models", {}),
    ("/health;/v1/models", {}),
    ("/v1/models%3f/health", {}),
]


@pytest.mark.parametrize("place", range(len(PLACES)))
def test_a_key_anywhere_else_is_no_key(server: ApiServer, place: int) -> None:
    path, headers = PLACES[place]
    assert send(server.url, path, headers=headers).status == 401
    assert send(server.url, "/v1/models", key=KEY).status == 200


@pytest.mark.parametrize("host", ["x/metrics?", "x/metrics#", "[", "x/health?", "", "a b"])
def test_a_host_header_chooses_no_route(server: ApiServer, hall: Hall, host: str) -> None:
    """The numbers are open on the admin listener; a host that makes the URL look like theirs opens nothing else."""
    _, infer = hall.ledger.keys.create("host", ["infer"])
    until(lambda: chat(server.url, key=infer).status == 200)
    parts = urlsplit(server.admin_url)
    for route in ADMIN_ROUTES:
        method = next(iter(route.methods - {"HEAD"}))
        path = route.path.replace("{number}", "1").replace("{", "").replace("}", "")
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {infer}\r\nConnection: close\r\n\r\n"
        with socket.create_connection((parts.hostname, parts.port), timeout=30) as one:
            one.sendall(head.encode())
            got = b""
            while piece := one.recv(65536):
                got += piece
        assert int(got.split()[1]) in (400, 403), (path, got)
        assert "error" in json.loads(got.partition(b"\r\n\r\n")[2])


@given(
    keys=st.lists(st.text("0123456789abcdef", min_size=8, max_size=8), min_size=2, max_size=2, unique=True), user=TEXT
)
def test_two_tenants_users_of_one_name_are_two(keys: list[str], user: str) -> None:
    one, other = (user_of(key, user) for key in keys)
    assert (one != other) == bool(user)


@given(TEXT, TEXT)
def test_no_user_can_be_named_into_another_tenant(name: str, other: str) -> None:
    """The name is behind the key's id, of eight letters without a line's end: what is in it cannot reach before it."""
    assert user_of("0123abcd", f"{name}\n{other}") != user_of("0123abce", name) or not other


def test_one_tenants_answers_and_limits_are_not_the_others(hall: Hall, server: ApiServer) -> None:
    (_, one), (_, other) = (hall.ledger.keys.create(name, ["infer", "feedback"]) for name in ("one", "other"))
    until(lambda: chat(server.url, key=one).status == chat(server.url, key=other).status == 200)
    first = chat(server.url, "mine", key=one, user="ann")
    second = chat(server.url, "mine", key=other, user="ann")
    until(lambda: all(hall.ledger.interaction(reply.body["id"]) for reply in (first, second)))
    sessions = {hall.ledger.interaction(reply.body["id"]).session for reply in (first, second)}  # type: ignore[union-attr]  # it is there by now
    assert len(sessions) == 2
    assert "ann" not in "".join(sessions)
