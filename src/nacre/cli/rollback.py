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
    documents: Annotated[
        bool, typer.Option("--documents", help="take the documents back too, to those it answered with last")
    ] = False,
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "rolled back by hand",
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Take the champion back to one of the last three; servers switch to it within a second."""
    from nacre.cycle.releases.release import rollback_with_documents

    with open_to_write(workspace) as space:
        back = rollback_with_documents(space, to=to, actor=actor, why=why, documents=documents)
    champion = back.event.detail["to"]
    if as_json:
        beside = {"snapshot": back.documents, "then": back.then} if back.documents is not None else None
        print_json({"champion": champion, "documents": beside, "event": back.event.model_dump(mode="json")})
        return
    console.print(f"version {champion} is champion again: {why}", markup=False)
    if documents:
        console.print(f"snapshot {back.documents} of the documents is in use with it", markup=False)
    elif back.then not in (None, back.documents):
        there = f"the documents stay at snapshot {back.documents}; it answered with snapshot {back.then} last"
        console.print(f"· {there}: nacre knowledge rollback --to {back.then}", markup=False)
