"""What happens by itself: weekly, monthly, quarterly, or as a cron line says. One call looks what is due and does it.

The last run of each schedule is an event of the history, so nothing is kept beside the ledger: runs that were missed
while the machine was off happen once, a run that was killed happens again, and each step takes up what it had begun.
"""

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from cronsim import CronSim

from nacre.base.clock import now
from nacre.base.errors import ConflictError, NacreError, unknown
from nacre.base.files import file_lock
from nacre.base.plugins import Table
from nacre.cycle import rollout
from nacre.cycle.workspace import Workspace
from nacre.records import Event
from nacre.records.schedule import Entry

STEPS = Table(  # names, so that a look where nothing is due imports no model code
    "schedule_step",
    {
        "coverage": "nacre.cycle.schedule_steps:coverage",
        "harvest": "nacre.cycle.schedule_steps:harvest",
        "evolve": "nacre.cycle.schedule_steps:evolve",
        "release": "nacre.cycle.schedule_steps:release",
        "review": "nacre.cycle.schedule_steps:review",
    },
)
RAN = "schedule ran"
RETRY = timedelta(hours=1)  # after a run that failed

Status = Literal["done", "nothing", "refused", "undecided", "failed"]
_CODES: dict[Status, int] = {"done": 0, "nothing": 0, "undecided": 4, "refused": 3, "failed": 1}
WORST: tuple[Status, ...] = ("failed", "refused", "undecided")


@dataclass(frozen=True)
class Planned:
    """A schedule and its times: when it ran last and how that ended, whether it is due, and when it comes next."""

    entry: Entry
    last: str
    status: str
    due: bool
    following: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.entry.name,
            "every": self.entry.every,
            "cron": self.entry.cron,
            "run": list(self.entry.run),
            "do": list(self.entry.do),
            "last": self.last,
            "status": self.status,
            "due": self.due,
            "next": self.following,
        }


@dataclass(frozen=True)
class Result:
    """What one step, or a whole schedule, came to: a status, sentences, and numbers for the history."""

    status: Status
    told: tuple[str, ...]
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ran:
    """What `run` did: the schedules that were due, and the look at the active rollout."""

    results: Mapping[str, Result]
    tick: rollout.Tick | None = None

    @property
    def exit_code(self) -> int:
        """1: something failed; 3: something was refused; 4: something is undecided; else 0."""
        found = {result.status for result in self.results.values()}
        return next((_CODES[status] for status in WORST if status in found), 0)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        results = {
            name: {"status": result.status, "told": list(result.told), **result.detail}
            for name, result in self.results.items()
        }
        return {"ran": results, "release": self.tick.as_dict() if self.tick else None}


def plan(workspace: Workspace) -> list[Planned]:
    """Every schedule of `nacre.yaml` with its times, in UTC."""
    runs = _last_runs(workspace)
    return [
        _planned(entry, runs.get(entry.name), datetime.fromisoformat(now())) for entry in workspace.settings.schedule
    ]


def run(workspace: Workspace, names: Sequence[str] = (), *, actor: str = "schedule") -> Ran:
    """Look at the active rollout once, then run what is due, or the schedules named, due or not.

    Each schedule's end is one event. One that fails leaves the others alone; it is tried again after an hour.

    Raises:
        InputError: there is no schedule of a name.
        NacreError: another `nacre schedule run` is at work here.
    """
    known = {entry.name: entry for entry in workspace.settings.schedule}
    for name in names:
        if name not in known:
            raise unknown("schedule", name, known, where="nacre.yaml, key schedule")
    with file_lock(workspace.hidden / "schedule.lock", wait=False):
        tick = _tick(workspace, actor)
        chosen = [known[name] for name in names] or [planned.entry for planned in plan(workspace) if planned.due]
        results = {}
        for entry in chosen:
            results[entry.name] = result = _run(workspace, entry)
            detail = {"schedule": entry.name, "status": result.status, "told": list(result.told)}
            workspace.ledger.record(RAN, actor, detail | dict(result.detail))
    return Ran(results, tick)


def _tick(workspace: Workspace, actor: str) -> rollout.Tick | None:
    try:
        return rollout.tick(workspace, actor=actor)
    except ConflictError:  # somebody moved the rollout while we looked: the next look sees where it is
        return None


def crontab(workspace: Workspace, program: Sequence[str], minutes: int) -> str:
    """The line for a crontab that looks every so many minutes; a look where nothing is due loads no model code.

    Args:
        workspace: whose schedules.
        program: the words that start `nacre`.
        minutes: from look to look, 1 to 59.
    """
    log = workspace.hidden / "logs" / "schedule.log"
    words = f"{shlex.join(program)} schedule run >> {shlex.quote(str(log))} 2>&1"
    line = f"mkdir -p {shlex.quote(str(log.parent))} && cd {shlex.quote(str(workspace.root))} && {words}"
    return f"*/{minutes} * * * * " + line.replace("%", r"\%")  # cron reads a bare % as the end of the line


def _planned(entry: Entry, last: Event | None, present: datetime) -> Planned:
    following = next(CronSim(entry.cron, present))
    status = str(last.detail["status"]) if last else ""
    return Planned(
        entry=entry,
        last=last.time if last else "",
        status=status,
        due=_due(entry, last, present),
        following=following.isoformat(timespec="minutes"),
    )


def _due(entry: Entry, last: Event | None, present: datetime) -> bool:
    """Whether its moment has come since it ran last; one that never ran is due at once."""
    if last is None:
        return True
    ran = datetime.fromisoformat(last.time)
    if last.detail["status"] == "failed" and present - ran >= RETRY:
        return True
    moment = next(CronSim(entry.cron, present.replace(microsecond=0) + timedelta(seconds=1), reverse=True))
    return moment > ran


def _last_runs(workspace: Workspace) -> dict[str, Event]:
    return {event.detail["schedule"]: event for event in workspace.ledger.events() if event.kind == RAN}


def _run(workspace: Workspace, entry: Entry) -> Result:
    """The user's commands, then the steps; the first that fails is the last."""
    told: list[str] = []
    detail: dict[str, Any] = {}
    statuses: list[Status] = []
    actions: list[Callable[[], Result]] = [partial(_command, workspace, command) for command in entry.run]
    actions += [partial(STEPS.load(step), workspace, entry) for step in entry.do]
    for action in actions:
        try:
            result = action()
        except (NacreError, OSError) as error:
            result = Result("failed", (str(error).replace("\n", "; "),))
        statuses.append(result.status)
        told += result.told
        detail |= result.detail
        if result.status == "failed":
            break
    worst = next((status for status in WORST if status in statuses), None)
    status: Status = worst or ("done" if "done" in statuses else "nothing")
    return Result(status, tuple(told), detail)


def _command(workspace: Workspace, command: str) -> Result:
    """One command of the user's, with its last words."""
    done = subprocess.run(shlex.split(command), cwd=workspace.root, capture_output=True, text=True, errors="replace")
    last = next((line.strip() for line in reversed((done.stdout + done.stderr).splitlines()) if line.strip()), "")
    told = f"{command}: {'done' if done.returncode == 0 else f'exit code {done.returncode}'}"
    return Result("failed" if done.returncode else "done", (f"{told}: {last}" if last else told,))
