"""`nacre matrix`: scores of every version on every task."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nacre.base.errors import InputError
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
    from nacre.cycle.scores.matrix import Shown

app = verb_app()


@app.command()
def matrix(
    version: Annotated[
        int | None, typer.Argument(help="the version whose history is shown", show_default="the champion")
    ] = None,
    workspace: WorkspaceOption = HERE,
    everything: Annotated[bool, typer.Option("--all", help="all versions, however their history branches")] = False,
    fill: Annotated[
        bool, typer.Option("--fill", help="score what has not been scored yet, the base model too")
    ] = False,
    joint: Annotated[
        int | None, typer.Option(help="the version trained on all tasks at once", show_default="looked for")
    ] = None,
    plain: Annotated[
        int | None,
        typer.Option(help="the version trained on the tasks in turn, unprotected", show_default="looked for"),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out", "--png", "--html", help="write a file that ends with .png, .html, .json or .csv; several times too"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the accuracy matrix and what is read off it, each figure with its definition and source."""
    from nacre.cycle.scores.matrix import look_up
    from nacre.evaluate.outputs import as_json as whole
    from nacre.evaluate.outputs import check_endings, save

    files = out or []
    check_endings(files)
    if everything and version is not None:
        raise InputError(
            "--all shows every version, so none can be named",
            where=f"nacre matrix {version} --all",
            fix="leave one of the two out",
        )
    with open_workspace(workspace) as space:
        number = None if everything else version_or_champion(space, version)
        found = look_up(space, number, joint=joint, plain=plain, score=fill)
    notes = list(found.notes)
    for path in files:
        notes += save(path, found.title, found.grid, notes=found.notes)
    if as_json:
        print_json({**whole(found.grid), "notes": notes})
        return
    _show(found)
    print_notes({"matrix": [*notes, *(f"written: {path}" for path in files)]})


def _show(found: "Shown") -> None:
    from nacre.evaluate.matrix import Matrix, figures
    from nacre.evaluate.pictures import terminal, terminal_history

    if isinstance(found.grid, Matrix):
        console.print(terminal(found.title, found.grid, width=console.width, read=figures(found.grid)))
    else:
        console.print(terminal_history(found.title, found.grid, width=console.width))
