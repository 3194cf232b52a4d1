"""Telling programs outside what happened: MLflow, webhooks. The history of the ledger is the outbox.

A follower is told every event at least once, in order, by whoever comes first: a thread in the server, the end of a
command that writes, or `nacre mirror run`. Nothing in training, promotion or serving waits for it. COST: a look at the
ledger each second while a server runs; at the end of a command at most `LIMIT_S` seconds, and only where a follower
is configured.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from nacre.base.addresses import scrubbed
from nacre.base.errors import NacreError
from nacre.cycle.mirrors.mlflow_mirror import MlflowMirror
from nacre.cycle.mirrors.notify import WebhookReceiver
from nacre.cycle.mirrors.receiver import DeliveryError, Receiver
from nacre.cycle.workspace import Workspace
from nacre.records import Event
from nacre.registry.followers import Cursor, Followers, UnreadableEvent

_log = logging.getLogger("nacre.mirror")

LIMIT_S = 5.0  # a command waits so long at its end for what is to be told; the rest is told later
POLL_S = 1.0
LOCK_POLL_S = 0.1
CHUNK = 200  # events that are read at once
REFUSED_TRIES = 5  # an event that the receiver refuses so often is parked
FAILED_TRIES = 300  # and one that it answers with an error of its own so often: about a day
MOST_BACKOFF_S = 300.0
EARLIER_MOVES = 20  # so many are tried where the newest move of the slots is given up

_UNFORESEEN = (ValueError, TypeError, LookupError, ArithmeticError)


@dataclass(frozen=True)
class Standing:
    """How far one follower is behind.

    Attributes:
        name: under which the ledger knows it; `to` says where it is, without secrets.
        event: the last event it has.
        behind: events it was not told of yet.
        tries: how often the next event failed; `error` what was wrong the last time.
        parked: events that were given up, with what was wrong; they are not counted in `behind`.
        next_try_s: seconds until the next try.
    """

    name: str
    to: str
    event: int
    behind: int
    tries: int
    error: str
    parked: dict[int, str]
    next_try_s: float

    @property
    def whole(self) -> bool:
        """Whether it has everything."""
        return not self.behind and not self.parked


def receivers(workspace: Workspace, *, aside: bool = True) -> list[Receiver]:
    """Everybody `nacre.yaml` wants told; with `aside` False without those that `nacre mirror run` alone tells.

    Nothing is imported or connected yet.
    """
    found: list[Receiver] = []
    mlflow = workspace.settings.mlflow
    if mlflow is not None and (aside or mlflow.by == "all"):
        found.append(MlflowMirror(workspace, mlflow))
    return [*found, *map(WebhookReceiver, workspace.settings.notify)]


def deliver(workspace: Workspace, *, patient: bool = True, parked: bool = False) -> list[Standing]:
    """Tell everybody what they were not told yet; returns how far they are then.

    Args:
        workspace: whose history it is.
        patient: leave alone who failed a moment ago, or is being told by another process; False tries at once, or
            waits for that process.
        parked: try events again that were given up.
    """
    never = threading.Event()
    _tell_all(workspace.ledger.followers, receivers(workspace), never, patient=patient, parked=parked)
    return standings(workspace)


def standings(workspace: Workspace) -> list[Standing]:
    """How far each configured follower is."""
    followers = workspace.ledger.followers
    newest, found = followers.newest(), []
    for one in receivers(workspace):
        cursor = followers.get(one.name) or Cursor(one.name, 0 if one.from_start else newest, 0, "", {}, "")
        waits = _waits_s(cursor)
        behind = max(0, newest - cursor.event)
        where = (cursor.event, behind, abs(cursor.tries), cursor.error, cursor.parked, round(waits, 1))
        found.append(Standing(one.name, one.shown, *where))
    return found


@contextmanager
def telling(workspace: Workspace) -> Iterator[None]:
    """What the block writes is told at its end, within `LIMIT_S` seconds; what is left waits for the next occasion.

    An error in the block is left to it, and nothing is told then.
    """
    everybody = receivers(workspace, aside=False)
    if not everybody:
        yield
        return
    followers = workspace.ledger.followers
    for one in everybody:
        followers.enrol(one.name, from_start=one.from_start)
    yield
    stop = threading.Event()
    thread = threading.Thread(target=_tell_or_say, args=(followers, everybody, stop), name="nacre-mirror", daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    stop.set()
    try:
        names = {one.name for one in everybody}
        left = [standing for standing in standings(workspace) if standing.behind and standing.name in names]
    except NacreError as error:  # what the block wrote is written
        _log.warning("whoever is to be told will be told later: %s", error.what)
        return
    for standing in left:
        why = f": {standing.error}" if standing.error else ""
        _log.warning("events that wait for %s: %d%s; see nacre mirror status", standing.to, standing.behind, why)


@contextmanager
def following(workspace: Workspace) -> Iterator[None]:
    """Tell what happens from a thread, for the length of the block."""
    if not receivers(workspace, aside=False):
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=follow, args=(workspace, stop, False), name="nacre-mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(POLL_S)  # a request that is under way may end with the process: it is made again


def follow(workspace: Workspace, stop: threading.Event, aside: bool = True) -> None:
    """Tell what happens until `stop` is set. A ledger that does not answer is asked again. `aside`: see `receivers`."""
    everybody, complaint = receivers(workspace, aside=aside), ""
    followers = workspace.ledger.followers
    while not stop.is_set():
        complaint = _tell_or_say(followers, everybody, stop, complaint)
        stop.wait(POLL_S)


def _tell_or_say(followers: Followers, everybody: Sequence[Receiver], stop: threading.Event, said: str = "") -> str:
    """Tell everybody; why the ledger does not answer, where it does not, is logged unless it was `said` before."""
    try:
        _tell_all(followers, everybody, stop)
    except (NacreError, OSError) as error:
        why = str(error)
    except _UNFORESEEN as error:  # nobody would see that the thread has died
        why = f"{type(error).__name__}: {scrubbed(str(error))}"
    else:
        return ""
    if why != said:
        _log.error("the history cannot be followed: %s", why)
    return why


def _tell_all(
    followers: Followers,
    everybody: Sequence[Receiver],
    stop: threading.Event,
    *,
    patient: bool = True,
    parked: bool = False,
) -> None:
    for one in everybody:
        while not stop.is_set():
            cursor = followers.enrol(one.name, from_start=one.from_start)
            idle = cursor.event >= followers.newest() and not (parked and cursor.parked)
            if idle or (patient and _waits_s(cursor) > 0):
                break
            with followers.alone(one.name) as mine:
                if mine:
                    if parked:
                        _tell_parked(followers, one, stop)
                    while _tell_some(followers, one, stop):
                        pass
            if mine or patient:  # else another process tells it just now: wait until it has, or has failed
                break
            stop.wait(LOCK_POLL_S)


def _tell_some(followers: Followers, one: Receiver, stop: threading.Event) -> bool:
    """Deliver the next events; False when there are none left, one failed, or it is time to stop."""
    cursor = followers.enrol(one.name, from_start=one.from_start)
    try:
        waiting = followers.after(cursor.event, CHUNK)
    except UnreadableEvent as unreadable:
        _give_up(followers, one, unreadable.number, unreadable)
        return not stop.is_set()
    tries, skipped = cursor.tries, 0
    for place, event in enumerate(waiting):
        if stop.is_set():
            break
        if not one.wants(event):
            skipped = event.id
            continue
        later = any("slots" in other.detail for other in waiting[place + 1 :])
        error = _told(one, event, later)
        if error is not None:
            tries = _counted(tries, error)
            waits = None if _parks(error, tries) else error
            if waits is None and "slots" in event.detail and not later:
                waits = _show_earlier(followers, one, event.id, tries)
            if waits is not None:
                if skipped:
                    followers.delivered(one.name, skipped)
                followers.failed(one.name, tries, _sentence(waits))
                return False
            _give_up(followers, one, event.id, error)
        else:
            followers.delivered(one.name, event.id)
        tries, skipped = 0, 0
    if skipped:
        followers.delivered(one.name, skipped)
    return followers.newest() > waiting[-1].id and not stop.is_set() if waiting else False


def _give_up(followers: Followers, one: Receiver, number: int, error: NacreError) -> None:
    followers.park(one.name, number, _sentence(error))
    _log.warning("event %d is given up for %s: %s; see nacre mirror status", number, one.shown, error.what)


def _show_earlier(followers: Followers, one: Receiver, number: int, tries: int) -> DeliveryError | None:
    """Show the newest move before event `number` that is taken: those were left out for its sake.

    Returns what has to be waited for before that event is given up.
    """
    parked = followers.enrol(one.name, from_start=one.from_start).parked
    moves = (move for move in followers.moves(before=number) if move.id not in parked and one.wants(move))
    for move in islice(moves, EARLIER_MOVES if one.follows_slots else 0):
        error = _told(one, move, superseded=False)
        if error is None:
            return None
        if error.fault == "unreachable" or not _parks(error, tries):
            return error
    return None


def _tell_parked(followers: Followers, one: Receiver, stop: threading.Event) -> None:
    """Try what was given up once more."""
    cursor = followers.enrol(one.name, from_start=one.from_start)
    for number in cursor.parked:
        if stop.is_set():
            return
        error: NacreError | None
        try:
            event = followers.one(number)
        except UnreadableEvent as unreadable:
            error = unreadable
        else:
            if event is None:
                continue
            later = any(move.id not in cursor.parked for move in followers.moves(after=number))
            error = _told(one, event, later)
        if error is not None:
            _log.warning("event %d still fails for %s: %s", number, one.shown, error.what)
        else:
            followers.unpark(one.name, number)


def _told(one: Receiver, event: Event, superseded: bool) -> DeliveryError | None:
    """Deliver one event; what went wrong, if anything did."""
    try:
        one.deliver(event, superseded=superseded)
    except DeliveryError as error:
        return error
    except (NacreError, OSError) as error:
        return DeliveryError("failed", scrubbed(str(error)))
    except _UNFORESEEN as error:  # something in the event
        return DeliveryError("refused", f"{type(error).__name__}: {scrubbed(str(error))}")
    return None


def _counted(tries: int, error: DeliveryError) -> int:
    """The tries with this one. Below zero are those that met nobody: they say nothing about the event."""
    if error.fault == "unreachable":
        return tries if tries > 0 else tries - 1
    return max(tries, 0) + 1


def _parks(error: DeliveryError, tries: int) -> bool:
    """Whether this event is given up, so that those behind it come through."""
    return tries >= (REFUSED_TRIES if error.fault == "refused" else FAILED_TRIES)


def _waits_s(cursor: Cursor) -> float:
    """Seconds until the next try: 1, 2, 4 … after each failure, at most `MOST_BACKOFF_S`."""
    if not cursor.tries:
        return 0.0
    pause_s = min(MOST_BACKOFF_S, 2.0 ** min(abs(cursor.tries) - 1, 20))
    return max(0.0, pause_s - (datetime.now(UTC) - datetime.fromisoformat(cursor.updated)).total_seconds())


def _sentence(error: NacreError) -> str:
    """The error in one line."""
    return "; ".join(part for part in (error.what, error.where, error.fix) if part)[:500]
