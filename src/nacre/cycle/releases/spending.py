"""What runs by itself may take: processor time by the history, a budget, and a note of the run that is under way.

Processor time is that of the process and of all it started and waited for, on every core together. A note beside the
ledger says what is running and what it has taken so far: where a process is killed, the next one finds the note, and
writes the run into the history as killed. Of a killed run, what its own child processes took is not known.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nacre.base.files import atomic_write
from nacre.cycle.increment.energy import cpu_seconds
from nacre.cycle.workspace import Workspace
from nacre.records import Event
from nacre.records.watch import Budget

RAN = "schedule ran"
Memo = dict[str, Any]
"""What triggers measured of what, so that a look where nothing changed costs little."""
_HOUR_S = 3600.0
_NOTE_S = 5.0  # from one note of the processor time to the next
_EVERY = {1: "24 hours", 7: "7 days", 30: "30 days"}


@dataclass(frozen=True)
class Seen:
    """One trigger: whether it asks for a run, and what was seen in a sentence."""

    met: bool
    told: str


def last_runs(events: Sequence[Event]) -> dict[str, Event]:
    """The last run of each schedule."""
    return {event.detail["schedule"]: event for event in events if event.kind == RAN}


@dataclass(frozen=True)
class Spent:
    """What ran by itself and what it took, as far as the budget's windows reach back.

    Attributes:
        runs: (end, processor hours), oldest first.
        expected: schedule to the hours that its last run of some work took.
    """

    budget: Budget
    present: datetime
    runs: tuple[tuple[datetime, float], ...]
    expected: Mapping[str, float]

    def hours(self, days: int) -> float:
        """Processor hours in the window of so many days that ends now."""
        return sum(hours for _, hours in self._window(days))

    def refuses(self, name: str) -> str:
        """Why a schedule must wait, and until when; empty where the budget has room for what its last run took."""
        wanted = self.expected.get(name, 0.0)
        reasons = [(self._frees(days, limit, wanted), days, limit) for days, limit in self.budget.days.items()]
        held = [one for one in reasons if one[0] != self.present]
        if not held:
            return ""
        never = next((one for one in held if one[0] is None), None)
        if never is not None:
            _, days, limit = never
            return (
                f"its last run took {wanted:.3g} processor hours, and the whole budget of {_EVERY[days]} is {limit:g}: "
                f"raise watch.budget, or run it by hand with nacre schedule run {name}"
            )
        until, days, limit = max(held, key=lambda one: one[0] or self.present)
        assert until is not None, "those that never free were told above"
        return (
            f"{self.hours(days):.3g} of {limit:g} processor hours of {_EVERY[days]} are spent"
            + (f" and its last run took {wanted:.3g}" if wanted else "")
            + f": it waits until {until.isoformat(timespec='minutes')}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Hours spent and allowed, by window."""
        return {
            _EVERY[days]: {"spent_hours": round(self.hours(days), 6), "hours": limit}
            for days, limit in self.budget.days.items()
        }

    def _window(self, days: int) -> list[tuple[datetime, float]]:
        start = self.present - timedelta(days=days)
        return [one for one in self.runs if one[0] > start]

    def _frees(self, days: int, limit: float, wanted: float) -> datetime | None:
        """When there is room: now, when enough of the oldest runs have left the window, or never."""
        if wanted > limit:
            return None
        left = self.hours(days)
        if left < limit and left + wanted <= limit:
            return self.present
        for end, hours in self._window(days):
            left -= hours
            if left + wanted <= limit and left < limit:
                return end + timedelta(days=days)
        return self.present  # nothing was spent


def spending(events: Sequence[Event], budget: Budget, present: datetime) -> Spent:
    """What the history says was spent by schedules."""
    ran = [event for event in events if event.kind == RAN]
    runs = [(datetime.fromisoformat(one.time), float(one.detail.get("cpu_seconds", 0.0)) / _HOUR_S) for one in ran]
    worked = [one for one in ran if one.detail["status"] not in ("nothing", "failed", "killed")]
    expected = {one.detail["schedule"]: float(one.detail.get("cpu_seconds", 0.0)) / _HOUR_S for one in worked}
    return Spent(budget, present, tuple(runs), expected)


class Meter:
    """Processor time since it was made, or, when it was stopped, until then."""

    def __init__(self) -> None:
        self._start = cpu_seconds()
        self._end: float | None = None

    @property
    def seconds(self) -> float:
        """Rounded to milliseconds."""
        return round((cpu_seconds() if self._end is None else self._end) - self._start, 3)

    def stop(self) -> None:
        """Count no further."""
        self._end = cpu_seconds()


class Running:
    """The note of the run that is under way; whoever writes it holds the lock of the schedules."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._path = workspace.hidden / "schedule.running.json"

    def left(self) -> dict[str, Any] | None:
        """The note, if there is one: of a run that is under way, or that was killed."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and {"schedule", "began", "cpu_seconds"} <= found.keys() else None

    def settle(self, actor: str) -> None:
        """Write a run that was killed into the history, with what it had taken."""
        found = self.left()
        if found is not None:
            events = self._workspace.ledger.events()
            last = last_runs(events).get(found["schedule"])
            if last is None or last.detail.get("began") != found["began"]:  # else it ended, and only the note was left
                before = last.detail.get("killed", 0) if last else 0
                detail = {"status": "killed", "told": ["the run was killed or stopped"], "killed": before + 1}
                self._workspace.ledger.record(RAN, actor, {**found, **detail})
        self.end()

    @contextmanager
    def of(self, name: str, began: str) -> Iterator[Meter]:
        """Note that a schedule runs, and every few seconds what it has taken."""
        meter, over = Meter(), threading.Event()

        def note() -> None:
            told = {"schedule": name, "began": began, "cpu_seconds": meter.seconds}
            atomic_write(self._path, json.dumps(told))

        def keep_noting() -> None:
            while not over.wait(_NOTE_S):
                note()

        note()
        thread = threading.Thread(target=keep_noting, name="nacre-spending", daemon=True)
        thread.start()
        try:
            yield meter
        finally:
            over.set()
            thread.join()
            meter.stop()

    def end(self) -> None:
        """The run is in the history."""
        self._path.unlink(missing_ok=True)
