"""Names that are paths somewhere: looked up in the ledger, never opened, never joined to a folder."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from gateway_kit import Hall, make_hall, serving
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nacre.serve.engines import Target
from nacre.serve.routing import Live

CANARY = "planted-canary-file"
PIECES = ("..", ".", "/", "\\", "%2e", "%2f", "%5c", "%00", "\x00", "~", "C:", "\\\\host\\share", "file://", "nacre")
DEVICES = ("con", "NUL", "aux.txt", "COM1", "LPT9", "\\\\.\\PhysicalDrive0", "conin$")
MARKS = ("", "bot", "bot@", "bot:", "bot@1/", "bot:champion/", "bot@../")
NAMES = st.builds(
    lambda mark, pieces, tail: mark + "".join(pieces) + tail,
    st.sampled_from(MARKS),
    st.lists(st.sampled_from((*PIECES, *DEVICES, CANARY, "etc/passwd")), max_size=6),
    st.text(max_size=5),
)
GOOD = {"bot", "bot@1", "bot:champion", "bot:1", "bot@champion"}
ADAPTED = ("../../etc/passwd", "/etc/passwd", "%2e%2e%2fetc%2fpasswd", "..%00", "bot@..", "bot@1\x00", "con")


class _Opened:
    """The paths this process opens while `watched`; an audit hook cannot be taken away, so it is switched."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[object, ...]) -> None:
        if self.on and event in ("open", "os.listdir", "os.scandir", "glob.glob"):
            self.paths.append(str(args[0]))


OPENED = _Opened()


@contextmanager
def watched() -> Iterator[list[str]]:
    OPENED.paths.clear()
    OPENED.on = True
    try:
        yield OPENED.paths
    finally:
        OPENED.on = False


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    root = tmp_path_factory.mktemp("names")
    (root / CANARY).write_text("canary of the file")
    made = make_hall(root / "assistant")
    yield made
    made.space.close()


@pytest.fixture(scope="module")
def connection(hall: Hall) -> Iterator[HTTPConnection]:
    with serving(hall) as server:
        address = urlsplit(server.url)
        found = HTTPConnection(address.hostname or "", address.port, timeout=30)
        yield found
        found.close()


def _asked(connection: HTTPConnection, method: str, path: str, body: object = None) -> tuple[int, str]:
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, {"content-type": "application/json"})
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=NAMES)
def test_no_name_opens_a_file(connection: HTTPConnection, name: str) -> None:
    assume(name not in GOOD)
    with watched() as opened:
        asked = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
        found = [
            _asked(connection, "POST", "/v1/chat/completions", asked),
            _asked(connection, "POST", "/v1/completions", {"model": name, "prompt": "hi"}),
            _asked(connection, "POST", "/v1/embeddings", {"model": name, "input": "hi"}),
            _asked(connection, "GET", "/v1/models/" + quote(name, safe="")),
        ]
    assert [path for path in opened if not path.isdigit() and ("ledger" not in path)] == []
    for status, said in found:
        assert status in (400, 404), (name, status)
        assert "error" in said
        assert "canary of the file" not in said
        assert "root:" not in said


@pytest.mark.parametrize("name", ADAPTED)
def test_the_routes_know_their_slots_and_numbers_alone(name: str) -> None:
    target = Target(1, None)  # type: ignore[arg-type]  # no weights are looked at
    live = Live({"champion": target})
    assert live.named(name) is None
    assert live.named("champion") is not None
    assert live.named("1") is not None


@pytest.mark.parametrize("path", ["/v1/models/../../etc/passwd", "/v1/models/%2e%2e/x", "/v1/models/bot%00", "/..;/x"])
def test_paths_of_routes_are_not_walked(connection: HTTPConnection, path: str) -> None:
    status, said = _asked(connection, "GET", path)
    assert status == 404
    assert json.loads(said)["error"]["code"] in ("not_found", "model_not_found")


def test_the_hook_hears(tmp_path: Path) -> None:
    with watched() as opened:
        (tmp_path / "x").write_text("1")
    assert str(tmp_path / "x") in opened
