"""`nacre evolve`: learn one increment, from its data to a judged version."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, print_json

if TYPE_CHECKING:
    from nacre.cycle.evolve import Evolution

app = typer.Typer()


@app.command()
def evolve(
    increment: Annotated[str, typer.Argument(help="a folder of the dataset folder, or a name in dataset_info.json")],
    workspace: WorkspaceOption = HERE,
    promote: Annotated[
        Literal["pass", "never"] | None,
        typer.Option(
            help="make the version champion when the gate passes, or never", show_default="from nacre.yaml: pass"
        ),
    ] = None,
    parent: Annotated[
        int | None, typer.Option("--from", help="train from this version", show_default="the champion")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the data, train with protection, score old and new tasks, judge, register, promote.

    Exit code 0: passed; 3: refused by the gate; 4: undecided and held as a candidate.
    """
    from nacre.cycle.evolve import evolve as evolve_increment
    from nacre.cycle.workspace import Workspace

    result = evolve_increment(Workspace.open(workspace), increment, promote=promote, parent=parent)
    if as_json:
        print_json(result.as_dict())
    else:
        show(result)
    raise typer.Exit(result.exit_code)


def show(result: "Evolution") -> None:
    """Print an evolution for people: notes, tasks, matrix, verdict."""
    from nacre.cli.tables import task_table
    from nacre.evaluate.pictures import terminal

    for note in result.notes:
        console.print(f"· {note}", markup=False)
    tasks = result.tasks()
    if tasks:
        console.print(task_table(tasks))
    if result.matrix is not None:
        console.print(terminal("accuracy", result.matrix))
    outcome = {
        "pass": "the gate passed",
        "fail": "the gate refused it",
        "undecided": "undecided: more dev rows are needed, and it is held as a candidate",
    }[result.verdict.outcome]
    state = "now champion" if result.promoted else "not promoted"
    console.print(f"version {result.version.number}: {outcome}; {state}", markup=False)
