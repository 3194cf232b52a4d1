"""`nacre versions`: what has been made, how, and what became of it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from nacre.base.errors import InputError
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
    print_notes,
    verb_app,
)

if TYPE_CHECKING:
    from nacre.cycle.versions.lineage_picture import Node
    from nacre.cycle.workspace import Workspace

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
            row["kind"] if row["weights"] == "here" else f"{row['kind']}, {row['weights']}",
            str(row["rows"]),
            row["verdict"] or "",
            created,
        )
    console.print(table)


@app.command()
def show(number: Number, workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """One version: weights and size, parents, recipe, data, time and energy, environment, verdict and history."""
    from nacre.cycle.versions.description import describe

    with open_workspace(workspace) as space:
        found = describe(space, number)
    if as_json:
        print_json(found)
        return
    _page(found)


@app.command()
def diff(one: Number, other: Number, workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """What differs between two versions: data, recipe, size, time and energy, environment, scores."""
    from nacre.cycle.versions.description import comparable, describe

    with open_workspace(workspace) as space:
        before, after = (comparable(describe(space, number)) for number in (one, other))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    changed = {key: [before.get(key), after.get(key)] for key in keys}
    if as_json:
        print_json(changed)
        return
    table = Table("what", f"version {one}", f"version {other}")
    for key, (left, right) in changed.items():
        table.add_row(key, _short(left), _short(right))
    console.print(table)


@app.command()
def graph(
    workspace: WorkspaceOption = HERE,
    out: Annotated[
        list[Path] | None, typer.Option("--out", help="draw it into a file: .svg, .html or .png; several times too")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Which version came from which: a tree in the terminal, and a picture with --out."""
    from nacre.cycle.versions.lineage_picture import nodes, save

    with open_workspace(workspace) as space:
        found = nodes(space)
    notes = [note for path in out or [] for note in save(found, path)]
    if as_json:
        print_json({"versions": [vars(node) for node in found], "notes": notes})
        return
    console.print(_tree(found))
    print_notes({"picture": notes})


