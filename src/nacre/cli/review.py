"""`nacre review`: ask people which answer is better, or how good one is."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nacre.base.errors import InputError
from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_workspace, print_json, verb_app

if TYPE_CHECKING:
    from nacre.cycle.scores.review import Status
    from nacre.cycle.workspace import Workspace
    from nacre.records import Report
    from nacre.records.review import ReviewItem

app = verb_app(no_args_is_help=True, help="Ask people which of two answers is better, blinded, or how good one is.")

QueueOption = Annotated[str | None, typer.Option("--queue", help="name of the review", show_default="the only one")]
RaterOption = Annotated[str, typer.Option("--rater", help="who answers", envvar="USER")]

_PAIR_KEYS = {"l": "left", "r": "right", "t": "tie", "s": "skip", "\x1b[D": "left", "\x1b[C": "right"}
_SINGLE_KEYS = {**{str(stars): str(stars) for stars in range(1, 6)}, "s": "skip"}


@app.command()
def add(
    versions: Annotated[list[int], typer.Argument(help="OLD NEW to compare, or one version to rate; 0 is the base")],
    task: Annotated[str, typer.Option(help="whose dev rows are shown")],
    items: Annotated[int, typer.Option(min=1, help="how many rows")] = 50,
    raters: Annotated[int, typer.Option(min=1, help="how many people are to answer each")] = 1,
    queue: Annotated[str | None, typer.Option(help="name of the review", show_default="from versions and task")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Put rows before people: two versions' answers side by side, or one version's to rate from 1 to 5."""
    from nacre.cycle.scores.review_items import add as add_items

    with open_workspace(workspace) as space:
        found = add_items(space, versions, task, items=items, raters=raters, queue=queue or "")
    if as_json:
        counts = {"asked": found.asked, "equal": found.equal, "known": found.known}
        print_json({"queue": found.queue, **counts, "notes": found.notes})
        return
    console.print(f"{found.queue}: {found.asked} rows to answer", markup=False)
    if found.equal:
        console.print(f"· {found.equal} more are equal answers: not asked, they count as ties", markup=False)
    if found.known:
        console.print(f"· {found.known} were in it before", markup=False)
    for note in found.notes:
        console.print(f"· {note}", markup=False)
    console.print(f"next: nacre review answer --queue {found.queue}", markup=False)


@app.command("next")
def next_item(
    queue: QueueOption = None,
    rater: RaterOption = "",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show the next item that this person has not answered; which version gave which answer is not told."""
    from nacre.cycle.scores.review import shown

    with open_workspace(workspace) as space:
        item = space.ledger.reviews.next_for(_queue(space, queue), _rater(rater))
    if as_json:
        print_json({"next": shown(item) if item else None})
    elif item is None:
        console.print("nothing is left to answer")
    else:
        _show(item)
        console.print(f"answer with: nacre review answer {item.id} {'|'.join(item.choices)}", markup=False)


@app.command()
def answer(
    item: Annotated[int | None, typer.Argument(help="number of the item", show_default="one after another")] = None,
    choice: Annotated[
        str | None, typer.Argument(help="left, right, tie, skip; or 1 to 5", show_default="by key")
    ] = None,
    queue: QueueOption = None,
    rater: RaterOption = "",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Answer one item, or, in a terminal, one after another by pressing keys; q ends."""
    from nacre.cycle.scores.review import answer as keep

    with open_workspace(workspace) as space:
        if item is None:
            count = _by_key(space, _queue(space, queue), _rater(rater))
            if as_json:
                print_json({"answered": count})
            else:
                console.print(f"{count} answered, thank you")
            return
        if choice is None:
            fix = "nacre review answer ITEM CHOICE; or without both, in a terminal"
            raise InputError(f"nothing was chosen for item {item}", where="nacre review answer", fix=fix)
        new = keep(space, item, choice, _rater(rater))
    if as_json:
        print_json({"item": item, "choice": choice, "new": new})
    else:
        console.print(f"item {item}: {choice}{'' if new else ', as before'}", markup=False)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="JSON lines to write")],
    queue: QueueOption = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="what was said, as FILE-vN.jsonl with id and score for each version")
    ] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write the open items for raters elsewhere, with fields to fill in; or the scores, for `nacre gate`."""
    from nacre.cycle.scores.review import export as write
    from nacre.cycle.scores.review import export_scores

    with open_workspace(workspace) as space:
        name = _queue(space, queue)
        if scores:
            files = {str(path): count for path, count in export_scores(space, name, file).items()}
            waiting = sum(item.status == "open" for item in space.ledger.reviews.items(name))
        else:
            files, waiting = {str(file): write(space, name, file)}, 0
    if as_json:
        print_json({"queue": name, "files": files, "open": waiting})
        return
    for path, count in files.items():
        console.print(f"{path}: {count} rows", markup=False)
    if waiting:
        console.print(f"· {waiting} rows are still open: this is what was said so far", markup=False)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="JSON lines with item, choice and rater")],
    rater: Annotated[str, typer.Option("--rater", help="who answered, where a line does not say")] = "",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Read choices that raters filled in, all or none."""
    from nacre.cycle.scores.review import import_answers

    with open_workspace(workspace) as space:
        new, known, empty = import_answers(space, file, rater)
    if as_json:
        print_json({"new": new, "known": known, "empty": empty})
    else:
        console.print(f"{new} new answers, {known} known before, {empty} left empty")


