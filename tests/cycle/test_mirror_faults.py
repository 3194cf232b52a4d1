"""What must not happen to those who are told: a secret shown, an end to the telling, slots that are shown wrongly."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mirror_kit import Address, add_version, listening, make_space
from nacre.base.addresses import scrubbed, shown_address
from nacre.base.errors import InputError, NacreError
from nacre.cycle.mirrors import mirror
from nacre.cycle.mirrors.mirror import deliver, following
from nacre.cycle.mirrors.mlflow_mirror import MlflowMirror
from nacre.cycle.mirrors.notify import WebhookReceiver
from nacre.cycle.mirrors.receiver import DeliveryError
from nacre.cycle.workspace import Workspace
from nacre.records import Event
from nacre.records.mirror import Mlflow, Webhook
from nacre.registry import ArtifactStore, Ledger
from nacre.registry.tables import event as events
from workspace_kit import Place, assert_clear, damage_event

SECRET = "S3CRET"


class Board:
    """Shows where the slots stand, as MLflow does; events in `moods` are not taken."""

    shown, from_start = "a board", True

    def __init__(self, name: str = "board", follows_slots: bool = True) -> None:
        self.name, self.follows_slots = name, follows_slots
        self.moods: dict[int, str] = {}
        self.slots: dict[str, int] = {}
        self.got: list[int] = []

    def wants(self, event: Event) -> bool:
        return True

    def deliver(self, event: Event, *, superseded: bool) -> None:
        mood = None if superseded else self.moods.get(event.id)
        if mood:
            raise DeliveryError(mood, f"no to {event.id}")
        self.got.append(event.id)
        if "slots" in event.detail and not superseded:
            self.slots = event.detail["slots"]


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> list[Board]:
    found = [Board()]
    monkeypatch.setattr(mirror, "receivers", lambda workspace, **_: found)
    return found


def moved(space: Workspace, count: int) -> list[int]:
    """Promote versions 1 to `count`; the numbers of the events that moved slots."""
    for number in range(1, count + 1):
        add_version(space, number)
        space.ledger.promote(number, actor="test", why="x")
    return [one.id for one in space.ledger.events(None) if "slots" in one.detail]


def test_a_move_that_is_given_up_leaves_the_newest_earlier_one_shown(tmp_path: Path, boards: list[Board]) -> None:
    with make_space(tmp_path) as space:
        moves = moved(space, 3)
        (board,) = boards
        board.moods = {moves[-1]: "refused"}
        for _ in range(mirror.REFUSED_TRIES):
            (found,) = deliver(space, patient=False)
        assert (found.behind, list(found.parked)) == (0, [moves[-1]])
        assert board.slots["champion"] == 2, "the moves before it were skipped for its sake"
        board.moods = {}
        (found,) = deliver(space, patient=False, parked=True)
        assert found.whole
        assert board.slots["champion"] == 3


def test_earlier_moves_are_looked_for_until_one_is_taken_and_a_failure_is_waited_for(
    tmp_path: Path, boards: list[Board]
) -> None:
    with make_space(tmp_path) as space:
        moves = moved(space, 4)
        (board,) = boards
        board.moods = {moves[3]: "refused", moves[2]: "refused", moves[1]: "unreachable"}
        for _ in range(mirror.REFUSED_TRIES + 3):
            (found,) = deliver(space, patient=False)
        assert (found.event, found.parked, board.slots) == (moves[3] - 1, {}, {}), "given up with no slot shown"
        assert "no to" in found.error
        board.moods.pop(moves[1])
        (found,) = deliver(space, patient=False)
        assert (found.behind, list(found.parked)) == (0, [moves[3]])
        assert board.slots["champion"] == 2


def test_of_given_up_moves_the_newest_that_is_taken_now_is_shown(tmp_path: Path, boards: list[Board]) -> None:
    with make_space(tmp_path) as space:
        (board,) = boards
        moves = moved(space, 1)
        deliver(space)
        for number in (2, 3):
            add_version(space, number)
            space.ledger.promote(number, actor="test", why="x")
            moves = [one.id for one in space.ledger.events(None) if "slots" in one.detail]
            board.moods = dict.fromkeys(moves[1:], "refused")
            for _ in range(mirror.REFUSED_TRIES):
                (found,) = deliver(space, patient=False)
        assert list(found.parked) == moves[1:]
        assert board.slots["champion"] == 1
        board.moods.pop(moves[1])
        (found,) = deliver(space, patient=False, parked=True)
        assert list(found.parked) == [moves[2]]
        assert board.slots["champion"] == 2


def test_who_shows_no_slots_is_told_nothing_twice_for_an_event_given_up(tmp_path: Path, boards: list[Board]) -> None:
    with make_space(tmp_path) as space:
        moves = moved(space, 3)
        (board,) = boards
        board.follows_slots, board.moods = False, {moves[-1]: "refused"}
        for _ in range(mirror.REFUSED_TRIES):
            deliver(space, patient=False)
        assert board.got == list(range(1, moves[-1]))


def test_an_unreadable_event_is_given_up_by_name_and_those_behind_it_come_through(
    tmp_path: Path, boards: list[Board], caplog: pytest.LogCaptureFixture
) -> None:
    boards.append(Board("other"))
    with make_space(tmp_path) as space:
        moves = moved(space, 3)
        was = damage_event(space, moves[1])
        for found in deliver(space):
            assert (found.behind, found.whole, list(found.parked)) == (0, False, [moves[1]])
            assert "cannot be read" in found.parked[moves[1]]
            assert "backup" in found.parked[moves[1]]
        assert f"event {moves[1]} is given up" in caplog.text
        for board in boards:
            assert board.got == [one for one in range(1, moves[-1] + 1) if one != moves[1]]
            assert board.slots["champion"] == 3
        (found, _) = deliver(space, patient=False, parked=True)
        assert list(found.parked) == [moves[1]]
        with sa.create_engine(f"sqlite:///{space.hidden / 'ledger.db'}").begin() as connection:
            connection.execute(events.update().where(events.c.id == moves[1]).values(record=was))
        assert all(one.whole for one in deliver(space, patient=False, parked=True))
        assert boards[0].slots["champion"] == 3, "an old move was shown"


def test_an_unreadable_last_event_does_not_end_the_thread_of_the_server(tmp_path: Path) -> None:
    with listening() as address, make_space(tmp_path, notify=[{"url": address.url}]) as space:
        deliver(space)
        with following(space):
            bad = space.ledger.record("promoted", "ann", {}).id
            wait_for(address, bad)
            damage_event(space, bad)
            add_version(space, 1)
            with pytest.raises(NacreError, match="cannot be read"):
                space.ledger.followers.one(bad)
            fresh = space.ledger.record("promoted", "ann", {}).id
            wait_for(address, fresh)
            assert "nacre-mirror" in {thread.name for thread in threading.enumerate()}


def wait_for(address: Address, number: int) -> None:
    deadline = time.monotonic() + 10
    while number not in address.ids and time.monotonic() < deadline:
        time.sleep(0.02)
    assert number in address.ids


def test_something_nobody_foresaw_is_logged_and_the_thread_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with listening() as address, make_space(tmp_path, notify=[{"url": address.url}]) as space:
        deliver(space)
        newest, calls = type(space.ledger.followers).newest, []

        def odd(self: Any) -> int:
            calls.append(1)
            if len(calls) == 1:
                raise ValueError("surprise")
            return newest(self)

        monkeypatch.setattr(type(space.ledger.followers), "newest", odd)
        with following(space):
            number = space.ledger.record("promoted", "ann", {}).id
            wait_for(address, number)
        assert "the history cannot be followed: ValueError: surprise" in caplog.text


def test_the_command_line_names_an_unreadable_event(fresh: Place) -> None:
    with listening() as address:
        fresh.settings(notify=[{"url": address.url}])
        fresh.nacre("mirror", "run")
        with Workspace.open(fresh.root) as space:
            moved(space, 3)
            fresh.json("rollback")
            bad = space.ledger.record("promoted", "ann", {}).id
            damage_event(space, bad)
        found = fresh.nacre("mirror", "run")
        assert found.code == 1
        assert f"given up, event {bad}: event {bad} cannot be read" in " ".join(found.out.split())
        assert fresh.json("rollback")["champion"] == 1, "a damaged event must not hold up a move"


BAD_ADDRESSES = {
    f"http://hook:{SECRET}@127.0.0.1/x": "user",
    f"http://hook:{SECRET}@127.0.0.1:1/x": "user",
    f"http://{SECRET}@127.0.0.1:1/x": "user",
    f"http://127.0.0.1:{SECRET}/x": "port",
    f"http://127.0.0.1:99999/{SECRET}": "port",
    f"http://127.0.0.1:0/{SECRET}": "port",
    f"http://127.0.0.1:1/TOKEN {SECRET}": "blanks",
    f"http://127.0.0.1:1/{SECRET}\r\nX-A: b": "blanks",
    f"http://127.0.0.1:1/\x7f{SECRET}": "blanks",
    f"http://127.0.0.1:1/tök{SECRET}": "%",
    f"http://[::1/{SECRET}": "address",
    f"http://\u2100{SECRET}/x": "address",
}


@pytest.mark.parametrize("url", BAD_ADDRESSES)
def test_an_address_that_cannot_work_is_refused_without_showing_it(fresh: Place, url: str) -> None:
    fresh.settings(notify=[{"url": url}])
    for words in (("mirror", "status"), ("rollback",)):
        found = fresh.nacre(*words)
        assert_clear(found, "notify.0.url", BAD_ADDRESSES[url])
        assert SECRET not in found.out + found.err
    with pytest.raises(ValueError, match=BAD_ADDRESSES[url]):
        Webhook(url=url)


@pytest.mark.parametrize(
    "uri",
    [
        f"http://user:{SECRET}/x@host:5000",
        f"postgresql://user:{SECRET}/x@host/db",
        f"http://host:{SECRET}",
        f"https://host/x?token={SECRET}",
        f"https://host/x#{SECRET}",
        f"http://host/a {SECRET}",
    ],
)
def test_an_mlflow_address_that_cannot_be_shown_safely_is_refused(fresh: Place, uri: str) -> None:
    fresh.settings(mlflow={"uri": uri})
    found = fresh.nacre("mirror", "status")
    assert_clear(found, "mlflow.uri")
    assert SECRET not in found.out + found.err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://user:{SECRET}@host:5000/{SECRET}?x={SECRET}#{SECRET}", "http://host:5000"),
        (f"http://[::1]:80/{SECRET}", "http://[::1]:80"),
        (f"postgresql+psycopg://u:{SECRET}@host/db?password={SECRET}", "postgresql+psycopg://host"),
        (f"postgresql://host/db?user=a@b&password={SECRET}", "postgresql://…"),
        (f"http://{SECRET}:1/2@host", "http://…"),
        (f"http://{SECRET}?2@host", "http://…"),
        (f"http://host:{SECRET}", "http://…"),
        (f"http://[{SECRET}", "http://…"),
        (f"sqlite:///dir/m.db?key={SECRET}", "sqlite:///dir/m.db"),
        (f"sqlite+x://:{SECRET}@/m.db", "sqlite+x://…"),
        (SECRET, "…"),
    ],
)
def test_of_an_address_scheme_host_and_port_are_shown(text: str, shown: str) -> None:
    assert shown_address(text) == shown
    told = scrubbed(f"cannot\n reach '{text}', url: /api/{SECRET}?k={SECRET} (x)")
    kept = f"'{shown}" if "//" in text else f"'{text}',"  # a word alone is no address
    assert told == f"cannot reach {kept} url: /… (x)"


@pytest.mark.parametrize(
    "uri", [f"http://u:{SECRET}@127.0.0.1:1/{SECRET}", f"postgresql://127.0.0.1/d?password={SECRET}"]
)
def test_mlflow_shows_no_secret_when_it_fails(
    tmp_path: Path, uri: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # else minutes
    caplog.set_level(logging.INFO, logger="nacre")
    with make_space(tmp_path, mlflow={"uri": uri}) as space:
        assert SECRET not in MlflowMirror(space, Mlflow(uri=uri)).shown
        add_version(space, 1)
        (found,) = deliver(space, patient=False)
        assert found.error
        assert SECRET not in f"{found} {caplog.text}"


def test_what_goes_wrong_below_http_is_told_without_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's address, or what a name on the other side answers, may hold secrets as well."""
    news = Event(id=1, time="2026-01-01T00:00:00+00:00", actor="a", kind="promoted", detail={}, previous="")
    monkeypatch.setenv("http_proxy", f"http://u:{SECRET}@proxy:{SECRET}")
    with pytest.raises(DeliveryError) as caught:
        WebhookReceiver(Webhook(url=f"http://example.invalid/{SECRET}")).deliver(news, superseded=False)
    assert "webhook http://example.invalid does not answer: InvalidURL" in caught.value.what
    assert caught.value.fault == "unreachable"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@127.0.0.1:1/db",
        f"postgresql://127.0.0.1:1/db?password={SECRET}",
        f"postgresql://127.0.0.1:{SECRET}/db",
        f"nosuch://127.0.0.1/db?password={SECRET}",
        f"{SECRET}",
    ],
)
def test_a_ledger_that_cannot_be_opened_shows_no_secret(tmp_path: Path, url: str) -> None:
    with pytest.raises(NacreError) as caught:
        Ledger(url, ArtifactStore(tmp_path))
    assert SECRET not in str(caught.value)
    if not isinstance(caught.value, InputError):
        assert "postgresql" in caught.value.where
        assert "//127.0.0.1:1" in caught.value.where


def test_the_file_of_a_ledger_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "a b" / "l.db"
    path.parent.mkdir()
    path.write_text("no database at all, but long enough to be looked at as one; " * 40)
    with make_space(tmp_path / "space") as space, pytest.raises(NacreError) as caught:
        Ledger(f"sqlite:///{path}?check_same_thread=false", space.store)
    assert caught.value.where == f"sqlite:///{path}"
