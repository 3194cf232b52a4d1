"""`nacre matrix`: scores of every version on every task."""

from pathlib import Path
from typing import Annotated

import typer

from nacre.base.errors import InputError
from nacre.cli.common import (
    HERE,
    JsonOption,
    WorkspaceOption,
    console,
    open_workspace,
    print_json,
    verb_app,
    version_or_champion,
)

app = verb_app()


@app.command()
def matrix(
    version: Annotated[
        int | None, typer.Argument(help="the version whose history is shown", show_default="the champion")
    ] = None,
    workspace: WorkspaceOption = HERE,
    fill: Annotated[
        bool, typer.Option("--fill", help="score what has not been scored yet, the base model too")
    ] = False,
    png: Annotated[Path | None, typer.Option(help="write a heat map")] = None,
    html: Annotated[Path | None, typer.Option(help="write a page")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the accuracy matrix, average accuracy, BWT and forgetting, each with its definition."""
    from nacre.base.files import atomic_write
    from nacre.cycle.matrix import lineage_matrix
    from nacre.evaluate.matrix import figures
    from nacre.evaluate.pictures import terminal, to_html

    with open_workspace(workspace) as space:
        number = version_or_champion(space, version)
        if fill:
            from nacre.cycle.scoring import fill as score_what_is_missing

            score_what_is_missing(space, number)
        found = lineage_matrix(space, number)
    if found is None:
        raise InputError(
            "there is no matrix: no task has dev rows",
            where=f"version {number}",
            fix="bring dev.json beside train.json",
        )
    title = f"version {number}"
    if png:
        from nacre.evaluate.heat_map import save_png

        for note in save_png([(title, found)], png):
            console.print(note, markup=False)
    if html:
        atomic_write(html, to_html([(title, found)]))
    if as_json:
        print_json(
            found.model_dump(mode="json") | {figure.name: figure.model_dump(mode="json") for figure in figures(found)}
        )
    else:
        console.print(terminal(title, found))
