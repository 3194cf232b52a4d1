"""What happens by itself: weekly, monthly, quarterly, or as a cron line says. One call looks what is due and does it.

The last run of each schedule is an event of the history, so nothing is kept beside the ledger: runs that were missed
while the machine was off happen once, a run that was killed happens again, and each step takes up what it had begun.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from cronsim import CronSim
from sqlalchemy.exc import SQLAlchemyError

from nacre.base.clock import now
from nacre.base.errors import ConflictError, InputError, NacreError, unknown
from nacre.base.files import file_lock
from nacre.base.plugins import Table
from nacre.cycle.mirrors.mirror import telling
from nacre.cycle.releases import rollout
from nacre.cycle.releases.spending import RAN, Memo, Running, Seen, last_runs, spending
from nacre.cycle.workspace import Workspace
from nacre.records import Event
from nacre.records.schedule import Entry, When

STEPS = Table(  # names, so that a look where nothing is due imports no model code
    "schedule_step",
    {
        "knowledge": "nacre.cycle.releases.schedule_steps:knowledge",
        "coverage": "nacre.cycle.releases.schedule_steps:coverage",
        "harvest": "nacre.cycle.releases.schedule_steps:harvest",
        "evolve": "nacre.cycle.releases.schedule_steps:evolve",
        "release": "nacre.cycle.releases.schedule_steps:release",
        "review": "nacre.cycle.releases.schedule_steps:review",
    },
)
MISTAKES = (  # of users, of plugins and of nacre's own; what ends the process (a kill, ctrl-C) is none of them
    *(NacreError, OSError, SQLAlchemyError, subprocess.SubprocessError, ArithmeticError, AssertionError),
    *(AttributeError, EOFError, ImportError, LookupError, MemoryError, NameError, RuntimeError, TypeError, ValueError),
)
LOOKS = Table("schedule_look", {"when": "nacre.cycle.releases.triggers:Look"})
RETRY = timedelta(hours=1)  # after a run that failed

Status = Literal["done", "nothing", "refused", "undecided", "failed", "killed"]
_CODES: dict[Status, int] = {"done": 0, "nothing": 0, "undecided": 4, "refused": 3, "failed": 1, "killed": 1}
WORST: tuple[Status, ...] = ("failed", "refused", "undecided")


@dataclass(frozen=True)
class Planned:
    """A schedule and its times: when it ran last and how that ended, whether it is due, and when it comes next.

    Attributes:
        following: its next moment; empty where only `when` makes it due.
        why: what makes it due, or what its `when` has seen so far.
        waits: due or not, the budget keeps it from running by itself, and until when; empty where it does not.
    """

    entry: Entry
    last: str
    status: str
    due: bool
    following: str
    why: tuple[str, ...] = ()
    waits: str = ""

    @property
    def chosen(self) -> bool:
        """Whether it runs by itself now."""
        return self.due and not self.waits

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
            "when": self.entry.when.model_dump(exclude_none=True) if self.entry.when else None,
            "why": list(self.why),
            "waits": self.waits,
        }


@dataclass(frozen=True)
class Result:
    """What one step, or a whole schedule, came to: a status, sentences, and numbers for the history."""

    status: Status
    told: tuple[str, ...]
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ran:
    """What `run` did: the schedules that were due, and the look at the active rollout, or why there was none."""

    results: Mapping[str, Result]
    tick: rollout.Tick | None = None
    trouble: str = ""
    waiting: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """1: something failed; 3: something was refused, or the release was stopped; 4: something is undecided."""
        found = {result.status for result in self.results.values()}
        if self.trouble:
            found.add("failed")
        if self.tick is not None and self.tick.look.decision.action == "abort":
            found.add("refused")
        return next((_CODES[status] for status in WORST if status in found), 0)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        results = {
            name: {"status": result.status, "told": list(result.told), **result.detail}
            for name, result in self.results.items()
        }
        looked = {"error": self.trouble} if self.trouble else None
        released = self.tick.as_dict() if self.tick else looked
        return {"ran": results, "release": released, "waiting": dict(self.waiting)}


def plan(workspace: Workspace, memo: Memo | None = None) -> list[Planned]:
    """Every schedule of `nacre.yaml`: its times in UTC, what its triggers see, and what the budget says.

    Args:
        workspace: whose schedules.
        memo: what triggers measured before; whoever plans again and again gives the same one.
    """
    events, present = workspace.ledger.events(), datetime.fromisoformat(now())
    runs, spent = last_runs(events), spending(events, workspace.settings.watch.budget, present)
    begun = Running(workspace).left()
    looks: list[Any] = []  # made when the first trigger must be looked at: it reads text with what starts slowly

    def look(when: When, last: Event | None) -> tuple[Seen, ...]:
        if not looks:
            looks.append(LOOKS.load("when")(workspace, {} if memo is None else memo))
        try:
            return tuple(looks[0].seen(when, last, present))
        except MISTAKES as error:  # a trigger that cannot be looked at must not keep the others from running
            return (Seen(False, f"it could not be looked at: {_told(error)}"),)

    found = []
    for entry in workspace.settings.schedule:
        one = _planned(entry, runs.get(entry.name), present, look)
        if begun is not None and begun["schedule"] == entry.name:
            one = replace(one, due=True, why=(f"a run that began at {begun['began'][:16]} has not ended",))
        found.append(replace(one, waits=spent.refuses(entry.name)) if one.due else one)
    return found


def run(
    workspace: Workspace,
    names: Sequence[str] = (),
    *,
    actor: str = "schedule",
    memo: Memo | None = None,
    before: Callable[[Planned], bool] = lambda _: True,
    after: Callable[[str, Result], None] = lambda *_: None,
) -> Ran:
    """Look at the active rollout once, then run what is due and within the budget, or the schedules named, due or not.

    The look waits for nobody: a rollout is watched while another run trains. Each schedule's end is one event. One
    that fails leaves the others alone, and so does the look; it is tried again after an hour. A run that was killed
    is an event of the next one, with the processor time it had taken, and is due again.

    Args:
        workspace: whose schedules.
        names: those to run now; none: what is due.
        actor: who the history says did it.
        memo: as of `plan`.
        before: is asked before each whether to go on: with False, this one and those after it wait for the next run.
        after: is told how each ended.

    Raises:
        InputError: there is no schedule of a name.
        NacreError: another `nacre schedule run` is at work here; the rollout was looked at all the same.
    """
    known = {entry.name: entry for entry in workspace.settings.schedule}
    for name in names:
        if name not in known:
            raise unknown("schedule", name, known, where="nacre.yaml, key schedule")
    tick, trouble = _tick(workspace, actor)
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(workspace.hidden / "schedule.lock", wait=False))
        except NacreError as error:
            said = f"; {trouble or (told(tick) if tick else '')}".removesuffix("; ")
            raise NacreError(error.what + said, where=error.where, fix=error.fix) from error
        running = Running(workspace)
        running.settle(actor)
        planned = {one.entry.name: one for one in plan(workspace, memo)}
        chosen = [planned[name] for name in names] or [one for one in planned.values() if one.chosen]
        results: dict[str, Result] = {}
        for one in chosen:
            if not before(one):
                break
            results[one.entry.name] = _run_and_tell(workspace, one, running, actor)
            after(one.entry.name, results[one.entry.name])
    waiting = {name: one.waits for name, one in planned.items() if one.waits and name not in results}
    return Ran(results, tick, trouble, waiting)


def _run_and_tell(workspace: Workspace, planned: Planned, running: Running, actor: str) -> Result:
    """One schedule, and its end in the history: what it came to, why it ran, and what it took."""
    entry, began = planned.entry, now()
    with running.of(entry.name, began) as meter:
        result = _run(workspace, entry)
    said = {"status": result.status, "told": list(result.told), "why": "; ".join(planned.why)}
    detail = {"schedule": entry.name, "began": began, "cpu_seconds": meter.seconds, **said, **result.detail}
    workspace.ledger.record(RAN, actor, detail)
    running.end()
    return result


def told(tick: rollout.Tick) -> str:
    """One sentence of a look at a rollout."""
    look = tick.look
    return f"release of version {look.rollout.version}: {look.decision.action}: {look.decision.why}"


def _tick(workspace: Workspace, actor: str) -> tuple[rollout.Tick | None, str]:
    """The look at the rollout, or why it failed. Whoever is told of moves is told before the schedules begin."""
    try:
        if workspace.ledger.releases.active() is None:
            return None, ""
        with telling(workspace):
            return rollout.tick(workspace, actor=actor), ""
    except ConflictError:  # somebody moved the rollout while we looked: the next look sees where it is
        return None, ""
    except MISTAKES as error:  # none of them may keep the schedules from running
        return None, f"the release could not be looked at: {_told(error)}"


def _told(error: Exception) -> str:
    """What went wrong in one line; the type too where it is nobody's sentence."""
    said = str(error).replace("\n", "; ")
    return said if isinstance(error, NacreError) else f"{type(error).__name__}: {said}"