@app.command()
def pin(
    number: Number,
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "pinned by hand",
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Keep a version's weights, whatever `retention` says."""
    _pin(number, workspace, why, actor, as_json=as_json, wanted=True)


@app.command()
def unpin(
    number: Number,
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "unpinned by hand",
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Let `retention` decide about a version's weights again."""
    _pin(number, workspace, why, actor, as_json=as_json, wanted=False)


@app.command()
def judge(
    number: Number,
    workspace: WorkspaceOption = HERE,
    against: Annotated[
        int | None, typer.Option(min=0, help="the version to compare with; 0: the base model", show_default="champion")
    ] = None,
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Score a version, judge it as `nacre evolve` does, and keep the verdict: for one that was imported, or anew.

    Exit code 0: passed; 3: a loss is shown; 4: undecided. Nothing is promoted.
    """
    from nacre.cli.gate import show as show_verdict
    from nacre.cycle.scores.gating import gate_versions
    from nacre.gate.report import EXIT_CODES, as_dict

    with open_to_write(workspace) as space:
        champion = space.ledger.slot("champion")
        old = against if against is not None else champion.version if champion else 0
        if old == number:
            fix = f"name another version: nacre versions judge {number} --against N"
            raise InputError(f"version {number} cannot be judged against itself", where="versions judge", fix=fix)
        found = gate_versions(space, old, number, keep_as=actor)
    if as_json:
        print_json(as_dict(found.verdict, found.notes) | {"against": old, "new_tasks": dict(found.new_tasks)})
    else:
        show_verdict(f"version {number} against {f'version {old}' if old else 'the base model'}", found)
    raise typer.Exit(EXIT_CODES[found.verdict.outcome])


@app.command("export")
def export_version(
    number: Number,
    file: Annotated[Path, typer.Argument(help="the archive: .tar, .tar.gz, .tar.xz or .tar.bz2")],
    workspace: WorkspaceOption = HERE,
    with_rows: Annotated[
        bool, typer.Option("--with-rows", help="also the rows it may replay and is judged by")
    ] = False,
    with_base: Annotated[bool, typer.Option("--with-base", help="also the base model")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a version with all that is needed to serve it into one archive."""
    from nacre.cli.archive import export_to

    export_to(number, file, workspace, with_rows=with_rows, with_base=with_base, as_json=as_json)


@app.command("import")
def import_version(
    file: Annotated[Path, typer.Argument(help="the archive")],
    workspace: WorkspaceOption = HERE,
    base_to: Annotated[
        Path | None, typer.Option(help="put the base model that the archive holds into this new folder first")
    ] = None,
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Register the version in an archive under the next number; nothing is promoted."""
    from nacre.cli.archive import import_from

    import_from(file, workspace, base_to, actor, as_json=as_json)


def _rows(space: "Workspace") -> list[dict[str, Any]]:
    """One row a version, oldest first."""
    from nacre.cycle.versions.description import where_weights_are

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
                "kind": version.made or version.kind,
                "weights": where_weights_are(space, version),
                "rows": version.snapshot.train.rows,
                "verdict": verdict.outcome if verdict else None,
                "created": version.created,
            }
        )
    return rows


def _pin(number: int, workspace: Path, why: str, actor: str, *, as_json: bool, wanted: bool) -> None:
    from nacre.cycle.versions.collect import pin as pin_version

    with open_workspace(workspace) as space:
        pin_version(space, number, actor=actor, why=why, wanted=wanted)
    if as_json:
        print_json({"version": number, "pinned": wanted})
    else:
        console.print(f"version {number} is {'pinned' if wanted else 'no longer pinned'}", markup=False)


def _tree(found: "Sequence[Node]") -> Tree:
    """The versions below what they were trained from."""
    tree = Tree(Text(f"base model {found[0].title}"))
    branches = {0: tree}
    styles = {"pass": "green", "fail": "red", "undecided": "yellow", "": "dim"}
    for node in found[1:]:
        label = Text.assemble(
            (f"{node.number} ", "bold"),
            f"{node.title} ",
            (node.verdict or "never judged", styles[node.verdict]),
            f" {node.told}" if node.told else "",
            (" weights not here" if node.collected else "", "dim"),
        )
        if len(node.parents) > 1:
            label.append(f" (and from {', '.join(map(str, node.parents[1:]))})", "dim")
        if "champion" in node.slots:
            label.stylize("bold")
        branches[node.number] = branches[node.parents[0]].add(label)
    return tree


def _page(found: Mapping[str, Any]) -> None:
    """A description for people; ``--json`` has all of it."""
    from nacre.cli.tables import task_table
    from nacre.cycle.versions.collect import size
    from nacre.cycle.versions.description import flat

    data, verdict, environment, energy = (found[key] for key in ("snapshot", "verdict", "environment", "energy"))
    origin = found["origin"]
    dev = f"{data['dev']['rows']} dev rows" if data["dev"] else "no dev rows"
    lines = {
        "version": f"{found['number']} ({', '.join(found['slots']) or 'in no slot'})",
        "increment": f"{data['task']}: {data['train']['rows']} train rows, {dev}, {len(data['dropped'])} dropped",
        "trained from": (f"elsewhere: version {origin['version']} of the archive {origin['archive']}" if origin else "")
        or ", ".join(f"version {parent}" for parent in found["parents"])
        or "the base model",
        "base model": found["base"],
        "weights": f"{size(found['size_bytes'])}, {found['parameters']:,} parameters"
        + {"here": "", "collected": "; weights collected by nacre gc", "missing": "; they are missing"}[
            found["weights_are"]
        ]
        + (f"; pinned: {found['pinned']}" if found["pinned"] else ""),
        "folder": found["folder"],
        "knows": ", ".join(found["tasks"]),
        "scores": ", ".join(f"{task} {score:.3f}" for task, score in found["scores"].items()) or "none",
        "recipe": ", ".join(f"{key} {_short(value)}" for key, value in flat(found["recipe"]).items()),
        **_together(found.get("combined")),
        "answers with": ", ".join(f"{key} {value:g}" for key, value in found["defaults"].items()) or "nothing set",
        "made": f"{found['created'][:19]}, {found['train_seconds']:.0f} s of training on {environment['device']}",
        "packages": ", ".join(f"{name} {number}" for name, number in environment["packages"].items()),
        "energy": f"{energy['watt_hours']:.3g} Wh: {energy['source']}" if energy else "not measured",
        "differs here": "; ".join(found["environment_differs"]) or "nothing",
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


def _together(told: Mapping[str, Any] | None) -> dict[str, str]:
    """Of a version that was put together from others: how, and what that costs; else nothing."""
    if not told:
        return {}
    members = ", ".join(f"version {one['version']} × {one['weight']:.3g}" for one in told["members"])
    before, after = told["before"], told["after"]
    cost = [f"forward passes a token: {told['passes']}", f"{after['size_bytes']:,} bytes"]
    if before["tokens_s"] and after["tokens_s"]:
        best, share = told["members"][0]["version"], after["tokens_s"] / before["tokens_s"]
        cost.append(f"{after['tokens_s']:,.0f} tokens a second, {share:.2f} of version {best} alone")
    return {"together": f"{told['how']['by']} of {members}", "cost": ", ".join(cost)}


def _short(value: Any) -> str:
    """A value as people read it: hashes cut, numbers rounded, lists without brackets."""
    if isinstance(value, list):
        return ", ".join(map(_short, value)) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else str(value)
