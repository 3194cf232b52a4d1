"""`nacre evaluate`: score a version on its tasks, or let the judge compare it with another one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nacre.cli.common import (
    HERE,
    JsonOption,
    WorkspaceOption,
    console,
    open_workspace,
    print_json,
    print_notes,
    verb_app,
    version_or_champion,
    warn,
)

if TYPE_CHECKING:
    from nacre.cycle.workspace import Workspace
    from nacre.records import Report

app = verb_app()

SHARES = (0.5, 0.95)  # percentiles of the latency that are shown


@app.command()
def evaluate(
    version: Annotated[int | None, typer.Argument(help="version number", show_default="the champion")] = None,
    metric: Annotated[
        str | None, typer.Option(help="read this metric", show_default="chosen by settings or data")
    ] = None,
    against: Annotated[
        int | None, typer.Option(help="let the judge compare its answers with this version's; 0 is the base model")
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Score a version on every task it knows; what was scored before is not scored again."""
    from nacre.base.errors import InputError
    from nacre.cycle.environment import checked
    from nacre.cycle.lineage import ancestry, devs, tasks_of
    from nacre.cycle.scores.judging import grouped_notes, unknown_settings
    from nacre.cycle.scores.scoring import Scorer
    from nacre.evaluate.latency import percentile

    if against is not None and metric is not None:
        fix = "leave --metric out: --against asks the judge"
        raise InputError("--against and --metric exclude each other", where="nacre evaluate", fix=fix)
    with open_workspace(workspace) as space:
        number = version_or_champion(space, version)
        if against is not None:
            _compare(space, against, number, as_json)
            return
        line = ancestry(space, number)
        tasks_known = tasks_of(line)
        if not devs(tasks_known):
            fix = "bring dev.json beside train.json"
            raise InputError("there is nothing to score: no task has dev rows", where=f"version {number}", fix=fix)
        unused = unknown_settings(space, list(tasks_known))
        reports = Scorer(space).reports(checked(space, warn)(line[-1]), devs(tasks_known), metric=metric)
    if as_json:
        tasks = {
            name: report.model_dump(mode="json", exclude={"said"})
            | {
                "latency": {
                    what: {f"p{share * 100:.0f}": percentile(seconds, share) for share in SHARES}
                    for what, seconds in _timed(report).items()
                }
            }
            for name, report in reports.items()
        }
        print_json({"version": number, "tasks": tasks, "notes": unused})
        return
    console.print(report_table(f"version {number}", reports))
    print_notes({"scoring": [*grouped_notes(reports), *unused]})


def report_table(title: str, reports: Mapping[str, "Report"]) -> Table:
    """One column a task, one row a metric, and the latency; the metric that the gate reads is marked."""
    from nacre.evaluate.latency import percentile

    table = Table("metric", title=title, title_justify="left")
    for task in reports:
        table.add_column(task, justify="right", overflow="fold", min_width=7)
    for name in sorted({name for report in reports.values() for name in (*report.scores, *report.totals)}):
        table.add_row(name, *(_cell(report, name) for report in reports.values()))
        if any(name == report.metric and name in report.totals for report in reports.values()):
            table.add_row(f"{name}, all rows together", *(_together(report, name) for report in reports.values()))
    table.add_row("rows", *(f"{report.rows} " for report in reports.values()))
    for what in ("s to first token", "s a further token", "s a request"):
        measured = [_timed(report)[what] for report in reports.values()]
        if any(measured):
            shown = [[percentile(seconds, share) for share in SHARES] for seconds in measured]
            cells = [" / ".join("" if value is None else f"{value:.3f}" for value in pair) for pair in shown]
            table.add_row(f"{what}, p50 / p95", *(f"{cell} " if any(cell) else "" for cell in cells))
    table.caption = "* what the gate reads, the mean over rows"
    return table


def _timed(report: "Report") -> dict[str, tuple[float, ...]]:
    return {
        "s to first token": report.first_token_s,
        "s a further token": report.token_s,
        "s a request": report.latency_s,
    }


def _cell(report: "Report", name: str) -> str:
    """What the gate reads is the mean over rows; of other metrics the number that is usual for them."""
    if name == report.metric:
        return f"{report.mean:.3f}*"
    scores = report.scores.get(name)
    value = report.totals.get(name, sum(scores) / len(scores) if scores else None)
    return "" if value is None else f"{value:.3f} "


def _together(report: "Report", name: str) -> str:
    return f"{report.totals[name]:.3f} " if name == report.metric and name in report.totals else ""


def _compare(space: "Workspace", old: int, new: int, as_json: bool) -> None:
    """What the judge says of two versions."""
    from nacre.cycle.scores.preferring import prefer

    found, notes = prefer(space, old, new)
    if as_json:
        tasks = {
            name: {**one.rate._asdict(), "rows": one.new.rows, "scores": one.new.scores["judge_pairwise"]}
            | {"at": one.new.places, "notes": one.new.notes}
            for name, one in found.items()
        }
        print_json({"old": old, "new": new, "tasks": tasks, "notes": notes})
        return
    table = Table("task", "rows", "new better", "equal", "old better", "win rate", "95 % interval")
    for name, one in found.items():
        counts = (one.new.rows, one.rate.wins, one.rate.ties, one.rate.losses)
        rate = (f"{one.rate.value:.3f}", f"{one.rate.low:.3f} to {one.rate.high:.3f}")
        table.add_row(name, *map(str, counts), *rate)
    table.title, table.title_justify = f"version {new} (new) against version {old} (old), by the judge", "left"
    console.print(table)
    print_notes({"judge": [*notes, *(f"{name}: {note}" for name, one in found.items() for note in one.new.notes)]})
