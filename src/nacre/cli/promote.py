"""`nacre promote`: make a version the champion."""

from typing import Annotated

import typer

from nacre.cli.common import (
    HERE,
    ActorOption,
    JsonOption,
    WhyOption,
    WorkspaceOption,
    console,
    open_to_write,
    print_json,
    verb_app,
)

app = verb_app()


@app.command()
def promote(
    version: Annotated[int, typer.Argument(help="version number")],
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "promoted by hand",
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="overrule a gate that did not pass, or end a rollout that is active; the history says so"
        ),
    ] = False,
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion; servers switch to it within a second."""
    from nacre.cycle.releases.release import promote as promote_version

    with open_to_write(workspace) as space:
        event = promote_version(space, version, actor=actor, why=why, force=force)
    if as_json:
        print_json(event.model_dump(mode="json"))
    else:
        console.print(f"version {version} is champion: {why}", markup=False)
