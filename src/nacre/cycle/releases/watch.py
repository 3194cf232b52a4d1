"""The ring by policy: a loop that looks what schedules, triggers and budget ask for, says it, and does it.

It decides nothing itself: what is due, and why, is `schedule.plan`; what is done is `schedule.run`, whose runs are
taken up after a kill. So whoever watches may be killed at any moment and started again.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from nacre.base.clock import now
from nacre.base.errors import NacreError
from nacre.base.files import file_lock
from nacre.cycle.mirrors.mirror import telling
from nacre.cycle.releases import schedule
from nacre.cycle.releases.schedule import MISTAKES, Planned, Ran
from nacre.cycle.releases.spending import Memo, spending
from nacre.cycle.workspace import Workspace

Tell = Callable[[Mapping[str, Any]], None]
"""Is given one JSON object for each thing that happens: `kind`, `time`, and what belongs to the kind."""


def overview(workspace: Workspace, memo: Memo | None = None) -> dict[str, Any]:
    """What would be done now and why, what waits and why, and what is spent; nothing is done."""
    planned = schedule.plan(workspace, memo)
    active = workspace.ledger.releases.active()
    spent = spending(workspace.ledger.events(), workspace.settings.watch.budget, datetime.fromisoformat(now()))
    return {
        "runs": [_told(one) for one in planned if one.chosen],
        "waits": [_told(one) for one in planned if not one.chosen],
        "release": active.version if active else None,
        "budget": spent.as_dict(),
    }


def watch(folder: Path, tell: Tell, *, stop: threading.Event, once: bool = False) -> int:
    """Look, say what is due and why, do it, and look again, until `stop` is set.

    `nacre.yaml` is read anew at each look. A plan is told when there is something to do, or when it has changed. When
    `stop` is set while a schedule runs, that one comes to its end, and no other begins.

    Args:
        folder: the workspace.
        tell: hears of every plan, of every run before and after, and of what went wrong.
        stop: ends the loop.
        once: look once; mistakes are then raised.

    Returns:
        With `once` the exit code of what was run, else 0.

    Raises:
        InputError: there is no workspace, or its `nacre.yaml` is wrong; later the loop tells it and looks again.
        NacreError: another `nacre watch` is at work here.
    """
    memo: Memo = {}
    with Workspace.open(folder) as space:
        hidden, pause_s = space.hidden, space.settings.watch.seconds
    with file_lock(hidden / "watch.lock", wait=False):
        last: dict[str, Any] = {}
        while True:
            try:
                with Workspace.open(folder) as space, telling(space):
                    pause_s = space.settings.watch.seconds
                    last = _say(overview(space, memo), last, tell)
                    ran = _act(space, memo, tell, stop)
            except MISTAKES as error:
                if once:
                    raise
                tell({"kind": "error", "time": now(), **_error(error)})
            else:
                if once:
                    return ran.exit_code
            if stop.wait(pause_s):
                tell({"kind": "stopped", "time": now()})
                return 0


def _say(found: dict[str, Any], last: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Tell a plan, if something is to be done or it is another one than before; returns what to compare with."""
    key = {"runs": found["runs"], "waits": [(one["schedule"], one["waits"]) for one in found["waits"]]}
    if found["runs"] or key != last:
        tell({"kind": "plan", "time": now(), **found})
    return key


def _act(space: Workspace, memo: Memo, tell: Tell, stop: threading.Event) -> Ran:
    def before(planned: Planned) -> bool:
        if stop.is_set():
            return False
        tell({"kind": "begins", "time": now(), **_told(planned)})
        return True

    def after(name: str, result: schedule.Result) -> None:
        told = {"status": result.status, "told": list(result.told), **result.detail}
        tell({"kind": "ended", "time": now(), "schedule": name, **told})

    ran = schedule.run(space, actor="watch", memo=memo, before=before, after=after)
    if ran.tick is not None:
        tell({"kind": "release", "time": now(), "told": schedule.told(ran.tick)})
    if ran.trouble:
        tell({"kind": "error", "time": now(), "what": ran.trouble})
    return ran


def _told(planned: Planned) -> dict[str, Any]:
    entry = planned.entry
    return {
        "schedule": entry.name,
        "does": [*entry.run, *entry.do],
        "why": list(planned.why),
        "waits": planned.waits,
        "next": planned.following,
    }


def _error(error: Exception) -> dict[str, str]:
    return error.as_dict() if isinstance(error, NacreError) else {"what": f"{type(error).__name__}: {error}"}
