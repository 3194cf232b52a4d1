"""`nacre reproduce`: train a version again from its record, and compare."""

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
)

app = verb_app()


@app.command()
def reproduce(
    version: Annotated[int, typer.Argument(help="version number")],
    workspace: WorkspaceOption = HERE,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="largest difference of any weight that counts as equal", show_default="1e-05"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a version again from the same parent, rows, recipe and seed, and compare weights and scores.

    Exit code 0: equal bit by bit, or within the tolerance; 3: not equal, or it could not be trained again.
    """
    from nacre.cycle.increment.reproduce import TOLERANCE
    from nacre.cycle.increment.reproduce import reproduce as reproduce_version

    with open_workspace(workspace) as space:
        found = reproduce_version(space, version, tolerance=TOLERANCE if tolerance is None else tolerance)
    if as_json:
        print_json(found.as_dict())
        raise typer.Exit(0 if found.equal else 3)
    if not found.trained:
        console.print(f"version {version} cannot be trained again", markup=False)
    elif found.same_bytes:
        console.print(f"version {version} was trained again in {found.seconds:.0f} s: the same weights, bit by bit")
    else:
        told = "unknown" if found.difference is None else f"{found.difference:.3g}"
        verdict = "equal" if found.equal else "not equal"
        console.print(
            f"version {version}: {verdict}; largest difference of a weight {told}, {found.tolerance:g} allowed"
        )
        table = Table("task", "recorded", "trained again")
        for task, (old, new) in (found.scores or {}).items():
            table.add_row(task, f"{old:.3f}", f"{new:.3f}")
        console.print(table)
    print_notes({"differs": found.reasons})
    raise typer.Exit(0 if found.equal else 3)
