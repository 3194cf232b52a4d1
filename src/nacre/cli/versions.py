"""`nacre versions`: what has been made, how, and what became of it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_workspace, print_json, verb_app

if TYPE_CHECKING:
    from nacre.cycle.workspace import Workspace
    from nacre.records import Event

app = verb_app(help="What has been made, how, and what became of it.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(help="version number")]


@app.command("list")
def list_versions(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Every version with its slot, parent, increment and verdict."""
    with open_workspace(workspace) as space:
        rows = _rows(space)
    if as_json:
        print_json({"versions": rows})
        return
    table = Table()
    for name in ("version", "slots", "from", "increment", "kind", "rows", "verdict", "created"):
        table.add_column(name)
    for row in rows:
        parents = ", ".join(map(str, row["parents"])) or "base model"
        slots, created = ", ".join(row["slots"]), str(row["created"])[:19]
        table.add_row(
            str(row["version"]),
            slots,
            parents,
            row["increment"],
            row["kind"],
            str(row["rows"]),
            row["verdict"] or "",
            created,
        )
    console.print(table)


@app.command()
def show(number: Number, workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """One version: artifact folder, parents, recipe, data, environment, verdict and history."""
    with open_workspace(workspace) as space:
        found = _describe(space, number)
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        console.print(f"{key}: {value}", markup=False)


@app.command()
def diff(one: Number, other: Number, workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """What differs between two versions: data, recipe, environment, scores."""
    with open_workspace(workspace) as space:
        before, after = (_flat(_describe(space, number)) for number in (one, other))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    changed = {key: [before.get(key), after.get(key)] for key in keys}
    if as_json:
        print_json(changed)
        return
    table = Table("what", f"version {one}", f"version {other}")
    for key, (left, right) in changed.items():
        table.add_row(key, str(left), str(right))
    console.print(table)


def _rows(space: "Workspace") -> list[dict[str, Any]]:
    """One row a version, oldest first."""
    held: dict[int, list[str]] = {}
    for slot in space.ledger.slots().values():
        held.setdefault(slot.version, []).append(slot.name)
    rows: list[dict[str, Any]] = []
    for version in space.ledger.versions():
        verdict = space.ledger.verdict(version.number)
        rows.append(
            {
                "version": version.number,
                "slots": held.get(version.number, []),
                "parents": list(version.parents),
                "increment": version.snapshot.task,
                "kind": version.kind,
                "rows": version.snapshot.train.rows,
                "verdict": verdict.outcome if verdict else None,
                "created": version.created,
            }
        )
    return rows


def _describe(space: "Workspace", number: int) -> dict[str, Any]:
    version = space.ledger.version(number)
    verdict = space.ledger.verdict(number)
    reports = space.ledger.reports(weights=version.artifact)
    return {
        **version.model_dump(mode="json", exclude={"schema_version"}),
        "folder": str(space.store.path(version.artifact)),
        "slots": [slot.name for slot in space.ledger.slots().values() if slot.version == number],
        "scores": {report.task: report.mean for report in reports},
        "verdict": verdict.model_dump(mode="json") if verdict else None,
        "events": [event.model_dump(mode="json") for event in space.ledger.events() if _concerns(event, number)],
    }


def _concerns(event: "Event", number: int) -> bool:
    """Whether the event made, moved or displaced that version."""
    detail = event.detail
    return number in (detail.get("version"), detail.get("from"), detail.get("to")) or number in detail.get("left", ())


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            key: found
            for name, part in value.items()
            for key, found in _flat(part, f"{path}.{name}" if path else name).items()
        }
    return {path: value}
