"""`nacre demo`: the whole cycle on embedded data, offline."""

from pathlib import Path
from typing import Annotated

import typer

from nacre.cli.common import JsonOption, print_json, verb_app

app = verb_app()


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="where the demo's workspaces and pictures go; replaced")] = Path(
        "nacre-demo"
    ),
    as_json: JsonOption = False,
) -> None:
    """Show the collapse, the refusal, the kept skills, feedback and rollback: a few minutes on a CPU."""
    from nacre.demo.run import run

    story = run(folder, quiet=as_json)
    if as_json:
        print_json(story.as_dict())
    raise typer.Exit(0 if all(story.claims().values()) else 1)
