"""Those who are told of events: in order, at least once, each held up by nobody else; and webhooks over real HTTP."""

import hashlib
import hmac
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from mirror_kit import Address, add_version, listening, make_space
from nacre.base.errors import InputError
from nacre.cycle.mirrors import mirror
from nacre.cycle.mirrors.mirror import deliver, following, telling
from nacre.cycle.mirrors.receiver import DeliveryError
from nacre.cycle.workspace import Workspace
from nacre.records import Event
from postgres_kit import postgres
from workspace_kit import Place, assert_clear, start

__all__ = ["postgres"]


@pytest.fixture
def address():
    with listening() as found:
        yield found


def told(space: Workspace, address: Address, **settings: object) -> Workspace:
    """The same workspace with the address under `notify`, and enrolled."""
    space.close()
    opened = make_space(space.root, notify=[{"url": address.url, **settings}])
    deliver(opened)
    return opened


class Fussy:
    """Takes what it is given, unless `moods` has an error for the number of the event."""

    name, shown, from_start, follows_slots = "fussy", "somebody fussy", True, False

    def __init__(self) -> None:
        self.moods: dict[int, str] = {}
        self.got: list[tuple[int, bool]] = []

    def wants(self, event: Event) -> bool:
        return event.kind != "noise"

    def deliver(self, event: Event, *, superseded: bool) -> None:
        mood = self.moods.get(event.id)
        if mood == "odd":
            raise KeyError("surprise")
        if mood:
            raise DeliveryError(mood, f"no to {event.id}")
        self.got.append((event.id, superseded))


@pytest.fixture
def fussy(monkeypatch: pytest.MonkeyPatch) -> Fussy:
    found = Fussy()
    monkeypatch.setattr(mirror, "receivers", lambda workspace, **_: [found])
    return found


def test_everything_is_told_once_in_order_and_noise_is_skipped(tmp_path: Path, fussy: Fussy) -> None:
    with make_space(tmp_path) as space:
        for _ in range(3):
            space.ledger.record("noise", "test", {})
            space.ledger.record("news", "test", {})
        (found,) = deliver(space)
        assert [number for number, _ in fussy.got] == [2, 4, 6]
        space.ledger.record("noise", "test", {})
        (found,) = deliver(space)
        assert (found.event, found.behind, found.tries, found.whole) == (7, 0, 0, True)
        assert len(fussy.got) == 3, "told twice without need"


def test_only_the_last_move_of_a_batch_is_not_superseded(tmp_path: Path, fussy: Fussy) -> None:
    with make_space(tmp_path) as space:
        for number in (1, 2, 3):
            add_version(space, number)
            space.ledger.promote(number, actor="test", why="x")
        deliver(space)
        assert fussy.got == [(1, True), (2, True), (3, True), (4, True), (5, True), (6, False)]


def test_who_is_away_is_waited_for_and_loses_nothing(
    tmp_path: Path, fussy: Fussy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "FAILED_TRIES", 12)
    with make_space(tmp_path) as space:
        for _ in range(3):
            space.ledger.record("news", "test", {})
        fussy.moods = {2: "unreachable"}
        for _ in range(mirror.FAILED_TRIES + 2):
            (found,) = deliver(space, patient=False)
        assert (found.event, found.behind, found.error) == (1, 2, "no to 2")
        assert found.next_try_s > 200, "it is asked all the time"
        assert found.tries == mirror.FAILED_TRIES + 2
        (found,) = deliver(space)
        assert fussy.got == [(1, False)], "asked again before its time"
        fussy.moods = {2: "refused"}
        (found,) = deliver(space, patient=False)
        assert (found.tries, found.parked) == (1, {}), "given up for having been away"
        fussy.moods = {}
        (found,) = deliver(space, patient=False)
        assert found.whole
        assert not found.error
        assert [number for number, _ in fussy.got] == [1, 2, 3]


@pytest.mark.parametrize(("mood", "tries"), [("refused", mirror.REFUSED_TRIES), ("odd", mirror.REFUSED_TRIES)])
def test_a_refused_event_is_given_up_counted_and_can_be_tried_again(
    tmp_path: Path, fussy: Fussy, mood: str, tries: int
) -> None:
    with make_space(tmp_path) as space:
        for _ in range(3):
            space.ledger.record("news", "test", {})
        fussy.moods = {2: mood}
        for _ in range(tries - 1):
            (found,) = deliver(space, patient=False)
        assert (found.event, found.behind, found.parked) == (1, 2, {})
        (found,) = deliver(space, patient=False)
        assert (found.event, found.behind, found.whole) == (3, 0, False)
        assert list(found.parked) == [2]
        assert [number for number, _ in fussy.got] == [1, 3]
        fussy.moods = {}
        (found,) = deliver(space, patient=False, parked=True)
        assert found.whole
        assert [number for number, _ in fussy.got] == [1, 3, 2]


