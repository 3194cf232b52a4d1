"""`nacre data diff`: what changed between two versions' snapshots, datasets or files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, print_json, print_notes

if TYPE_CHECKING:
    from nacre.cycle.rows.diff import Part


def diff(
    before: Annotated[str, typer.Argument(help="a version's number, a dataset or a file")],
    after: Annotated[str, typer.Argument(help="another one")],
    dataset_dir: Annotated[Path, typer.Option(help="where the datasets are")] = Path("dataset"),
    rows: Annotated[int, typer.Option(min=0, help="how many rows of each kind are shown")] = 5,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show which rows were added, removed or answered otherwise, and how classes and lengths changed.

    Exit code 0: they have the same rows; 1: they differ.
    """
    from nacre.cycle.rows.diff import diff as compare
    from nacre.cycle.rows.diff import side

    one, two = (side(name, workspace, dataset_dir) for name in (before, after))
    found = compare(one, two)
    differs = any(part.added or part.removed or part.changed for part in found.values())
    if as_json:
        parts = {name: part.as_dict() for name, part in found.items()}
        notes = [*one.notes, *two.notes]
        print_json({"before": one.name, "after": two.name, "differs": differs, **parts, "notes": notes})
    else:
        for name, part in found.items():
            _show(f"{name}, {one.name} → {two.name}", part, rows)
        print_notes({side.name: side.notes for side in (one, two)})
    raise typer.Exit(1 if differs else 0)


def _show(title: str, part: "Part", rows: int) -> None:
    from nacre.cycle.rows.diff import short

    console.print(
        f"{title}: {len(part.added)} added, {len(part.removed)} removed, {len(part.changed)} answered otherwise, "
        f"{part.same} the same",
        markup=False,
    )
    if part.moved:
        console.print(f"! {part.moved} of the added rows were in the other part (train or dev) before", markup=False)
    for sign, found in (("+", part.added), ("-", part.removed)):
        for row in found[:rows]:
            where = f"  ({row.origin.file}, line {row.origin.line})" if row.origin.file else ""
            asked, answer = short(row.prompt[-1].content), short(row.answer)
            console.print(f"{sign} {asked!r} → {answer!r}{where}", markup=False)
        if len(found) > rows:
            console.print(f"{sign} and {len(found) - rows} more", markup=False)
    for one in part.changed[:rows]:
        console.print(f"~ {one.question!r}: {one.before!r} → {one.after!r}", markup=False)
    if len(part.changed) > rows:
        console.print(f"~ and {len(part.changed) - rows} more", markup=False)
    table = Table("", "before", "after")
    lines = [*part.figures.items(), *((f"class {name}", counts) for name, counts in part.classes.items())]
    for name, (one_value, two_value) in lines:
        if one_value != two_value:
            table.add_row(Text(name), f"{one_value:g}", f"{two_value:g}")
    if table.rows:
        console.print(table)
