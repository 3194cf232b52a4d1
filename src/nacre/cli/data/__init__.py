"""`nacre data`: look at data before it is trained on."""

from pathlib import Path
from typing import Annotated

import typer

from nacre.base.errors import InputError
from nacre.cli.common import JsonOption, console, print_json, verb_app
from nacre.cli.data.annotate import app as annotate
from nacre.cli.data.chunk import chunk
from nacre.cli.data.clean import clean
from nacre.cli.data.compose import compose
from nacre.cli.data.diff import diff
from nacre.cli.data.fix import fix_file
from nacre.cli.data.forget import forget
from nacre.cli.data.report import report
from nacre.cli.data.review import review
from nacre.cli.data.split import split
from nacre.cli.data.synthesize import synthesize

app = verb_app(help="Look at data before it is trained on.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look at data before it is trained on."""


@app.command()
def check(
    path: Annotated[Path | None, typer.Argument(help="a data file")] = None,
    dataset: Annotated[str | None, typer.Option(help="instead: a name in dataset_info.json, or an increment")] = None,
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", "--dataset_dir", help="where the datasets are")] = Path(
        "dataset"
    ),
    fix: Annotated[bool, typer.Option("--fix", help="mend what has one right answer, into a new file")] = False,
    out: Annotated[
        Path | None, typer.Option(help="with --fix: where the rows go", show_default="PATH.fixed.jsonl")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a file or dataset holds, which rows cannot be used, why, and what would mend them.

    Exit code 0: every row can be used; 1: some cannot.
    """
    from nacre.data.check import check as check_data

    if (path is None) == (dataset is None):
        raise InputError("name one thing to check", where="nacre data check", fix="give a PATH, or --dataset NAME")
    if fix or out is not None:
        raise typer.Exit(fix_file(path, dataset, dataset_dir, out, as_json=as_json))
    report = check_data(
        str(path if path is not None else dataset), dataset_dir=None if path is not None else dataset_dir
    )
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        for line in report.lines():
            console.print(line, markup=False)
    raise typer.Exit(0 if report.ok else 1)


app.command()(clean)
app.command()(chunk)
app.command()(split)
app.command()(compose)
app.command()(report)
app.command()(forget)
app.command()(synthesize)
app.command()(review)
app.command()(diff)
app.add_typer(annotate, name="annotate")
