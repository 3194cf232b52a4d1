"""`nacre recipe`: several settings and steps that belong together, under one name."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer
from rich.table import Table

from nacre.base.errors import InputError
from nacre.cli.common import (
    HERE,
    JsonOption,
    WorkspaceOption,
    console,
    open_to_write,
    print_json,
    print_notes,
    verb_app,
)
from nacre.cli.launch import leading, machines, only_follows

if TYPE_CHECKING:
    from nacre.cycle.increment.domain import Adapted
    from nacre.cycle.workspace import Workspace

app = verb_app(
    help="Several settings and steps that belong together: a domain with its words, or a skill out of few rows.",
    no_args_is_help=True,
)

PromoteOption = Annotated[
    Literal["pass", "never"] | None,
    typer.Option(help="make the version champion when the gate passes, or never", show_default="from nacre.yaml: pass"),
]


class AskedDomain(NamedTuple):
    """What `nacre recipe domain` is asked: an argument or option each, as Typer reads them."""

    text: Annotated[str, typer.Argument(help="increment of plain text of the domain")]
    dialogues: Annotated[str, typer.Argument(help="increment of rows with answers")]
    general: Annotated[
        Path | None,
        typer.Option(help="file of general text, mixed in beside the domain's", show_default="data.general"),
    ] = None
    lexicon: Annotated[
        Path | None, typer.Option(help="file of terms, one a line, beside those that are found in the text")
    ] = None
    pays: Annotated[int, typer.Option(min=0, help="tokens of the text that a new token must save; 0 adds none")] = 20
    epochs: Annotated[float, typer.Option(min=0.1, help="passes over the text")] = 2.0
    general_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="of each batch of text, that is general; 0.25 is 1:3")
    ] = 0.25
    promote: PromoteOption = None
    workspace: WorkspaceOption = HERE
    as_json: JsonOption = False


class AskedFew(NamedTuple):
    """What `nacre recipe few-shot` is asked."""

    increment: Annotated[str, typer.Argument(help="a folder of the dataset folder, or a name in dataset_info.json")]
    rows: Annotated[int, typer.Option(min=1, help="learn at most so many train rows, of each class in proportion")] = (
        200
    )
    epochs: Annotated[float, typer.Option(min=0.1, help="passes over them")] = 10.0
    typos: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="share of the letters mistyped in twins of half of the rows")
    ] = 0.1
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="each row once more, in other words, with {question} in them; may be given again", show_default="none"
        ),
    ] = None
    patience: Annotated[
        int, typer.Option(min=0, help="stop after so many passes without a lower loss on rows set aside; 0: never")
    ] = 3
    promote: PromoteOption = None
    workspace: WorkspaceOption = HERE
    as_json: JsonOption = False


@app.callback()
def _group() -> None:
    """Several settings and steps that belong together."""


@app.command()
def domain(**given: Any) -> None:
    """Find the domain's terms, give those a token that pay, read its text, learn its dialogues, judge, promote.

    Exit code 0: passed, or there was nothing to do; 3: refused by the gate; 4: undecided and held as a candidate.
    """
    if only_follows():
        return
    from nacre.cycle.increment.domain import Domain, adapt

    words = AskedDomain(**given)
    files = (words.text, words.dialogues, words.general, words.lexicon)
    asked = Domain(*files, pays=words.pays, epochs=words.epochs, share=words.general_share)
    with open_to_write(words.workspace) as space:
        _one_machine(space)
        with leading():
            found = adapt(space, asked, promote=words.promote, tell=_silent if words.as_json else _tell)
    if words.as_json:
        print_json(found.as_dict())
    else:
        _show(found)
    raise typer.Exit(found.exit_code)


@app.command()
def few_shot(**given: Any) -> None:
    """Learn few rows well: QLoRA, many passes, mistyped and reworded twins, an early stop; judge, promote.

    Exit code 0: passed, or there was nothing to do; 3: refused by the gate; 4: undecided and held as a candidate.
    """
    if only_follows():
        return
    from nacre.cli.evolve import show
    from nacre.cycle.increment.few_shot import FewShot
    from nacre.cycle.increment.few_shot import few_shot as learn_few

    words = AskedFew(**given)
    templates = tuple(words.template or ())
    asked = FewShot(words.increment, words.rows, words.epochs, words.typos, templates, words.patience)
    with open_to_write(words.workspace) as space:
        _one_machine(space)
        with leading():
            found = learn_few(space, asked, promote=words.promote, tell=_silent if words.as_json else _tell)
    if words.as_json:
        print_json(found.as_dict())
    else:
        show(found)
    raise typer.Exit(found.exit_code)


_read_by_typer: Any = domain
_read_by_typer.__signature__ = inspect.signature(AskedDomain)
_read_by_typer = few_shot
_read_by_typer.__signature__ = inspect.signature(AskedFew)


def _one_machine(space: "Workspace") -> None:
    """Refuse several machines: the others train once and end.

    Raises:
        InputError: there are several.
    """
    if machines(space.settings.train) > 1:
        fix = "run the recipe on one machine, or its steps by themselves with nacre evolve"
        raise InputError("a recipe may train more than once, and the other machines train once", where="train", fix=fix)


def _tell(note: str) -> None:
    console.print(f"before training: {note}", markup=False)


def _silent(_: str) -> None:
    """With ``--json`` the notes hold it."""


def _show(found: "Adapted") -> None:
    """Both versions, and the texts that show what was gained and lost."""
    from nacre.cli.evolve import show

    console.print(f"1. the text of {found.text.version.snapshot.task}", markup=False)
    show(found.text)
    console.print(f"2. the dialogues of {found.dialogues.version.snapshot.task}", markup=False)
    show(found.dialogues)
    if found.read:
        console.print(_table(found))
    print_notes({part: said for part, said in found.notes.items() if part != "read"})


def _table(found: "Adapted") -> Table:
    table = Table("held-out text", title="bits per character", title_justify="left")
    for name in ("before", "after the text", "after the dialogues"):
        table.add_column(name, justify="right")
    for name, read in found.read.items():
        table.add_row(name, *(f"{one.bits_per_character:.3f}" for one in read))
    return table