def crontab(workspace: Workspace, program: Sequence[str], minutes: int) -> str:
    """The line for a crontab that looks every so many minutes; a look where nothing is due loads no model code.

    Args:
        workspace: whose schedules.
        program: the words that start `nacre`.
        minutes: from look to look: a divisor of 60, for cron begins anew with each hour.

    Raises:
        InputError: the minutes do not divide an hour.
    """
    if not 0 < minutes < 60 or 60 % minutes:
        raise InputError(
            f"cron cannot look every {minutes} minutes", where="--minutes", fix="give a divisor of 60 below it, e.g. 10"
        )
    log = workspace.hidden / "logs" / "schedule.log"
    words = f"{shlex.join(program)} schedule run >> {shlex.quote(str(log))} 2>&1"
    line = f"mkdir -p {shlex.quote(str(log.parent))} && cd {shlex.quote(str(workspace.root))} && {words}"
    return f"*/{minutes} * * * * " + line.replace("%", r"\%")  # cron reads a bare % as the end of the line


def _planned(
    entry: Entry, last: Event | None, present: datetime, look: Callable[[When, Event | None], tuple[Seen, ...]]
) -> Planned:
    moments = [next(CronSim(entry.cron, present))] if entry.cron else []
    status = str(last.detail["status"]) if last else ""
    if last is not None and status in ("failed", "killed"):
        moments.append(max(present, datetime.fromisoformat(last.time) + RETRY))
    why = _due(entry, last, present)
    seen = look(entry.when, last) if entry.when and not why else ()
    return Planned(
        entry=entry,
        last=last.time if last else "",
        status=status,
        due=bool(why) or any(one.met for one in seen),
        following=min(moments).isoformat(timespec="minutes") if moments else "",
        why=(why,) if why else tuple(one.told for one in seen if one.met) or tuple(one.told for one in seen),
    )


