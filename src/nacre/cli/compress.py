"""`nacre compress`: make a version smaller, and have the gate judge what comes of it."""

from typing import Annotated, Literal

import typer

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_to_write, print_json, verb_app
from nacre.cli.tables import side_table

app = verb_app()


@app.command()
def compress(
    version: Annotated[int, typer.Argument(help="version number")],
    to: Annotated[str, typer.Option("--to", help="int8, int4, pruned, or merged (an adapter into its base)")],
    workspace: WorkspaceOption = HERE,
    method: Annotated[
        str | None,
        typer.Option(
            help="int8: weight-only or dynamic; int4: nf4 or fp4; pruned: wanda, magnitude or 2:4",
            show_default="the first of them",
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            min=0.05, max=1.0, help="pruned: share of the linear layers' weights that stay", show_default="0.8; 2:4 0.5"
        ),
    ] = None,
    heal: Annotated[
        float | None,
        typer.Option(min=0.0, help="pruned: passes over the kept rows afterwards, 0 is none", show_default="1"),
    ] = None,
    promote: Annotated[
        Literal["pass", "never"] | None,
        typer.Option(
            help="make the version champion when the gate passes, or never", show_default="from nacre.yaml: pass"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Round, prune or merge a version's weights; measure size, speed and perplexity; score, judge, register, promote.

    Exit code 0: passed, or there was nothing to do; 3: refused by the gate; 4: undecided and held as a candidate.
    """
    from nacre.cli.evolve import show
    from nacre.cycle.increment.compress import compress as compress_version

    with open_to_write(workspace) as space:
        found = compress_version(space, version, to, method=method, keep=keep, heal=heal, promote=promote)
    if as_json:
        print_json(found.as_dict())
    else:
        console.print(side_table(found.compressed))
        show(found.evolution)
    raise typer.Exit(found.exit_code)
