import http.client
import json
import socket
import time
from urllib.parse import urlsplit

import openai
import pytest
from serving_kit import ANSWERS, LONG, Connect, Place, ask, text_of

from nacre.serve.run import background
from nacre.serve.settings import EmbeddedSettings, Serve

ONE_AT_A_TIME = EmbeddedSettings(max_running=1)

# Two thousand tokens take this machine seconds; whoever waits behind them must not.
ENDLESS = {
    "model": "bot",
    "messages": [{"role": "user", "content": LONG}],
    "temperature": 0,
    "max_tokens": 1900,
    "logit_bias": {},
}


def _send_and_leave(url: str, body: dict[str, object], wait_for: bytes) -> None:
    """Send a request, read until something has come (or half a second, if nothing is expected), hang up."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    if wait_for:
        seen = b""
        while wait_for not in seen:
            piece = connection.sock.recv(65536)
            assert piece, "the stream ended early"
            seen += piece
    else:
        time.sleep(0.5)
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_the_engine_at_once(champion: Place, connect: Connect, stream: bool) -> None:
    with background(champion.source, Serve(port=0, name="bot")) as url:
        client = connect(url)
        started = time.monotonic()
        ask(client, LONG, max_tokens=1900)
        whole_s = time.monotonic() - started
        _send_and_leave(url, ENDLESS | {"stream": stream}, b'"content":"1"' if stream else b"")
        started = time.monotonic()
        assert text_of(ask(client)) == ANSWERS[0]
        assert time.monotonic() - started < whole_s / 3, "the next request waited for an answer nobody reads"
    with champion.open_again() as ledger:
        finishes = [said.finish for said in _interactions(ledger, champion)]
    assert finishes == ["length", "aborted", "stop"]


def test_a_waiting_request_whose_client_left_is_never_computed(champion: Place, connect: Connect) -> None:
    with background(champion.source, Serve(port=0, name="bot", max_waiting=1, embedded=ONE_AT_A_TIME)) as url:
        client = connect(url)
        running = ask(client, LONG, stream=True, max_tokens=1900)
        next(iter(running))
        _send_and_leave(url, ENDLESS, b"")
        deadline = time.monotonic() + 5
        while client.get("/models", cast_to=object) and _waiting(url) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _waiting(url) == 0
        running.close()
        assert text_of(ask(client)) == ANSWERS[0]


def test_one_request_too_many_is_told_to_come_back(champion: Place, connect: Connect) -> None:
    with background(champion.source, Serve(port=0, name="bot", max_waiting=1, embedded=ONE_AT_A_TIME)) as url:
        client = connect(url)
        running = ask(client, LONG, stream=True, max_tokens=1900)
        for chunk in running:
            if chunk.choices[0].delta.content:
                break
        waiting = ask(client, LONG, stream=True, max_tokens=1900)
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client)
        assert caught.value.status_code == 503
        assert caught.value.code == "overloaded"
        assert int(caught.value.response.headers["retry-after"]) >= 1
        running.close()
        waiting.close()
        patient = client.with_options(max_retries=3)  # the client waits as Retry-After says
        assert text_of(ask(patient)) == ANSWERS[0]


def _waiting(url: str) -> int:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    connection.request("GET", "/health")
    waiting = json.load(connection.getresponse())["waiting"]
    connection.close()
    return int(waiting)


def _interactions(ledger, place: Place):
    import sqlalchemy as sa

    engine = sa.create_engine(place.url)
    with engine.connect() as connection:
        ids = connection.execute(sa.text("select id from interaction order by time, rowid")).scalars().all()
    engine.dispose()
    return [ledger.interaction(identity) for identity in ids]
