"""`nacre rollback`: take the champion back."""

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
def rollback(
    to: Annotated[
        int | None, typer.Option(help="one of the last three champions", show_default="the one before")
    ] = None,
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "rolled back by hand",
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Take the champion back to one of the last three; servers switch to it within a second."""
    from nacre.cycle.releases.release import rollback as take_back

    with open_to_write(workspace) as space:
        event = take_back(space, to=to, actor=actor, why=why)
    champion = event.detail["to"]
    if as_json:
        print_json({"champion": champion, "event": event.model_dump(mode="json")})
    else:
        console.print(f"version {champion} is champion again: {why}", markup=False)
