"""`nacre versions`: what has been made, how, and what became of it."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

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
        table.add_column(name, no_wrap=name in ("slots", "increment"))  # the others may shrink on a narrow terminal
    for row in rows:
        parents = ", ".join(map(str, row["parents"])) or "base model"
        slots, created = ", ".join(row["slots"]), str(row["created"])[5:16].replace("T", " ")
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
    _page(found)


@app.command()
def diff(one: Number, other: Number, workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """What differs between two versions: data, recipe, environment, scores."""
    with open_workspace(workspace) as space:
        before, after = (_comparable(_describe(space, number)) for number in (one, other))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    changed = {key: [before.get(key), after.get(key)] for key in keys}
    if as_json:
        print_json(changed)
        return
    table = Table("what", f"version {one}", f"version {other}")
    for key, (left, right) in changed.items():
        table.add_row(key, _short(left), _short(right))
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
        "folder": str(space.store.root / version.artifact),
        "slots": [slot.name for slot in space.ledger.slots().values() if slot.version == number],
        "scores": {report.task: report.mean for report in reports},
        "verdict": verdict.model_dump(mode="json") if verdict else None,
        "events": [event.model_dump(mode="json") for event in space.ledger.events() if _concerns(event, number)],
    }


def _concerns(event: "Event", number: int) -> bool:
    """Whether the event made, moved or displaced that version."""
    detail = event.detail
    return number in (detail.get("version"), detail.get("from"), detail.get("to")) or number in detail.get("left", ())


def _page(found: Mapping[str, Any]) -> None:
    """A description for people; ``--json`` has all of it."""
    from nacre.cli.tables import task_table

    data, verdict, environment = found["snapshot"], found["verdict"], found["environment"]
    dev = f"{data['dev']['rows']} dev rows" if data["dev"] else "no dev rows"
    lines = {
        "version": f"{found['number']} ({', '.join(found['slots']) or 'in no slot'})",
        "increment": f"{data['task']}: {data['train']['rows']} train rows, {dev}, {len(data['dropped'])} dropped",
        "trained from": ", ".join(f"version {parent}" for parent in found["parents"]) or "the base model",
        "base model": found["base"],
        "folder": found["folder"],
        "knows": ", ".join(found["tasks"]),
        "scores": ", ".join(f"{task} {score:.3f}" for task, score in found["scores"].items()) or "none",
        "recipe": ", ".join(f"{key} {_short(value)}" for key, value in _flat(found["recipe"]).items()),
        "made": f"{found['created'][:19]}, {found['train_seconds']:.0f} s of training on {environment['device']}",
        "packages": ", ".join(f"{name} {number}" for name, number in environment["packages"].items()),
        "gate": verdict["outcome"] if verdict else "never judged",
    }
    page = Table.grid(padding=(0, 2, 0, 0))
    for name, line in lines.items():
        page.add_row(name, Text(line, overflow="fold"))
    console.print(page)
    if verdict and verdict["tasks"]:
        console.print(task_table({task["task"]: task | {"verdict": task["outcome"]} for task in verdict["tasks"]}))
    history = Table("time", "who", "what", "why", title="history", title_justify="left")
    for event in found["events"]:
        detail = event["detail"]
        moved = f" version {detail['from']} → {detail['to']}" if "to" in detail else ""
        history.add_row(event["time"][:19], event["actor"], event["kind"] + moved, Text(detail.get("why", "")))
    console.print(history)


def _comparable(found: Mapping[str, Any]) -> dict[str, Any]:
    """What two versions are compared by: nothing that differs by its nature, such as number and history."""
    data = found["snapshot"]
    kept = {key: found[key] for key in ("parents", "base", "base_sha256", "kind", "artifact", "tasks", "train_seconds")}
    snapshot = {"task": data["task"], "train": data["train"], "dev": data["dev"], "dropped": len(data["dropped"])}
    more = {key: found[key] for key in ("recipe", "environment", "scores")}
    outcome = found["verdict"]["outcome"] if found["verdict"] else None
    return _flat({**kept, "snapshot": snapshot, **more, "verdict": outcome})


def _short(value: Any) -> str:
    """A value as people read it: hashes cut, numbers rounded, lists without brackets."""
    if isinstance(value, list):
        return ", ".join(map(_short, value)) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else str(value)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            key: found
            for name, part in value.items()
            for key, found in _flat(part, f"{path}.{name}" if path else name).items()
        }
    return {path: value}
