"""`nacre verify`: is everything that is kept still whole?"""

import typer

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, print_json

app = typer.Typer()


@app.command()
def verify(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Check the history's hash chain, every artifact, the base model and every kept rows file."""
    from nacre.cycle.release import verify as verify_workspace
    from nacre.cycle.workspace import Workspace

    checks = verify_workspace(Workspace.open(workspace))
    faults = [check for check in checks if check.fault]
    if as_json:
        print_json({"checked": len(checks), "faults": [{"what": check.what, "fault": check.fault} for check in faults]})
    else:
        for check in faults:
            console.print(f"✗ {check.what}: {check.fault}", markup=False)
        console.print(f"{len(checks)} checked, {len(faults)} faulty", markup=False)
    raise typer.Exit(1 if faults else 0)
