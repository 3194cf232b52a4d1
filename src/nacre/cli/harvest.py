"""`nacre harvest`: accepted feedback becomes the next increment."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_workspace, print_json, verb_app

if TYPE_CHECKING:
    from nacre.cycle.rows.harvest import Harvested

app = verb_app()


@app.command()
def harvest(
    name: Annotated[
        str | None, typer.Option(help="name of the increment", show_default="feedback_1, feedback_2 …")
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="also where there are too few rows for the gate to see anything on them")
    ] = False,
    review: Annotated[
        bool, typer.Option("--review", help="put the rows before a person first: nacre data review")
    ] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write what people agree on as increments that `nacre evolve` can learn: rows, preference pairs, judged answers.

    What one person alone says waits in quarantine: nacre feedback list shows it.
    """
    from nacre.cycle.rows.harvest import harvest as harvest_feedback

    with open_workspace(workspace) as space:
        found = harvest_feedback(space, name, anyway=anyway, review=review)
    if as_json:
        print_json(found.as_dict())
        return
    show(found)
    for one in found.increments:
        then = f"data review --queue {one.name} --increment {one.name}" if found.queue else f"evolve {one.name}"
        console.print(f"next: nacre {then}", markup=False)


def show(found: "Harvested") -> None:
    """Print for people what a harvest made: weak spots first, files last."""
    if len(found.topics) > 1:
        table = Table("topic", "rated", "bad", "for example", box=None)
        for topic in found.topics:
            table.add_row(", ".join(topic.words), str(topic.rated), f"{topic.share:.0%}", topic.example)
        console.print(table)
    for one in found.increments:
        if found.queue:
            told = f"{one.name}: {one.train + one.dev} rows wait for review"
        else:
            told = f"{one.folder}: {one.train} rows to train, {one.dev} to prove it"
        console.print(told + ("" if one.stage == "sft" else f" (stage {one.stage})"), markup=False)
    if found.note:
        console.print(f"· {found.note}", markup=False)
    for reason, count in found.left_out.items():
        console.print(f"· left out {count}: {reason}", markup=False)
