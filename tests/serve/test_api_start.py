import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import openai
import pytest
from serving_kit import LONG, Connect, Place, Shelf, ask

from nacre.base.errors import InputError, NacreError
from nacre.records import Weights
from nacre.serve.run import background, serve
from nacre.serve.settings import Serve

NOWHERE = Weights(identity="0" * 64, model="/no/such/model")


def test_only_a_right_key_opens_the_api(shelf: Shelf, connect: Connect) -> None:
    settings = Serve(port=0, name="bot", api_keys=("key-number-one", "key-number-two"))
    with background(shelf.weights(0), settings) as url:
        for key in settings.api_keys:
            assert ask(connect(url, key), max_tokens=2).choices
        for key in ("key-number-three", "key-number-on", "none"):
            with pytest.raises(openai.AuthenticationError) as caught:
                ask(connect(url, key))
            assert caught.value.code == "invalid_api_key"
            assert "key-number" not in caught.value.message
        basic = urllib.request.Request(f"{url}/v1/models", headers={"authorization": "Basic key-number-one"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(basic, timeout=10)
        refused.value.close()
        for path in ("/v1/models", "/v1/models/bot", "/v1/chat/completions", "/v1/feedback", "/", "/nothing"):
            for method in ("GET", "POST"):
                request = urllib.request.Request(url + path, method=method)
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(request, timeout=10)
                assert refused.value.code == 401
                refused.value.close()
        with urllib.request.urlopen(f"{url}/health", timeout=10) as reply:
            assert json.load(reply) == {"status": "ok"}
        with_key = connect(url, "key-number-one").get(f"{url}/health", cast_to=object)
        assert with_key["model"] == "bot"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org"])
def test_without_a_key_others_are_not_served(host: str) -> None:
    with pytest.raises(InputError, match="without an API key") as caught:
        serve(NOWHERE, Serve(host=host, port=0), announce=lambda url: None)
    assert "--api-key" in caught.value.fix


@pytest.mark.parametrize("key", ["", " ", "two words", "ключ", "line\n"])
def test_keys_that_protect_nothing_are_refused(key: str) -> None:
    with pytest.raises(InputError, match="API key"):
        serve(NOWHERE, Serve(port=0, api_keys=("good-key", key)), announce=lambda url: None)


def test_a_taken_port_is_said_before_a_model_is_loaded(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NacreError, match="address already in use") as caught:
            serve(NOWHERE, Serve(port=port), announce=lambda url: None)
    assert caught.value.where == f"127.0.0.1:{port}"
    assert "--port" in caught.value.fix
    assert caught.value.exit_code == 1
    assert "Traceback" not in capfd.readouterr().err


def test_a_model_that_is_not_there_is_said_and_frees_the_port(connect: Connect, shelf: Shelf) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError) as caught:
        serve(NOWHERE, Serve(port=port), announce=lambda url: None)
    assert NOWHERE.model in caught.value.where
    with pytest.raises(InputError), background(NOWHERE, Serve(port=port)):
        pass
    with background(shelf.weights(0), Serve(port=port, name="bot")) as url:
        assert url == f"http://127.0.0.1:{port}"


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown engine 'embeded'") as caught:
        serve(NOWHERE, Serve(port=0, engine="embeded"), announce=lambda url: None)
    assert "did you mean 'embedded'" in caught.value.fix


SERVER = """
import sys
from pathlib import Path
from nacre.records import Weights
from nacre.registry.ledger import Ledger
from nacre.registry.store import ArtifactStore
from nacre.serve.run import LedgerSource, serve
from nacre.serve.settings import Serve

url, root = sys.argv[1], Path(sys.argv[2])
store = ArtifactStore(root / "artifacts")
with Ledger(url, store) as ledger:
    def resolve(version):
        return Weights(identity=version.artifact, model=str(store.path(version.artifact)))
    source = LedgerSource(ledger, resolve, root / "response.key")
    serve(source, Serve(port=0, name="bot"), announce=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_a_stop_signal_lets_running_answers_end(champion: Place, connect: Connect, number: int) -> None:
    root = champion.secret.parent
    command = [sys.executable, "-c", SERVER, champion.url, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        url = server.stdout.readline().strip()
        assert url, server.stderr.read()
        client = connect(url)
        chunks: list[object] = []
        stream = ask(client, LONG, stream=True, max_tokens=200)
        reader = threading.Thread(target=lambda: chunks.extend(stream))
        reader.start()
        while len(chunks) < 5:
            time.sleep(0.01)
        server.send_signal(number)
        reader.join(timeout=60)
        out, err = server.communicate(timeout=60)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert (server.returncode, out) == (0, "ended\n")
    assert "Traceback" not in err
    assert champion.ledger.interaction(chunks[0].id) is not None, "the drained answer was written before the end"