def test_an_error_of_the_other_side_holds_up_for_a_day_at_most(
    tmp_path: Path, fussy: Fussy, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = [min(mirror.MOST_BACKOFF_S, 2.0**tries) for tries in range(mirror.FAILED_TRIES)]
    assert 20 < sum(pauses) / 3600 < 30
    monkeypatch.setattr(mirror, "FAILED_TRIES", 8)
    with make_space(tmp_path) as space:
        space.ledger.record("news", "test", {})
        fussy.moods = {1: "failed"}
        for _ in range(7):
            (found,) = deliver(space, patient=False)
        assert not found.parked
        (found,) = deliver(space, patient=False)
        assert list(found.parked) == [1]


def work(space_root: Path, got: Path) -> None:
    """In a child: deliver for ever, writing each event's number down, slowly."""
    space = Workspace.open(space_root)

    class Writer(Fussy):
        def deliver(self, event: Event, *, superseded: bool) -> None:
            with got.open("a") as file:
                file.write(f"{event.id}\n")
            time.sleep(0.01)

    mirror.receivers = lambda workspace, **_: [Writer()]
    while True:
        deliver(space, patient=False)
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_and_racing_tellers_tell_everything_in_order(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = {"url": request.getfixturevalue("postgres")} if kind == "postgresql" else {}
    got, total = tmp_path / "got", 120
    with make_space(tmp_path / "space", ledger=url) as space:
        for _ in range(total):
            space.ledger.record("news", "test", {})
        children: list[int] = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not ended(got, total):
            while len(children) < 2:
                child = os.fork()
                if child == 0:
                    try:
                        work(space.root, got)
                    finally:
                        os._exit(1)
                children.append(child)
            time.sleep(0.25)
            killed = children.pop(0)
            os.kill(killed, signal.SIGKILL)
            os.waitpid(killed, 0)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    numbers = [int(line) for line in got.read_text().split()]
    assert set(numbers) == set(range(1, total + 1))
    doubles = sum(one <= other for one, other in zip(numbers[1:], numbers, strict=False))
    assert numbers == sorted(numbers), "two told at once"
    assert doubles <= 60, "each kill can cost one event that is told twice, not more"


def ended(got: Path, total: int) -> bool:
    return got.exists() and str(total) in got.read_text().split()


def test_a_webhook_gets_signed_events_of_the_kinds_it_asked_for(tmp_path: Path, address: Address) -> None:
    with make_space(tmp_path) as space:
        space.ledger.record("promoted", "before", {})
        space = told(space, address, events=["promo*", "rolled back"], secret="s3cret")
        space.ledger.record("registered", "ann", {})
        event = space.ledger.record("promoted", "ann", {"why": "好"})
        (found,) = deliver(space)
        assert found.whole
        space.close()
    ((headers, body),) = address.got
    assert json.loads(body) == {**event.model_dump(mode="json"), "hash": event.hash}
    signed = f"{headers['x-nacre-timestamp']}.".encode() + body
    assert headers["x-nacre-signature"] == "sha256=" + hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
    assert abs(int(headers["x-nacre-timestamp"]) - time.time()) < 60
    assert (headers["x-nacre-event"], headers["x-nacre-delivery"]) == ("promoted", str(event.id))
    assert "geheim" not in str(found)


def test_a_secret_can_come_from_the_environment(
    tmp_path: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    with told(make_space(tmp_path), address, secret="env:HOOK_KEY") as space:
        event = space.ledger.record("promoted", "ann", {})
        (found,) = deliver(space)
        assert "empty" in found.error
        assert not address.got, "sent without a signature"
        monkeypatch.setenv("HOOK_KEY", "k")
        (found,) = deliver(space, patient=False)
        assert found.whole
    headers, body = address.got[0]
    signed = f"{headers['x-nacre-timestamp']}.".encode() + body
    assert headers["x-nacre-signature"] == "sha256=" + hmac.new(b"k", signed, hashlib.sha256).hexdigest()
    assert address.ids == [event.id]


def test_failures_of_a_webhook_hold_nobody_else_up_and_lose_nothing(tmp_path: Path, address: Address) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    hooks = [{"url": f"http://127.0.0.1:{port}/"}, {"url": address.url}]
    with make_space(tmp_path, notify=hooks) as space:
        deliver(space)
        sent = [space.ledger.record("promoted", "ann", {}).id for _ in range(2)]
        address.answers = [500, 302, 200]
        away, here = deliver(space)
        assert "does not answer" in away.error
        assert (here.behind, here.error) == (
            2,
            f"webhook http://127.0.0.1:{address.url.split(':')[2][:5]} answered 500",
        )
        away, here = deliver(space, patient=False)
        assert "redirects are not followed" in here.error
        away, here = deliver(space, patient=False)
        assert here.whole
        assert address.ids == [sent[0], sent[0], sent[0], sent[1]]
        assert (away.behind, away.parked) == (2, {})
        with listening(port) as back:
            away, here = deliver(space, patient=False)
            assert away.whole
            assert back.ids == sent
        assert len(address.ids) == 4, "told twice although it had it"


def test_the_server_tells_from_a_thread(tmp_path: Path, address: Address) -> None:
    with told(make_space(tmp_path), address) as space, following(space):
        event = space.ledger.record("promoted", "ann", {})
        deadline = time.monotonic() + 10
        while not address.got and time.monotonic() < deadline:
            time.sleep(0.05)
        assert address.ids == [event.id]
    assert "nacre-mirror" not in {thread.name for thread in threading.enumerate()}


def test_a_command_tells_at_its_end_but_does_not_wait_for_who_hangs(
    tmp_path: Path, address: Address, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mirror, "LIMIT_S", 0.5)
    with make_space(tmp_path, notify=[{"url": address.url}]) as space:
        with telling(space):
            event = space.ledger.record("promoted", "ann", {})
        assert address.ids == [event.id], "the first command after notify was written must tell, too"
        assert not caplog.records
    with socket.socket() as hanging:  # takes connections and never answers
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/"
        with make_space(tmp_path, notify=[{"url": url}]) as space:
            begun = time.monotonic()
            with telling(space):
                space.ledger.record("promoted", "ann", {})
            assert time.monotonic() - begun < 3
            assert "events that wait for webhook" in caplog.text


def test_mlflow_can_be_left_to_the_mirror_alone(tmp_path: Path) -> None:
    """Neither commands nor the server then import what MLflow needs."""
    settings = {"uri": f"sqlite:///{tmp_path}/none/mlflow.db", "by": "mirror"}
    with make_space(tmp_path, mlflow=settings) as space:
        with telling(space), following(space):
            add_version(space, 1)
        assert [one.behind for one in mirror.standings(space)] == [1]
        assert "nacre-mirror" not in {thread.name for thread in threading.enumerate()}
        assert mirror.receivers(space, aside=False) == []


def test_the_command_line_tells_and_shows(lived_in: Place, address: Address) -> None:
    assert lived_in.json("mirror", "status") == {"followers": []}
    assert "nobody is to be told" in lived_in.nacre("mirror", "run").out
    lived_in.settings(notify=[{"url": address.url, "events": ["promoted", "rolled back"]}])
    lived_in.json("rollback")
    lived_in.json("promote", 2)
    assert [json.loads(body)["kind"] for _, body in address.got] == ["rolled back", "promoted"]
    address.answers = [503] * 9
    assert lived_in.json("rollback")["champion"] == 1
    (found,) = lived_in.json("mirror", "status")["followers"]
    assert (found["behind"], found["parked"]) == (1, {})
    assert "answered 503" in found["error"]
    shown = lived_in.nacre("mirror", "run")
    assert shown.code == 1
    assert "1 events behind" in shown.out
    assert "geheim" not in shown.out + shown.err
    address.answers = []
    assert lived_in.json("mirror", "run")["followers"][0]["behind"] == 0


@pytest.mark.slow
def test_a_running_server_tells_what_another_process_does(lived_in: Place, address: Address) -> None:
    lived_in.settings(notify=[{"url": address.url}])
    server = start("serve", "--port", "0", cwd=lived_in.root)
    try:
        assert "serving at" in server.stdout.readline()
        with Workspace.open(lived_in.root) as space:
            event = space.ledger.rollback(actor="ann", why="x")  # tells nobody itself
        deadline = time.monotonic() + 30
        while event.id not in address.ids and time.monotonic() < deadline:
            time.sleep(0.05)
        assert event.id in address.ids
    finally:
        server.terminate()
        assert server.wait(30) == 0, server.communicate()
        server.communicate()


def test_wrong_settings_are_named(fresh: Place) -> None:
    fresh.settings(notify=[{"url": "file:///etc/passwd"}])
    assert_clear(fresh.nacre("mirror", "status"), "notify.0.url", "https://")
    fresh.settings(notify=[], mlflow={"uri": "./mlruns"})
    assert_clear(fresh.nacre("mirror", "status"), "mlflow.uri", "MLflow takes no folder")
    fresh.settings(mlflow={"uri": "http://h:1", "model": "a/b"})
    assert_clear(fresh.nacre("mirror", "status"), "mlflow.model", "model names")
    with pytest.raises(InputError):
        make_space(fresh.root, mlflow={"url": "http://h:1"})