def _due(entry: Entry, last: Event | None, present: datetime) -> str:
    """Why it is due by its time, if it is: its moment came since its last run began, or it must be tried again."""
    if last is None:
        return "it never ran" if entry.cron else ""
    ran, status = datetime.fromisoformat(last.time), last.detail["status"]
    if status == "killed" and last.detail.get("killed", 1) == 1:  # one that is killed each time waits as a failure does
        return "its last run was killed"
    if status in ("failed", "killed") and present - ran >= RETRY:
        return f"its last run {'failed' if status == 'failed' else 'was killed'} an hour ago or more"
    if not entry.cron:
        return ""
    moment = next(CronSim(entry.cron, present.replace(microsecond=0) + timedelta(seconds=1), reverse=True))
    came = moment > datetime.fromisoformat(last.detail.get("began", last.time))
    return f"its time came: {moment.isoformat(timespec='minutes')}" if came else ""


def _run(workspace: Workspace, entry: Entry) -> Result:
    """The user's commands, then the steps; the first that fails is the last."""
    told: list[str] = []
    detail: dict[str, Any] = {}
    statuses: list[Status] = []
    actions: list[Callable[[], Result]] = [
        partial(_command, workspace, command, entry.max_hours) for command in entry.run
    ]
    actions += [partial(STEPS.load(step), workspace, entry) for step in entry.do]
    for action in actions:
        try:
            result = action()
        except MISTAKES as error:  # one schedule must not stop the others
            result = Result("failed", (_told(error),))
        statuses.append(result.status)
        told += result.told
        detail |= result.detail
        if result.status == "failed":
            break
    worst = next((status for status in WORST if status in statuses), None)
    status: Status = worst or ("done" if "done" in statuses else "nothing")
    return Result(status, tuple(told), detail)


def _command(workspace: Workspace, command: str, hours: float) -> Result:
    """One command of the user's, with its last words; it is killed with all it started when its time is over."""
    process = subprocess.Popen(
        shlex.split(command),
        cwd=workspace.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=hours * 3600)
    except subprocess.TimeoutExpired:
        return Result("failed", (f"{command}: killed after {hours:g} hours",))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    ended = f"{command}: {'done' if process.returncode == 0 else f'exit code {process.returncode}'}"
    return Result("failed" if process.returncode else "done", (f"{ended}: {last}" if last else ended,))
