"""`nacre evaluate`: score a version on its tasks."""

from typing import Annotated

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


def report_table(title: str, reports: dict) -> Table:  # type: ignore[type-arg]  # Report is imported when it runs
    """One row a task, one column a metric."""
    table = Table(title=title, title_justify="left")
    table.add_column("task", no_wrap=True)
    names = sorted({name for report in reports.values() for name in (*report.scores, *report.totals)})
    for name in (*names, "rows", "s a request"):
        table.add_column(name.replace("_", " "), justify="right")
    for task, report in reports.items():
        cells = []
        for name in names:
            scores = report.scores.get(name)
            value = report.totals.get(name, sum(scores) / len(scores) if scores else None)
            cells.append("" if value is None else f"{value:.3f}")
        latency = sorted(report.latency_s)
        cells += [str(report.rows), f"{latency[len(latency) // 2]:.3f}" if latency else ""]
        table.add_row(task, *cells)
    return table
