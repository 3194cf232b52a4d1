"""`nacre data forget`: remove rows for good, and say what they touched."""

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nacre.base.errors import InputError
from nacre.cli.common import (
    HERE,
    JsonOption,
    WhyOption,
    WorkspaceOption,
    console,
    open_to_write,
    print_json,
)

if TYPE_CHECKING:
    from nacre.cycle.rows.forget import Removal


def forget(
    action: Annotated[
        Literal["rows", "list", "finish"],
        typer.Argument(help="remove rows, list what was removed so far, or end a removal that was cut off"),
    ] = "rows",
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="content id (8 characters do), or value of a column id; repeatable")
    ] = None,
    pattern: Annotated[list[str] | None, typer.Option(help="regular expression in any text; repeatable")] = None,
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE; repeatable")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would happen")] = False,
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "removed on request",
    as_json: JsonOption = False,
) -> None:
    """Remove rows from all kept rows files; name the snapshots and versions they touched and what to train again.

    A row goes where any of the options fits it. Your own dataset files are named, not changed.
    """
    from nacre.cycle.rows.forget import finish as finish_removal
    from nacre.cycle.rows.forget import forget as forget_rows
    from nacre.cycle.rows.wanted import wanted

    if action != "rows" and (ids or pattern or where):
        fix = f"nacre data forget {action}, and nothing else"
        raise InputError(f"'{action}' removes no rows", where="nacre data forget", fix=fix)
    with open_to_write(workspace) as space:
        if action == "list":
            told = [
                {"event": one.id, "time": one.time, "actor": one.actor, **one.detail}
                for one in space.ledger.forgetting.events()
            ]
            if as_json:
                print_json({"removed": told})
            for one in told if not as_json else ():
                console.print(f"event {one['event']}, {one['time']}, {one['actor']}: {one['rows']} rows; {one['why']}")
            return
        if action == "finish":
            done = finish_removal(space)
            if as_json:
                print_json({"done": done})
            for line in done or ["nothing was left to do"] if not as_json else ():
                console.print(line, markup=False)
            return
        found = forget_rows(
            space,
            wanted(ids or (), pattern or (), where or ()),
            dry_run=dry_run,
            actor=os.environ.get("USER", "user"),
            why=why,
        )
    if as_json:
        print_json(found.as_dict() | {"dry_run": dry_run})
    else:
        _show(found, dry_run=dry_run)


def _show(found: "Removal", *, dry_run: bool) -> None:
    word = "would be removed" if dry_run else "were removed"
    console.print(f"{found.rows} rows {word} from {len(found.files)} files of kept rows", markup=False)
    if found.drafts:
        console.print(f"{found.drafts} rows in review queues {word}", markup=False)
    for number, said in found.versions.items():
        for line in said:
            console.print(f"· version {number} {line}", markup=False)
    for title, lines in (
        ("train again, in this order:", found.retrain),
        ("your own files still have them:", found.datasets),
        ("beside:", found.left),
    ):
        if lines:
            console.print(title)
        for line in lines:
            console.print(f"  {line}", markup=False)