@app.command("status")
def show_status(
    queue: Annotated[str | None, typer.Argument(help="name of the review", show_default="all")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """How far each review is, how often the new version was preferred, and how far raters agree."""
    from nacre.cycle.scores.review import reports, status

    with open_workspace(workspace) as space:
        found = [status(space, name) for name in ([queue] if queue else space.ledger.reviews.queues())]
        kept = {one.queue: reports(space, one.queue) for one in found if one.raters}
    if as_json:
        print_json({"reviews": [_as_json(one) | {"reports": _keys(kept.get(one.queue, {}))} for one in found]})
        return
    for one in found:
        _print_status(one)
    if not found:
        console.print("there is no review; nacre review add OLD NEW --task TASK makes one")


def _keys(kept: "Mapping[int, Report]") -> dict[str, str]:
    return {str(number): report.key for number, report in kept.items()}


def _as_json(one: "Status") -> dict[str, object]:
    plain = {name: value for name, value in vars(one).items() if name not in ("rate", "agreement")}
    rate = one.rate._asdict() if one.rate else None
    return plain | {"rate": rate, "agreement": one.agreement._asdict() if one.agreement else None}


def _print_status(one: "Status") -> None:
    pairs = one.kind == "pair"
    what = f"version {one.versions[-1]}" + (f" against {one.versions[0]}" if pairs else "")
    lines = [f"{one.queue}: {what} on {one.task}"]
    equal = f", {one.equal} equal answers that count as ties" if one.equal else ""
    lines.append(f"  {one.answered} of {one.items - one.equal} answered{equal}, {one.skipped} times skipped")
    if one.rate is not None:
        rate, interval = one.rate, f"95 % interval {one.rate.low:.3f} to {one.rate.high:.3f}"
        counts = f": {rate.wins} better, {rate.ties} equal, {rate.losses} worse" if pairs else ""
        lines.append(f"  {'win rate' if pairs else 'mean rating (0 to 1)'} {rate.value:.3f}, {interval}{counts}")
    if one.left is not None:
        lines.append(f"  left was chosen in {one.left:.0%} of the decided answers")
    lines += [f"  {rater}: {count} answers" for rater, count in one.raters.items()]
    if one.agreement is not None:
        kappa = one.agreement
        interval = "" if kappa.low is None else f", 95 % interval {kappa.low:.3f} to {kappa.high:.3f},"
        value = kappa.reason if kappa.value is None else f"{kappa.value:.3f}{interval}"
        lines.append(f"  {kappa.name}: {value} over {kappa.items} items")
    console.print("\n".join(lines), markup=False)


def _by_key(space: "Workspace", queue: str, rater: str) -> int:
    """Show and ask until nothing is left or q is pressed; how many were answered."""
    from nacre.cycle.scores.review import answer as keep

    if not sys.stdin.isatty():
        fix = "name item and choice: nacre review answer ITEM left; or use nacre review export and import"
        raise InputError("keys can be pressed in a terminal only", where="nacre review answer", fix=fix)
    count = 0
    while (item := space.ledger.reviews.next_for(queue, rater)) is not None:
        _show(item)
        keys = _PAIR_KEYS if item.kind == "pair" else _SINGLE_KEYS
        prompt = "[l]eft  [r]ight  [t]ie" if item.kind == "pair" else "1 (useless) to 5 (entirely right)"
        console.print(f"{prompt}  [s]kip  [q]uit", markup=False)
        key = typer.getchar().lower()
        while key not in keys and key != "q":
            key = typer.getchar().lower()
        if key == "q":
            break
        keep(space, item.id, keys[key], rater)
        count += 1
    return count


def _show(item: "ReviewItem") -> None:
    sides = [("left", item.left), ("right", item.right)] if item.kind == "pair" else [("answer", item.left)]
    for name, text in (("question", item.question), ("reference", item.reference), *sides):
        console.rule(f"{name} · item {item.id}" if name == "question" else name, align="left")
        console.print(text, markup=False)


def _queue(space: "Workspace", name: str | None) -> str:
    """The queue asked for, or else the only one."""
    known = space.ledger.reviews.queues()
    if name is not None or len(known) == 1:
        return name or known[0]
    fix = f"name one with --queue: {', '.join(known)}" if known else "nacre review add OLD NEW --task TASK makes one"
    raise InputError(f"there are {len(known)} reviews", where="nacre review", fix=fix)


def _rater(name: str) -> str:
    if not name.strip():
        raise InputError("it is not said who answers", where="nacre review", fix="name them with --rater")
    return name.strip()
