"""`nacre data chunk`: cut long plain texts into pieces."""

from pathlib import Path
from typing import Annotated

import typer

from nacre.base.errors import InputError
from nacre.cli.common import JsonOption, console, print_json


def chunk(
    path: Annotated[Path, typer.Argument(help="a file of plain text: .txt, or rows with a column text")],
    out: Annotated[Path, typer.Option(help="where the pieces go, as JSON lines")],
    size: Annotated[int, typer.Option(help="tokens or characters of a piece, at most")] = 512,
    overlap: Annotated[int, typer.Option(help="of them shared with the piece before")] = 32,
    by: Annotated[str, typer.Option(help="what is counted: tokens or characters")] = "tokens",
    documents: Annotated[str, typer.Option(help="one text in a .txt file: line, paragraph or file")] = "line",
    tokenizer: Annotated[str | None, typer.Option(help="by tokens: a model folder, or its tokenizer.json")] = None,
    as_json: JsonOption = False,
) -> None:
    """Cut long plain texts into pieces of equal length that overlap.

    Exit code 0: every row was read; 1: some cannot be used.
    """
    from nacre.base.config import parse
    from nacre.data.chunks import Chunking
    from nacre.data.cut import cut_file

    if out.exists() and out.resolve() == path.resolve():
        raise InputError("a file cannot be cut onto itself", where=str(out), fix="name another file with --out")
    given = {"size": size, "overlap": overlap, "by": by, "documents": documents, "tokenizer": tokenizer}
    report = cut_file(path, out, parse(Chunking, given, where="nacre data chunk"))
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        for line in report.lines():
            console.print(line, markup=False)
    raise typer.Exit(0 if not report.problems else 1)
