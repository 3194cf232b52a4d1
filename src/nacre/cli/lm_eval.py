"""`nacre lm-eval`: the bridge to lm-evaluation-harness."""

from pathlib import Path
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
    from nacre.cycle.scores.lm_eval import Imported

app = verb_app(
    help="lm-evaluation-harness: run its tasks on a version, read its samples, write dev rows as its tasks.",
    no_args_is_help=True,
)

VersionArgument = Annotated[
    int | None, typer.Argument(min=0, help="version number; 0 is the base model", show_default="the champion")
]


@app.command()
def run(
    version: VersionArgument = None,
    tasks: Annotated[str, typer.Option(help="tasks, groups or tags of lm-eval, with commas between them")] = "",
    include_path: Annotated[
        Path | None, typer.Option("--include-path", "--include_path", help="folder with more task files")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="rows of each task at most")] = None,
    num_fewshot: Annotated[
        int | None,
        typer.Option(
            "--num-fewshot", "--num_fewshot", min=0, help="examples before each question", show_default="the task's"
        ),
    ] = None,
    chat: Annotated[
        bool,
        typer.Option("--chat-template", "--apply_chat_template", help="put questions through the chat template"),
    ] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Run tasks of lm-eval on a version and keep their scores as reports; nothing is downloaded."""
    from nacre.cycle.scores.lm_eval import run_tasks
    from nacre.evaluate.lm_eval.harness import Request

    wanted = tuple(name.strip() for name in tasks.split(",") if name.strip())
    request = Request(wanted, include_path, limit, num_fewshot, chat)
    with open_workspace(workspace) as space:
        found = run_tasks(space, version_or_champion(space, version), request)
    _show(found, as_json)


@app.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help="samples_*.jsonl files that lm_eval --log_samples wrote")],
    version: Annotated[
        int | None,
        typer.Option(min=0, help="the version that answered; 0 is the base model", show_default="the champion"),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="the metric to read", show_default="acc_norm, acc, exact_match, f1 or another")
    ] = None,
    filtered: Annotated[
        str | None, typer.Option("--filter", help="the filter to read", show_default="the first in the file")
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Keep the samples files of lm-eval as reports on a version."""
    from nacre.cycle.scores.lm_eval import import_samples

    with open_workspace(workspace) as space:
        number = version_or_champion(space, version)
        found = import_samples(space, number, files, metric=metric, filtered=filtered)
    _show(found, as_json)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="where to write; for the --include_path of lm_eval")],
    version: Annotated[
        int | None,
        typer.Option(help="whose tasks, and whose chat template renders the questions", show_default="the champion"),
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write the dev rows of a version's tasks as tasks of lm-eval: YAML and JSON lines."""
    from nacre.cycle.scores.lm_eval import export_tasks

    with open_workspace(workspace) as space:
        found = export_tasks(space, version_or_champion(space, version), folder)
    if as_json:
        print_json({"folder": str(found.folder), "tasks": found.tasks, "notes": list(found.notes)})
        return
    table = Table("task", "in lm-eval", "file")
    for task, name in found.tasks.items():
        table.add_row(task, name, str(found.folder / f"{name}.yaml"))
    console.print(table)
    print_notes({"export": [*found.notes, f"run them: lm_eval --include_path {found.folder} --tasks nacre_dev …"]})


def _show(found: "Imported", as_json: bool) -> None:
    from nacre.cycle.scores.lm_eval import described

    if as_json:
        print_json(described(found))
        return
    table = Table("task", "metric", "mean", "rows")
    for task, report in found.reports.items():
        table.add_row(task, report.metric, f"{report.mean:.3f}", str(report.rows))
    console.print(table)
    print_notes({"lm-eval": found.notes})
