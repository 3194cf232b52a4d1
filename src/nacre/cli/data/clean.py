"""`nacre data clean`: clean a dataset, and say what each step did."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from nacre.base.errors import InputError
from nacre.cli.common import HERE, JsonOption, console, print_json, print_notes

if TYPE_CHECKING:
    from nacre.data.cleaning import CleanReport
    from nacre.data.dataset_info import Entry

_SHOWN_KINDS = 6


def clean(
    path: Annotated[Path | None, typer.Argument(help="a data file, or a folder with a train file")] = None,
    dataset: Annotated[str | None, typer.Option(help="instead: a name in dataset_info.json, or an increment")] = None,
    dataset_dir: Annotated[Path, typer.Option(help="where the datasets are")] = Path("dataset"),
    out: Annotated[Path | None, typer.Option(help="where the clean records go")] = None,
    steps: Annotated[
        str | None, typer.Option(help="exactly these, with commas; 'default' and 'all' are groups")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with settings of steps (docs/cleaning.md)")] = None,
    engine: Annotated[
        str, typer.Option(help="local, or ray: many processes and machines (ray:4: so many, else one for each CPU)")
    ] = "local",
    as_json: JsonOption = False,
) -> None:
    """Clean the texts of a dataset, record by record; what is dropped goes to OUT.dropped.jsonl with the reason."""
    from nacre.cycle.rows.past_dev import past_dev_texts
    from nacre.data.clean.chain import choose
    from nacre.data.cleaning import clean_files

    if (path is None) == (dataset is None):
        raise InputError("name one thing to clean", where="nacre data clean", fix="give a PATH, or --dataset NAME")
    if out is None:
        raise InputError("the output is not named", where="nacre data clean", fix="give --out FILE")
    name, workers = _engine(engine)
    files, entry = _files(path, dataset, dataset_dir)
    names = [name.strip() for name in steps.split(",") if name.strip()] if steps is not None else None
    if names == []:
        raise InputError("no step is named", where="--steps", fix="give names with commas, or leave --steps out")
    chosen = choose(names, config)
    dev, said = past_dev_texts(HERE) if "leaks" in chosen else ([], [])
    found = clean_files(files, out, chosen, entry=entry, dev=dev, engine=name, workers=workers)
    found = found.changed(notes=(*found.notes, *said))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _show(found)


def _engine(engine: str) -> tuple[str, int | None]:
    name, colon, workers = engine.partition(":")
    if colon and (not workers.isdecimal() or int(workers) < 1):
        raise InputError(f"'{workers}' is no number of processes", where="--engine", fix=f"write {name}:2")
    return name, int(workers) if colon else None


def _files(path: Path | None, dataset: str | None, dataset_dir: Path) -> "tuple[tuple[Path, ...], Entry | None]":
    from nacre.data.dataset import at_path, resolve

    if dataset is not None:
        named = resolve(dataset, dataset_dir)
        return named.train, named.entry
    found = at_path(path) if path is not None else None
    if found is None:
        raise InputError("there is no such file or folder", where=str(path), fix="check the path")
    return found.train, found.entry


def _show(report: "CleanReport") -> None:
    share = f" ({report.dropped / report.rows:.1%})" if report.rows else ""
    console.print(
        f"{report.out}: {report.kept} of {report.rows} records kept, {report.mended} of them changed, "
        f"{report.dropped} dropped{share}",
        markup=False,
    )
    if report.aside:
        console.print(f"{report.aside}: the dropped ones, with reasons", markup=False)
    table = Table(title="steps", title_justify="left")
    table.add_column("step")
    for name in ("records changed", "texts", "dropped"):
        table.add_column(name, justify="right")
    table.add_column("found")
    if report.unread:
        table.add_row("reading", "", "", str(report.unread), "rows that cannot be used")
    for step in report.steps:
        kinds = list(step.found.items())
        shown = ", ".join(f"{kind} {count}" for kind, count in kinds[:_SHOWN_KINDS])
        shown += f" and {len(kinds) - _SHOWN_KINDS} more" if len(kinds) > _SHOWN_KINDS else ""
        table.add_row(step.name, str(step.records), str(step.texts), str(step.dropped), escape(shown))
    console.print(table)
    for step in report.steps:
        for example in step.examples:
            console.print(f"{step.name}, line {example.line}", style="bold", markup=False)
            if example.before:
                console.print(f"  - {example.before!r}", markup=False)
            console.print(f"  + {example.after!r}", markup=False)
    print_notes({"cleaning": report.notes})
