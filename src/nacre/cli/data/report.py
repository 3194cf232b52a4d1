"""`nacre data report`: what a dataset is like before it is trained on."""

import datetime
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from nacre.base.errors import InputError
from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_workspace, print_json, print_notes

if TYPE_CHECKING:
    from nacre.cycle.workspace import Workspace
    from nacre.data.dataset import DatasetFiles
    from nacre.data.report.build import Earlier
    from nacre.data.report.records import DataReport, Said


class Asked(NamedTuple):
    """What `nacre data report` is asked: an argument or option each, as Typer reads them."""

    path: Annotated[
        Path | None, typer.Argument(help="a data file or folder; in a workspace also an increment's name")
    ] = None
    dataset: Annotated[str | None, typer.Option(help="instead: a name in dataset_info.json, or an increment")] = None
    dataset_dir: Annotated[
        Path | None,
        typer.Option(
            "--dataset-dir", "--dataset_dir", help="where the datasets are", show_default="the workspace's, or dataset"
        ),
    ] = None
    workspace: WorkspaceOption = HERE
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="earlier data, a path or a name; several times or with commas", show_default="what the workspace knows"
        ),
    ] = None
    domains: Annotated[Path | None, typer.Option(help="a domain a line: name, or name: term, term")] = None
    label: Annotated[str | None, typer.Option(help="the column with a row's class", show_default="looked for")] = None
    date_column: Annotated[str | None, typer.Option(help="the column with a row's date", show_default="looked for")] = (
        None
    )
    today: Annotated[
        str | None, typer.Option(help="the day the last three years end, YYYY-MM-DD", show_default="today")
    ] = None
    tokenizer: Annotated[Path | None, typer.Option(help="a model folder: count tokens too")] = None
    max_length: Annotated[int | None, typer.Option(min=1, help="tokens that training cuts a row at")] = None
    out: Annotated[
        list[Path] | None, typer.Option(help="write a file that ends with .html or .json; several times too")
    ] = None
    lang: Annotated[
        str, typer.Option(help="language of page and terminal: en, zh or both (the terminal's is then English)")
    ] = "both"
    as_json: JsonOption = False


def report(**given: Any) -> None:
    """Say what a dataset is like: balance, coverage, age, repeats, personal data, and how far it is from earlier data.

    Each thing out of bounds comes with a sentence of advice. Exit code 0 whatever is found.
    """
    from nacre.data.report.build import Options, Rows, report_on
    from nacre.data.report.coverage import read_domains
    from nacre.data.report.page import save

    asked = Asked(**given)
    if (asked.path is None) == (asked.dataset is None):
        raise InputError("name one thing to report on", where="nacre data report", fix="give a PATH, or --dataset NAME")
    files = asked.out or []
    _check(files, asked.lang)
    options = Options(
        today=_day(asked.today),
        label=asked.label,
        date=asked.date_column,
        domains=read_domains(asked.domains) if asked.domains else None,
        tokenizer=asked.tokenizer,
        max_length=asked.max_length,
    )
    with _Place(asked.workspace, asked.dataset_dir) as place:
        rows = place.files(asked.path, asked.dataset)
        task = "+".join(one.task for one in rows)
        earlier = place.named(asked.against) if asked.against else place.known(task)
        found = report_on(asked.dataset or str(asked.path), Rows(rows), earlier, options)
    found = found.changed(notes=(*place.notes, *found.notes))
    for file in files:
        save(found, file, lang="en" if asked.lang == "en" else "zh" if asked.lang == "zh" else "both")
    if asked.as_json:
        print_json(found.model_dump(mode="json"))
        return
    _show(found, "zh" if asked.lang == "zh" else "en")
    notes = [note.zh if asked.lang == "zh" else note.en for note in found.notes]
    print_notes({"report": [*notes, *(f"written: {file}" for file in files)]})


_read_by_typer: Any = report
_read_by_typer.__signature__ = inspect.signature(Asked)


def _check(files: list[Path], lang: str) -> None:
    if lang not in ("en", "zh", "both"):
        raise InputError(f"unknown language '{lang}'", where="--lang", fix="en, zh or both")
    for file in files:
        if file.suffix not in (".html", ".json"):
            raise InputError("the ending says nothing", where=f"--out {file}", fix="end it with .html or .json")


def _day(text: str | None) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text) if text else None
    except ValueError:
        raise InputError(f"'{text}' is no day", where="--today", fix="write YYYY-MM-DD") from None


