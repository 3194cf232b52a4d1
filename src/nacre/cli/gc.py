"""`nacre gc`: take away what nothing needs any more."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from nacre.cli.common import (
    HERE,
    ActorOption,
    JsonOption,
    WhyOption,
    WorkspaceOption,
    console,
    open_to_write,
    open_workspace,
    print_json,
    verb_app,
)

if TYPE_CHECKING:
    from nacre.cycle.versions.collect import Item

app = verb_app()


@app.command()
def gc(
    workspace: WorkspaceOption = HERE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="list what would go and what stays; delete nothing")
    ] = False,
    why: WhyOption = "collected by hand",
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Delete weights, rows, leftovers, answers and opinions that no slot, rollout, server, pin or `retention` needs.

    The records of versions stay, with their scores and verdicts; `nacre evolve --from` their parent trains them again.
    """
    from nacre.cycle.versions.collect import collect, plan, size

    with open_workspace(workspace) if dry_run else open_to_write(workspace) as space:
        found = plan(space) if dry_run else collect(space, actor=actor, why=why)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "bytes": found.bytes,
                "versions": list(found.versions),
                "expired": dict(found.expired),
                "goes": [item.as_dict() for item in found.goes],
                "stays": [item.as_dict() for item in found.stays],
            }
        )
        return
    if found.goes:
        console.print(_table("would go" if dry_run else "gone", found.goes))
    if dry_run and found.stays:
        console.print(_table("stays", found.stays))
    old = found.expired
    if any(old.values()):
        gone = "would be deleted" if dry_run else "deleted"
        console.print(f"{old['interactions']} answers and {old['feedback']} opinions {gone}: too old", markup=False)
    word = "would be freed" if dry_run else "freed"
    console.print(f"{size(found.bytes)} {word}, {len(found.stays)} things stay", markup=False)


def _table(title: str, items: "tuple[Item, ...]") -> Table:
    from nacre.cycle.versions.collect import size

    table = Table("what", "name", "versions", "size", "why", title=title, title_justify="left")
    for item in items:
        name = item.name[:12] if len(item.name) == 64 else item.name
        versions = ", ".join(map(str, item.versions))
        table.add_row(item.kind, Text(name, overflow="fold"), versions, size(item.bytes), Text(item.why))
    return table
