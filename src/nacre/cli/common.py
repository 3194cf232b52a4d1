"""Options and output that every verb shares."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nacre.base.errors import InputError

if TYPE_CHECKING:
    from nacre.cycle.workspace import Workspace

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="folder with nacre.yaml", show_default="this folder")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object instead of text")]
WhyOption = Annotated[str, typer.Option("--why", help="one sentence for the history")]
ActorOption = Annotated[str, typer.Option("--actor", help="who does it", envvar="USER")]

HERE = Path()
PIPED_WIDTH = 120  # columns of a table that goes to a file or another program

console = Console(
    highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
)


def verb_app(**options: Any) -> typer.Typer:
    """The Typer app of one verb."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, **options)


def open_workspace(folder: Path) -> "Workspace":
    """The workspace at `folder`; use it in a `with` block, which closes its ledger."""
    from nacre.cycle.workspace import Workspace

    return Workspace.open(folder)


@contextmanager
def open_to_write(folder: Path) -> Iterator["Workspace"]:
    """The workspace at `folder`; MLflow and webhooks are told at the end of the block what it wrote."""
    from nacre.cycle.mirrors.mirror import telling

    with open_workspace(folder) as space, telling(space):
        yield space


def version_or_champion(space: "Workspace", version: int | None) -> int:
    """The version asked for, or else the champion.

    Raises:
        InputError: none was asked for and there is no champion.
    """
    if version is not None:
        return version
    champion = space.ledger.slot("champion")
    if champion is None:
        raise InputError("there is no champion yet", where=str(space.root), fix="run nacre evolve base first")
    return champion.version


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def warn(sentence: str) -> None:
    """One line on standard error, where it is in nobody's way."""
    print(f"nacre: {sentence}", file=sys.stderr)


def print_notes(notes: Mapping[str, Iterable[str]]) -> None:
    """What was decided, cut or left out, by the part of the work that says so; a line each where no one is watching."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim", min_width=9)
    for part, sentences in notes.items():
        for place, sentence in enumerate(sentences):
            name = part if place == 0 else ""
            table.add_row(Text(name), Text(sentence))
            if not console.is_terminal:
                console.print(f"{name:>9}  {sentence}", markup=False)
    if console.is_terminal:
        console.print(table)
