"""`nacre watch`: the ring by policy, until it is stopped."""

import json
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from nacre.cli.common import HERE, WorkspaceOption, console, open_workspace, print_json, verb_app, warn

app = verb_app()


@app.command()
def watch(
    workspace: WorkspaceOption = HERE,
    plan: Annotated[bool, typer.Option("--plan", help="only say what would be done now, and why")] = False,
    once: Annotated[bool, typer.Option("--once", help="look once, do what is due, and end")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object a line for each thing that happens")
    ] = False,
) -> None:
    """Run what the schedules, their triggers and the budget of compute ask for, until stopped; say it before it acts.

    The first SIGTERM or Ctrl-C lets the schedule that runs come to its end; the second stops it, and the next start
    takes it up. Exit code of --once: as of `nacre schedule run`.
    """
    if plan:
        _plan(workspace, as_json=as_json)
        return
    from nacre.cycle.releases.watch import watch as watch_workspace

    stop = threading.Event()
    with _stopping(stop):
        code = watch_workspace(workspace, _tell_json if as_json else _tell, stop=stop, once=once)
    raise typer.Exit(code)


def _plan(workspace: Path, *, as_json: bool) -> None:
    from nacre.cycle.releases.watch import overview

    with open_workspace(workspace) as space:
        found = overview(space)
    if as_json:
        print_json(found)
    else:
        _show(found)


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`; a second one interrupts what runs."""

    def asked(*_: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        warn("stopping: what runs comes to its end first; once more stops it at once, and the next start takes it up")

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_json(said: Mapping[str, Any]) -> None:
    print(json.dumps(dict(said), ensure_ascii=False), flush=True)


def _tell(said: Mapping[str, Any]) -> None:
    kind, clock = said["kind"], str(said["time"])[:19].replace("T", " ")
    if kind == "plan":
        console.print(f"{clock} plan", markup=False)
        _show(said)
        return
    if kind == "begins":
        line = f"{said['schedule']} begins: {', '.join(said['does'])}"
    elif kind == "ended":
        line = "\n· ".join([f"{said['schedule']}: {said['status']}", *said["told"]])
    elif kind == "error":
        line = f"error: {said['what']}"
    else:
        line = said.get("told", kind)
    console.print(f"{clock} {line}", markup=False)


def _show(found: Mapping[str, Any]) -> None:
    """A plan, for people."""
    for one in found["runs"]:
        console.print(f"runs  {one['schedule']}: {', '.join(one['does'])}", markup=False)
        _lines(one["why"])
    for one in found["waits"]:
        following = f"until {one['next'][:16].replace('T', ' ')} UTC" if one["next"] else "for its triggers"
        console.print(f"waits {one['schedule']}: {one['waits'] or following}", markup=False)
        _lines(one["why"])
    if found["release"] is not None:
        console.print(f"looks at the release of version {found['release']}", markup=False)
    for window, spent in found["budget"].items():
        hours = f"{spent['spent_hours']:.3g} of {spent['hours']:g} processor hours"
        console.print(f"spent {hours} in {window}", markup=False)


def _lines(sentences: list[str]) -> None:
    for sentence in sentences:
        console.print(f"      · {sentence}", markup=False)
