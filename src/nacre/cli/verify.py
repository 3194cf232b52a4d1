"""`nacre verify`: is everything that is kept still whole?"""

import typer

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_workspace, print_json, verb_app

app = verb_app()


@app.command()
def verify(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Check the history's hash chain, slots, records, verdicts and their reports, artifacts, base model and kept rows.

    Exit code 0: all whole; 1: something is damaged, and the versions that are touched are named.
    """
    from nacre.cycle.versions.verify import verify as verify_workspace

    with open_workspace(workspace) as space:
        checks = verify_workspace(space)
    faults = [check for check in checks if check.fault]
    collected = [check.what for check in checks if check.collected]
    touched = sorted({number for check in faults for number in check.versions})
    if as_json:
        told = [{"what": check.what, "fault": check.fault, "versions": list(check.versions)} for check in faults]
        print_json({"checked": len(checks), "faults": told, "touched": touched, "collected": collected})
    else:
        for check in faults:
            which = f" (touches version {', '.join(map(str, check.versions))})" if check.versions else ""
            console.print(f"✗ {check.what}: {check.fault}{which}", markup=False)
        gone = f", {len(collected)} collected by nacre gc" if collected else ""
        console.print(f"{len(checks)} checked, {len(faults)} faulty{gone}", markup=False)
    raise typer.Exit(1 if faults else 0)