class _Place:
    """Where rows are looked for: a workspace, where there is one, or a folder of datasets."""

    def __init__(self, folder: Path, dataset_dir: Path | None) -> None:
        self._space: Workspace | None = open_workspace(folder) if (folder / "nacre.yaml").is_file() else None
        self._dataset_dir = dataset_dir or (self._space.dataset_dir if self._space else folder / "dataset")
        self.notes: list[Said] = []

    def __enter__(self) -> "_Place":
        return self

    def __exit__(self, *_: object) -> None:
        if self._space:
            self._space.close()

    def files(self, path: Path | None, dataset: str | None) -> "list[DatasetFiles]":
        """The dataset asked for."""
        from nacre.data.check import at
        from nacre.data.dataset import resolve, split_names

        if dataset is not None:
            return [resolve(part, self._dataset_dir) for part in split_names(dataset)]
        if self._space and path is not None and not path.exists():
            return [resolve(str(path), self._dataset_dir)]
        return [at(str(path))]

    def named(self, names: "list[str]") -> "Iterator[Earlier]":
        """The earlier data that the user names."""
        from nacre.data.dataset import resolve, split_names

        for name in names:
            for part in split_names(name):
                yield from _both_splits(resolve(part, self._dataset_dir))

    def known(self, task: str) -> "Iterator[Earlier]":
        """What a workspace knows to be earlier: rows the champion's line learned, or else datasets named before it."""
        from nacre.data.dataset import resolve
        from nacre.data.report.records import Said

        if self._space is None:
            return
        if learned := list(self._learned(task)):
            names = ", ".join(dict.fromkeys(one.name for one in learned))
            en = f"compared with the kept rows of {names}, learned by the champion's line"
            self.notes.append(Said(en=en, zh=f"对比对象：冠军版本一脉学过并保留的 {names}"))
            yield from learned
            return
        before = _before(task, self._dataset_dir)
        if before:
            listed = ", ".join(before)
            en = f"nothing was learned yet: compared with the datasets before it, {listed}"
            self.notes.append(Said(en=en, zh=f"尚未学过任何数据：对比对象是排在它之前的数据集 {listed}"))
        for name in before:
            yield from _both_splits(resolve(name, self._dataset_dir))

    def _learned(self, task: str) -> "Iterator[Earlier]":
        from nacre.cycle.lineage import ancestry, tasks_of
        from nacre.data.report.build import Earlier
        from nacre.data.rows import read_rows

        space = self._space
        if space is None or not (space.settings.ledger.url or (space.hidden / "ledger.db").is_file()):
            return
        champion = space.ledger.slot("champion")
        for learned in tasks_of(ancestry(space, champion.version if champion else None)).values():
            if learned.name == task:
                return
            rows = (row for file in learned.train for row in read_rows(space.memory, file))
            yield Earlier(learned.name, rows)
            if learned.dev is not None:
                yield Earlier(learned.name, read_rows(space.memory, learned.dev), "dev")


def _both_splits(files: "DatasetFiles") -> "Iterator[Earlier]":
    from nacre.data.report.build import Earlier, Rows

    yield Earlier(files.name, Rows([files]))
    if files.dev:
        yield Earlier(files.name, Rows([files], "dev"), "dev")


def _before(name: str, dataset_dir: Path) -> list[str]:
    """The datasets of a folder that come before this name, base first, numbers by size; all for a name not there."""
    from nacre.data.dataset_info import read_info

    folders = [one.name for one in dataset_dir.iterdir() if any(one.glob("train.*"))] if dataset_dir.is_dir() else []
    names = sorted({*folders, *read_info(dataset_dir)}, key=_natural)
    return names[: names.index(name)] if name in names else names


def _natural(name: str) -> tuple[bool, list[tuple[int, str]]]:
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in re.split("([0-9]+)", name)]
    return name != "base", parts


def _show(found: "DataReport", lang: Literal["en", "zh"]) -> None:
    from nacre.data.report.page_words import WORDS
    from nacre.data.report.records import Said
    from nacre.data.report.summary import NAMES, summary

    def said(texts: Said) -> str:
        return texts.zh if lang == "zh" else texts.en

    rows, against, nothing = (said(WORDS[key]) for key in ("rows", "against", "alone"))
    earlier = ", ".join(dict.fromkeys(one.name for one in found.earlier))
    about = f"{against} {earlier}" if earlier else nothing
    console.print(f"{found.target}: {found.rows:,} {rows}, {about}", markup=False)
    table = Table()
    for key in ("measure", "found", "wanted"):
        table.add_column(said(WORDS[key]).rstrip(":："))
    table.add_column("")
    for line in summary(found):
        style = {"flag": "bold red", "ok": "green"}.get(line.state)
        state = Text(said(WORDS[line.state]), style=style) if style else Text("–")
        table.add_row(said(line.name), Text(said(line.value)), Text(said(line.wanted)), state)
    console.print(table)
    for flag in found.flags:
        style = "bold red" if flag.level == "flag" else "bold"
        console.print(Text(f"{said(NAMES[flag.measure])}: {said(flag.found)}", style=style))
        console.print(f"  {said(flag.advice)}", markup=False)
