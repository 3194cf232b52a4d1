"""`nacre report`: what an increment came to, as one page."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from nacre.cycle.reports.report import Format as Drawn

app = verb_app()


class Format(StrEnum):
    """What a report can be written as."""

    html = "html"
    md = "md"
    json = "json"
    card = "card"


_FORMATS: "dict[Format, Drawn]" = {Format.html: "html", Format.md: "md", Format.json: "json"}


class Language(StrEnum):
    """Of the report's own words."""

    en = "en"
    zh = "zh"
    both = "both"


@app.command()
def report(
    version: Annotated[int | None, typer.Argument(help="version number", show_default="the champion")] = None,
    workspace: WorkspaceOption = HERE,
    out: Annotated[
        Path | None, typer.Option(help="write it here", show_default="html: kept beside the version; others: printed")
    ] = None,
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format", help="html, md, json, or card: the model card", show_default="by the ending of --out, or html"
        ),
    ] = None,
    lang: Annotated[
        Language, typer.Option(help="of the report's own words; both: a page that can be switched")
    ] = Language.both,
    as_json: JsonOption = False,
) -> None:
    """Write what came in, what was trained, the matrix, the verdict, changed answers, the cost and what to do next.

    A report is kept in `.nacre/reports/<version>/` when a version was judged; this brings it up to date.
    """
    from nacre.cycle.reports.card import model_card
    from nacre.cycle.reports.report import facts_of, keep_report, render

    chosen = kind or _by_ending(out)
    with open_workspace(workspace) as space:
        number = version_or_champion(space, version)
        page = keep_report(space, number)
        if as_json:
            print_json({**facts_of(space, number).model_dump(mode="json"), "page": str(page)})
        if out is None and (as_json or chosen is Format.html):
            text = ""
        elif chosen is Format.card:
            text = model_card(space, number)
        else:
            text = render(facts_of(space, number), _FORMATS[chosen], lang.value)
    if out is not None:
        _write(out, text)
    elif text:
        print(text, end="")
    if not as_json and (out is not None or not text):
        console.print(f"written: {out or page}", markup=False)


def _by_ending(out: Path | None) -> Format:
    endings = {".html": Format.html, ".md": Format.md, ".json": Format.json}
    if out is None:
        return Format.html
    if out.suffix.lower() not in endings:
        raise InputError(
            f"a report cannot be {out.suffix or 'without an ending'}",
            where=f"--out {out}",
            fix="end it with .html, .md or .json, or name the --format",
        )
    return endings[out.suffix.lower()]


def _write(path: Path, text: str) -> None:
    from nacre.base.files import atomic_write

    if path.is_dir():
        raise InputError("this is a folder", where=f"--out {path}", fix="name a file in it")
    atomic_write(path, text)
