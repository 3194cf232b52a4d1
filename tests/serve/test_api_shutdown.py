"""A server that is told to stop while it answers: what can end does, what cannot is told so, and no more is taken."""

import threading
import time
from collections.abc import Iterator

import httpx
import openai
import pytest
from scripted_engine import HANG, MADE
from serving_kit import Connect, ask, text_of

from nacre.records import Weights
from nacre.serve.engines import ENGINES
from nacre.serve.run import ApiServer
from nacre.serve.settings import Serve


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES._entries, "scripted", "scripted_engine:ScriptedEngine")
        settings = Serve(port=0, name="bot", engine="scripted", drain_s=1)
        server = ApiServer(Weights(identity="5" * 64, model="/nowhere"), settings)
        started = threading.Event()
        thread = threading.Thread(target=server.run, args=(lambda url: started.set(),), daemon=True)
        thread.start()
        assert started.wait(60)
        yield server
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


def test_what_does_not_end_in_time_is_told_that_the_server_stops(
    server: ApiServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    url, engine = server.url, MADE[-1]
    client = connect(url)
    assert text_of(ask(client, "hello")) == "hello"
    ended: dict[str, Exception] = {}

    def streamed() -> None:
        try:
            list(ask(client, HANG, stream=True))
        except openai.APIError as error:
            ended["stream"] = error

    def plain() -> None:
        try:
            ask(client, HANG)
        except openai.APIError as error:
            ended["plain"] = error

    asking = [threading.Thread(target=one) for one in (streamed, plain)]
    for thread in asking:
        thread.start()
    deadline = time.monotonic() + 30
    while engine.running < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.stop()
    for thread in asking:
        thread.join(60)
    assert "the server is stopping" in str(ended["stream"])
    assert isinstance(ended["plain"], openai.InternalServerError)
    assert (ended["plain"].status_code, ended["plain"].code) == (503, "stopping")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/health", timeout=5)
    assert "Traceback" not in caplog.text
