"""`nacre data split`: train and dev rows that have nothing in common."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from nacre.base.errors import InputError
from nacre.cli.common import HERE, JsonOption, console, print_json, print_notes


def split(
    name: Annotated[str, typer.Argument(help="a data file, a name in dataset_info.json, or an increment")],
    out: Annotated[Path, typer.Option(help="folder for train.jsonl and dev.jsonl")],
    dev: Annotated[float, typer.Option(min=0, help="share of the rows, or their number from 1 on")] = 0.1,
    group: Annotated[str | None, typer.Option(help="a column whose values stay on one side, such as a user")] = None,
    by: Annotated[
        str | None, typer.Option("--class", help="a column to stratify by", show_default="the short answers")
    ] = None,
    near: Annotated[float, typer.Option(min=0.5, help="Jaccard coefficient of near duplicates; 2: equal rows")] = 0.8,
    dataset_dir: Annotated[
        Path, typer.Option(help="where the datasets are; no row goes to either side that is like one of their dev rows")
    ] = Path("dataset"),
    as_json: JsonOption = False,
) -> None:
    """Split rows without a leak: what is equal, nearly equal, asks the same or is of one group stays on one side.

    Rows like any dev row of the datasets or of the workspace's ledger go to left_out.jsonl.
    """
    from nacre.cycle.rows.past_dev import gather_dev
    from nacre.data.compose.split_files import DEV, split_files

    if not dev:
        raise InputError("no row would be a dev row", where="--dev", fix="give a share, or a number")
    past, said = gather_dev(HERE, dataset_dir, {(out / DEV).resolve()})
    found = split_files(name, dataset_dir, out, dev, near=near, columns=(group, by), past=past)
    found = found.changed(notes=(*found.notes, *said))
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    console.print(
        f"{found.out}: {found.train} train and {found.dev} dev rows of {found.rows}, {found.left_out} on neither side",
        markup=False,
    )
    for reason, count in found.together.items():
        if count:
            console.print(f"· {count} rows stay with others: {reason}", markup=False)
    table = Table("class", "train", "dev")
    for label, (train, held) in found.classes.items():
        table.add_row(Text(label), str(train), str(held))
    console.print(table)
    print_notes({"split": found.notes})
