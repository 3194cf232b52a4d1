"""`nacre combine`: put the adapters of several versions together, and have the gate judge what comes of it."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from nacre.base.errors import InputError
from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_to_write, print_json, verb_app
from nacre.cli.tables import side_table

if TYPE_CHECKING:
    from nacre.records import Combined

app = verb_app()


@app.command()
def combine(
    versions: Annotated[list[int], typer.Argument(help="version numbers; each has a LoRA adapter on the same base")],
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="vote: most equal answers win; mean or weighted (by dev score): averaged token probabilities; "
            "layers: all active at once; merge: one adapter of them",
        ),
    ],
    workspace: WorkspaceOption = HERE,
    weights: Annotated[
        str | None,
        typer.Option(
            help="one for each version, with commas: of weighted, layers or merge",
            show_default="weighted: dev scores; layers: 1; merge: equal shares of 1",
        ),
    ] = None,
    search: Annotated[
        int, typer.Option(min=0, help="merge: look for the weights on kept train rows, with so many evaluations")
    ] = 0,
    promote: Annotated[
        Literal["pass", "never"] | None,
        typer.Option(
            help="make the version champion when the gate passes it, or never", show_default="from nacre.yaml: pass"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put adapters together into one version; measure size, speed and perplexity; score, judge, register, promote.

    Exit code 0: passed, or there was nothing to do; 3: refused by the gate; 4: undecided and held as a candidate.
    """
    from nacre.cli.evolve import show
    from nacre.cycle.increment.combine import combine as combine_versions

    given = _numbers(weights)
    with open_to_write(workspace) as space:
        found = combine_versions(space, versions, by, weights=given, search=search, promote=promote)
    if as_json:
        print_json(found.as_dict())
    else:
        console.print(_members(found.combined))
        names = (f"version {found.combined.members[0].version} alone", "together")
        console.print(side_table(found.combined, names))
        show(found.evolution)
    raise typer.Exit(found.exit_code)


def _numbers(text: str | None) -> tuple[float, ...]:
    """Numbers with commas between them.

    Raises:
        InputError: something else stands there.
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InputError(
            f"'{text}' is no list of numbers", where="--weights", fix="e.g. --weights 0.5,0.3,0.2"
        ) from None


def _members(told: "Combined") -> Table:
    """Who is in it, best first."""
    passes = "one forward pass" if told.passes == 1 else f"{told.passes} forward passes"
    table = Table(title=f"{told.how.by}: {passes} a token", title_justify="left")
    for name in ("version", "weight", "mean dev score"):
        table.add_column(name, justify="right")
    for one in told.members:
        table.add_row(str(one.version), f"{one.weight:.3f}", "" if one.score is None else f"{one.score:.3f}")
    return table
