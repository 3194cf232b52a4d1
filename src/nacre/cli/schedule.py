"""`nacre schedule`: what happens by itself, and when."""

import shutil
import sys
from typing import Annotated

import typer
from rich.table import Table

from nacre.cli.common import (
    HERE,
    JsonOption,
    WorkspaceOption,
    console,
    open_to_write,
    open_workspace,
    print_json,
    verb_app,
)

app = verb_app(help="What happens by itself, and when: refresh, increment, review.", no_args_is_help=True)


@app.command("list")
def list_schedules(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Every schedule: when it ran, how that ended, when it comes next."""
    from nacre.cycle.releases.schedule import plan

    with open_workspace(workspace) as space:
        found = plan(space)
    if as_json:
        print_json({"schedules": [one.as_dict() for one in found]})
        return
    table = Table("schedule", "every", "does", "last run", "ended", "next, UTC", "why")
    for one in found:
        following = "now" if one.chosen else one.following[:16].replace("T", " ")
        does = ", ".join([*one.entry.run, *one.entry.do])
        every, last = one.entry.every or "when asked for", one.last[:16].replace("T", " ")
        table.add_row(one.entry.name, every, does, last, one.status, following, one.waits or "; ".join(one.why))
    console.print(table)


@app.command()
def run(
    names: Annotated[list[str] | None, typer.Argument(help="run these now", show_default="what is due")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Look at the active rollout once, then run what is due. Meant to be called every few minutes.

    Exit code 0: done, or nothing was due; 1: something failed; 3: refused by the gate, below a target, or the
    release was stopped; 4: the gate could not decide.
    """
    from nacre.cycle.releases import schedule

    with open_to_write(workspace) as space:
        ran = schedule.run(space, names or ())
    if as_json:
        print_json(ran.as_dict())
    else:
        if ran.tick is not None:
            console.print(schedule.told(ran.tick), markup=False)
        if ran.trouble:
            console.print(ran.trouble, markup=False)
        for name, result in ran.results.items():
            console.print(f"{name}: {result.status}", markup=False)
            for sentence in result.told:
                console.print(f"· {sentence}", markup=False)
        for name, why in ran.waiting.items():
            console.print(f"{name} waits: {why}", markup=False)
        if not ran.results and not ran.waiting:
            console.print("nothing is due", markup=False)
    raise typer.Exit(ran.exit_code)


@app.command()
def cron(
    workspace: WorkspaceOption = HERE,
    minutes: Annotated[int, typer.Option(help="from look to look; a divisor of 60")] = 10,
) -> None:
    """Print the crontab line that runs what is due: `(crontab -l; nacre schedule cron) | crontab -`."""
    from nacre.cycle.releases.schedule import crontab

    found = shutil.which("nacre")
    program = [found] if found else [sys.executable, "-m", "nacre"]
    with open_workspace(workspace) as space:
        print(crontab(space, program, minutes))


@app.command()
def review(
    more: Annotated[list[str] | None, typer.Argument(metavar="[MODELS]...", help="further models")] = None,
    models: Annotated[
        list[str] | None, typer.Option("--models", help="folders of base models, or names in the local hub cache")
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Compare base models, untrained, on every kept task: scores, latency, size, architecture."""
    from nacre.cycle.scores.review_base import review as review_models

    with open_workspace(workspace) as space:
        found = review_models(space, [*(models or ()), *(more or ())])
    if as_json:
        print_json(found.as_dict())
        return
    table = Table("model", *found.metrics, "mean", "latency", "parameters", "size")
    for one in found.models:
        scores = [_score(one.scores[task], one.against.get(task)) for task in found.metrics]
        size = f"{one.size_bytes / 1e6:.1f} MB"
        parameters = f"{one.parameters / 1e6:.2f} M"
        table.add_row(one.name, *scores, f"{one.mean:.3f}", f"{one.latency_s * 1000:.0f} ms", parameters, size)
    console.print(table)
    for task, metric in found.metrics.items():
        console.print(f"· {task} is scored by {metric}", markup=False)
    for sentence in found.told:
        console.print(f"· {sentence}", markup=False)


def _score(score: float, against: tuple[float, float, float] | None) -> str:
    """A score, with the interval of its rise over the present base model."""
    return f"{score:.3f}" if against is None else f"{score:.3f} ({against[1]:+.2f} to {against[2]:+.2f})"
