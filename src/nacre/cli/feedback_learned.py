"""`nacre feedback list`, `accept`, `reject`, `import` and `trace`: which opinions count, and what came of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

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
)

if TYPE_CHECKING:
    from nacre.cycle.rows.opinions import Learned, Listed, Taught, Traced

Status = Literal["new", "quarantined", "accepted", "rejected", "exported"]
Numbers = Annotated[list[int], typer.Argument(help="numbers of opinions, see nacre feedback list")]
_SHOWN_CHARS = 48


def list_opinions(
    status: Annotated[Status | None, typer.Option(help="only these", show_default="all")] = None,
    limit: Annotated[int, typer.Option(min=1, help="show the newest so many; --json has all")] = 50,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show what people said, whether it counts yet, and why not."""
    from nacre.cycle.rows.opinions import with_questions

    with open_workspace(workspace) as space:
        usage = space.ledger.usage
        chosen = space.ledger.feedback(status) if as_json else usage.newest_opinions(limit, status)[::-1]
        found = with_questions(space, chosen)
        counts = usage.opinion_counts()
    if as_json:
        print_json([one.as_dict() for one in found])
        return
    table = Table("", "status", "said", "of", "asked", "why", box=None)
    for one in found:
        said = one.said
        who = said.person[:8] or (f"key {said.source}" if said.source else "the operator")
        why = said.why or said.increment
        table.add_row(str(said.id), said.status, _short(_said(one)), who, _short(one.question), why)
    console.print(table)
    there = sum(counts.values()) if status is None else counts.get(status, 0)
    if there > len(found):
        console.print(f"· {there - len(found)} older ones are not shown: --limit {there}", markup=False)


def accept(
    numbers: Numbers,
    why: WhyOption = "",
    actor: ActorOption = "user",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Accept opinions: they count from now on, whoever said them."""
    _decide(workspace, numbers, "accepted", why, actor, as_json=as_json)


def reject(
    numbers: Numbers,
    why: WhyOption = "",
    actor: ActorOption = "user",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Reject opinions: nothing is ever learned from them."""
    _decide(workspace, numbers, "rejected", why, actor, as_json=as_json)


def _decide(
    workspace: Path, numbers: list[int], status: Literal["accepted", "rejected"], why: str, actor: str, *, as_json: bool
) -> None:
    from nacre.cycle.rows.opinions import decide

    with open_to_write(workspace) as space:
        decided = decide(space, numbers, status, why=why, actor=actor)
    if as_json:
        print_json({"status": status, "why": why, "ids": [said.id for said in decided]})
    else:
        console.print(f"{len(decided)} opinions {status}", markup=False)


def import_opinions(
    file: Annotated[Path, typer.Argument(help="CSV, JSON lines, or an export of Label Studio or Langfuse")],
    form: Annotated[
        Literal["auto", "csv", "jsonl", "label-studio", "langfuse"], typer.Option("--format", help="of the file")
    ] = "auto",
    accepted: Annotated[
        bool, typer.Option("--accept", help="somebody has looked at them: they count, whoever said them")
    ] = False,
    actor: ActorOption = "user",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Take opinions from a file; what was taken before is passed over, and one bad line refuses the whole file."""
    from nacre.cycle.rows.imported_opinions import import_file

    with open_to_write(workspace) as space:
        found = import_file(space, file, form, accept=accepted, actor=actor)
    if as_json:
        print_json(found.as_dict())
        return
    console.print(f"{found.added} opinions taken, {found.known} were known", markup=False)
    for note in found.notes:
        console.print(f"· {note}", markup=False)


def trace(
    name: Annotated[str | None, typer.Argument(help="number of an opinion, or a response id")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="instead: the opinions that this version learned")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show what came of an opinion: row, increment, snapshot, versions; or of which opinions a version came."""
    from nacre.cycle.rows import opinions

    if (name is None) == (version is None):
        fix = "nacre feedback trace 12, or nacre feedback trace --version 7"
        raise InputError("it is not said what to trace", where="nacre feedback trace", fix=fix)
    with open_workspace(workspace) as space:
        if version is not None:
            back = opinions.trace_version(space, version)
            if as_json:
                print_json({"version": version, "opinions": [vars(one) for one in back]})
            else:
                _show_back(version, back)
            return
        found = opinions.trace(space, name or "")
    if as_json:
        told = [one.as_dict() for one in found]
        print_json({"traced": name, "opinions": told, "versions": opinions.all_versions(found)})
        return
    for one in found:
        _show(one)


def _show_back(version: int, back: Sequence["Taught"]) -> None:
    if not back:
        console.print(f"version {version} learned no feedback", markup=False)
    for increment, learned_in in dict.fromkeys((one.increment, one.learned_in) for one in back):
        shown = ", ".join(str(one.feedback) for one in back if one.increment == increment)
        console.print(f"{increment}, learned in version {learned_in}: feedback {shown}", markup=False)


def _show(one: "Traced") -> None:
    said = one.said.said
    console.print(f"feedback {said.id}: {_said(one.said)} · {said.status}", markup=False)
    console.print(f"  asked: {_short(one.said.question)}", markup=False)
    if said.why:
        console.print(f"  why: {said.why}", markup=False)
    for learned in one.learned:
        for line in _lines(learned):
            console.print(f"  {line}", markup=False)
    if not one.learned:
        console.print("  nothing was made of it", markup=False)


def _lines(one: "Learned") -> list[str]:
    if one.row is None:
        row = "no row: another one of the prompt counts, or it was left out"
    else:
        row = f"{'dev' if one.proves else 'train'} row: {_short(one.row[0])} → {_short(one.row[1])}"
    lines = [f"{one.increment}: {row}"]
    lines += [f"  snapshot {snapshot[:12]}" for snapshot in one.snapshots]
    if one.versions:
        lines.append(f"  learned by version {', '.join(map(str, one.versions))}")
    if one.heirs:
        lines.append(f"  and by those that come from it: {', '.join(map(str, one.heirs))}")
    lines += [f"  {slot}: version {number}" for slot, number in one.slots.items()]
    return lines if one.versions else [*lines, "  no version learned it yet"]


def _said(one: "Listed") -> str:
    said = one.said
    value = "" if said.value is None else f" {said.value:g}"
    return f"{said.kind}{value}{': ' + said.text if said.text else ''}"


def _short(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= _SHOWN_CHARS else f"{shown[: _SHOWN_CHARS - 1]}…"
