"""`nacre data review`: accept, reject or correct made-up rows, by key or by number."""

import sys
import unicodedata
from typing import TYPE_CHECKING, Annotated

import click
import typer

from nacre.base.errors import InputError
from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_to_write, print_json

if TYPE_CHECKING:
    from nacre.cycle.workspace import Workspace
    from nacre.records import Example
    from nacre.records.draft import Draft

_LINE = "--- answer below this line ---"


def review(
    queue: Annotated[str | None, typer.Option(help="name of the queue", show_default="the only one")] = None,
    accept: Annotated[list[int] | None, typer.Option(help="accept the draft of this number; repeatable")] = None,
    reject: Annotated[list[int] | None, typer.Option(help="reject it; repeatable")] = None,
    increment: Annotated[str | None, typer.Option(help="write what was accepted as this increment")] = None,
    by: Annotated[str, typer.Option(help="who decides", envvar="USER")] = "",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show made-up rows one after another: a accepts, r rejects, e edits and accepts, s skips, q ends.

    With numbers, with --increment or with --json nothing is asked.
    """
    from nacre.cycle.rows.drafts import decide, write_accepted

    with open_to_write(workspace) as space:
        name = _queue(space, queue)
        numbers = [*((n, "accepted") for n in accept or ()), *((n, "rejected") for n in reject or ())]
        _check_queue(space, name, [number for number, _ in numbers])
        for number, status in numbers:
            decide(space, number, status, by=by)
        if not (accept or reject or increment or as_json):
            _by_key(space, name, by)
        written = write_accepted(space, name, increment) if increment else None
        drafts = space.ledger.drafts.drafts(name)
    counts = {status: sum(one.status == status for one in drafts) for status in ("open", "accepted", "rejected")}
    if as_json:
        told = {"file": written[0], "rows": written[1]} if written else None
        print_json({"queue": name, **counts, "written": told, "drafts": [_told(one) for one in drafts]})
        return
    console.print(f"{name}: {', '.join(f'{count} {status}' for status, count in counts.items())}", markup=False)
    if written:
        console.print(f"{written[0]}: {written[1]} rows added", markup=False)
    elif any(one.status == "accepted" and not one.written for one in drafts):
        console.print(f"next: nacre data review --queue {name} --increment NAME writes the accepted ones", markup=False)


def _check_queue(space: "Workspace", queue: str, numbers: list[int]) -> None:
    """Numbers count drafts of all queues: refuse those of another than the one named, before any is decided on."""
    queues = {one.id: one.queue for one in space.ledger.drafts.drafts()}
    for number in numbers:
        if queues.get(number, queue) != queue:
            fix = f"nacre data review --queue {queues[number]} --accept {number}; --json lists a queue's drafts"
            raise InputError(f"draft {number} is not in the queue {queue}", where=f"queue {queues[number]}", fix=fix)


def _told(one: "Draft") -> dict[str, object]:
    fields = ("id", "status", "model", "by", "time", "edited", "written")
    return {field: getattr(one, field) for field in fields} | {
        "question": one.row.prompt[-1].content,
        "answer": one.row.answer,
        "kind": one.row.kind,
        "worse": one.row.answers[1].content if one.row.kind == "preference" else None,
        "wanted": one.row.desirable,
    }


def _by_key(space: "Workspace", queue: str, by: str) -> None:
    """Show and ask until nothing is open that was not skipped, or q is pressed."""
    from nacre.cycle.rows.drafts import decide

    if not sys.stdin.isatty():
        fix = "name the drafts: nacre data review --accept 3 --reject 4; --json lists them"
        raise InputError("keys can be pressed in a terminal only", where="nacre data review", fix=fix)
    waiting = [one for one in space.ledger.drafts.drafts(queue) if one.status == "open"]
    for place, one in enumerate(waiting, start=1):
        console.rule(f"draft {one.id} · {place} of {len(waiting)} · {one.model}", align="left")
        console.print(_visible(one.row.prompt[-1].content), markup=False)
        console.rule("answer", align="left")
        console.print(_visible(one.row.answer), markup=False)
        if one.row.kind == "preference":
            console.rule("better than", align="left")
            console.print(_visible(one.row.answers[1].content), markup=False)
        elif one.row.desirable is not None:
            console.rule(f"such an answer is {'' if one.row.desirable else 'not '}wanted", align="left")
        console.print("[a]ccept  [r]eject  [e]dit  [s]kip  [q]uit", markup=False)
        key = typer.getchar().lower()
        while key not in ("a", "r", "e", "s", "q"):
            key = typer.getchar().lower()
        if key == "q":
            return
        if key == "e":
            row = _edited(one.row)
            if row is None:
                console.print("not changed, and still open", markup=False)
            else:
                decide(space, one.id, "accepted", by=by, row=row)
        elif key != "s":
            decide(space, one.id, "accepted" if key == "a" else "rejected", by=by)


def _visible(text: str) -> str:
    """The text with what steers a terminal or turns the direction of writing shown as a code: nobody shall accept
    what they could not see."""
    hidden = (letter for letter in set(text) if unicodedata.category(letter) in ("Cc", "Cf") and letter not in "\n\t")
    return text.translate({ord(letter): f"<U+{ord(letter):04X}>" for letter in hidden})


def _edited(row: "Example") -> "Example | None":
    """The row as it comes back from the user's editor; None where it was not saved or says nothing."""
    from nacre.cycle.rows.drafts import rewritten

    text = click.edit(f"{row.prompt[-1].content}\n{_LINE}\n{row.answer}\n")
    question, line, answer = (text or "").partition(f"\n{_LINE}\n")
    if not (question.strip() and line and answer.strip()):
        return None
    return rewritten(row, question, answer)


def _queue(space: "Workspace", name: str | None) -> str:
    """The queue asked for, or else the only one."""
    known = space.ledger.drafts.queues()
    if name is not None:
        space.ledger.drafts.drafts(name)
        return name
    if len(known) == 1:
        return known[0]
    fix = f"name one with --queue: {', '.join(known)}" if known else "nacre data synthesize makes one"
    raise InputError(f"there are {len(known)} queues of made-up rows", where="nacre data review", fix=fix)
