"""`nacre evaluate`: score a version on its tasks."""

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
)

if TYPE_CHECKING:
    from nacre.records import Report

app = verb_app()


@app.command()
def evaluate(
    version: Annotated[int | None, typer.Argument(help="version number", show_default="the champion")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Score a version on every task it knows; what was scored before is not scored again."""
    from nacre.cycle.judging import grouped_notes
    from nacre.cycle.lineage import ancestry, devs, tasks_of
    from nacre.cycle.scoring import Scorer

    with open_workspace(workspace) as space:
        number = version_or_champion(space, version)
        line = ancestry(space, number)
        reports = Scorer(space).reports(space.weights(line[-1]), devs(tasks_of(line)))
    if as_json:
        print_json(
            {"version": number, "tasks": {name: report.model_dump(mode="json") for name, report in reports.items()}}
        )
        return
    console.print(report_table(f"version {number}", reports))
    print_notes({"scoring": grouped_notes(reports)})


def report_table(title: str, reports: Mapping[str, "Report"]) -> Table:
    """One column a task, one row a metric; the metric that the gate reads is marked."""
    table = Table("metric", title=title, title_justify="left")
    for task in reports:
        table.add_column(task, justify="right", overflow="fold", min_width=7)
    for name in sorted({name for report in reports.values() for name in (*report.scores, *report.totals)}):
        table.add_row(name, *(_cell(report, name) for report in reports.values()))
    table.add_row("rows", *(f"{report.rows} " for report in reports.values()))
    latencies = [sorted(report.latency_s) for report in reports.values()]
    table.add_row("s a request", *(f"{times[len(times) // 2]:.3f} " if times else "" for times in latencies))
    table.caption = "* what the gate reads"
    return table


def _cell(report: "Report", name: str) -> str:
    scores = report.scores.get(name)
    value = report.totals.get(name, sum(scores) / len(scores) if scores else None)
    return "" if value is None else f"{value:.3f}{'*' if name == report.metric else ' '}"
