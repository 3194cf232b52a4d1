"""`nacre mirror`: tell MLflow and webhooks what happened, and show how far they are."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_workspace, print_json, verb_app

if TYPE_CHECKING:
    from nacre.cycle.mirrors.mirror import Standing

app = verb_app(help="Tell MLflow and webhooks what happened; show how far they are.", no_args_is_help=True)


@app.command()
def run(
    workspace: WorkspaceOption = HERE,
    follow: Annotated[
        bool, typer.Option("--follow/--once", help="go on until it is stopped, or tell what there is and end")
    ] = False,
    parked: Annotated[bool, typer.Option("--parked", help="first try again what was given up")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell everybody under `mlflow` and `notify` in nacre.yaml what they were not told yet.

    Exit code 0: they have everything; 1: something waits or was given up.
    """
    import threading

    from nacre.cycle.mirrors.mirror import deliver
    from nacre.cycle.mirrors.mirror import follow as follow_on

    with open_workspace(workspace) as space:
        found = deliver(space, patient=False, parked=parked)
        if not follow:
            _show(found, as_json)
            raise typer.Exit(0 if all(one.whole for one in found) else 1)
        _show(found, as_json)
        follow_on(space, threading.Event())


@app.command()
def status(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """How far each one is: events it has not got yet, the last error, and what was given up."""
    from nacre.cycle.mirrors.mirror import standings

    with open_workspace(workspace) as space:
        _show(standings(space), as_json)


def _show(found: list["Standing"], as_json: bool) -> None:
    if as_json:
        print_json({"followers": [asdict(one) for one in found]})
        return
    if not found:
        console.print("nobody is to be told: nacre.yaml has neither mlflow nor notify", markup=False)
    for one in found:
        state = "has everything" if not one.behind else f"{one.behind} events behind"
        console.print(f"{one.to}: {state} (event {one.event})", markup=False)
        if one.error:
            again = f", next try in {one.next_try_s:.0f} s" if one.next_try_s else ""
            console.print(f"  failed {one.tries} times{again}: {one.error}", markup=False)
        for number, error in one.parked.items():
            console.print(f"  given up, event {number}: {error}", markup=False)
