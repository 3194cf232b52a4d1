"""`nacre harvest`: accepted feedback becomes the next increment."""

from typing import Annotated

import typer

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_workspace, print_json, verb_app

app = verb_app()


@app.command()
def harvest(
    name: Annotated[
        str | None, typer.Option(help="name of the increment", show_default="feedback_1, feedback_2 …")
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write corrections and well-rated answers as an increment that `nacre evolve` can learn."""
    from nacre.cycle.rows.harvest import harvest as harvest_feedback

    with open_workspace(workspace) as space:
        found = harvest_feedback(space, name)
    if as_json:
        print_json(
            {
                "increment": found.name,
                "folder": str(found.folder),
                "train": found.train,
                "dev": found.dev,
                "left_out": found.left_out,
                "note": found.note,
            }
        )
        return
    console.print(f"{found.folder}: {found.train} rows to train, {found.dev} to prove it", markup=False)
    if found.note:
        console.print(f"· {found.note}", markup=False)
    for reason, count in found.left_out.items():
        console.print(f"· left out {count}: {reason}", markup=False)
    console.print(f"next: nacre evolve {found.name}", markup=False)
