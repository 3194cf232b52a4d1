"""`nacre verify`: is everything that is kept still whole?"""

import typer

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_workspace, print_json, verb_app

app = verb_app()


@app.command()
def verify(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Check the history's hash chain, every artifact, the base model and every kept rows file.

    Exit code 0: all whole; 1: something is damaged.
    """
    from nacre.cycle.release import verify as verify_workspace

    with open_workspace(workspace) as space:
        checks = verify_workspace(space)
    faults = [check for check in checks if check.fault]
    if as_json:
        print_json({"checked": len(checks), "faults": [{"what": check.what, "fault": check.fault} for check in faults]})
    else:
        for check in faults:
            console.print(f"✗ {check.what}: {check.fault}", markup=False)
        console.print(f"{len(checks)} checked, {len(faults)} faulty", markup=False)
    raise typer.Exit(1 if faults else 0)
