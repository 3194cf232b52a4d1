"""`nacre data annotate agree|decide|rows`: what is done with answers once they are in a file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from nacre.base.errors import InputError
from nacre.cli.common import JsonOption, console, print_json, print_notes

if TYPE_CHECKING:
    from nacre.cycle.rows.annotations import Agreeing
    from nacre.data.annotate import Item

ExportArgument = Annotated[Path, typer.Argument(help="Label Studio's JSON export")]
QuestionOption = Annotated[str, typer.Option(help="name of the question", show_default="the only one")]
DecidedOption = Annotated[
    list[Path] | None, typer.Option(help="decisions on disputed tasks: an export, or from decide; repeatable")
]
RaterOption = Annotated[
    list[str] | None, typer.Option("--rater", help="whose answers count; repeatable", show_default="everybody's")
]

_SHOWN = 10  # disputed tasks in the terminal; the file has all


def agree(
    export: ExportArgument,
    question: QuestionOption = "",
    decided: DecidedOption = None,
    raters: RaterOption = None,
    disputed: Annotated[Path | None, typer.Option(help="write what they differ in, to be decided")] = None,
    at_least: Annotated[float, typer.Option("--at-least", min=0, max=1, help="kappa to be reached")] = 0.8,
    items: Annotated[int, typer.Option(min=2, help="fewest tasks that several answered")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Say how far people agree: Cohen's kappa of two, Fleiss' of more, with a 95% interval; list what they differ in.

    Exit code 0: the whole interval reaches the target (or free text, which has no kappa); 3: it lies below; 4: the
    target lies within it, or too few tasks were answered by several.
    """
    from nacre.cycle.rows.annotations import agree as agree_on
    from nacre.cycle.rows.annotations import write_disputed

    found = agree_on(
        export, question=question, decided=decided or (), raters=raters or (), at_least=at_least, items=items
    )
    if disputed is not None:
        write_disputed(found, disputed)
    if as_json:
        print_json(_as_dict(found) | {"file": str(disputed) if disputed else None})
    else:
        _tell(found, export, disputed)
    raise typer.Exit(_exit_code(found))


def decide(
    file: Annotated[Path, typer.Argument(help="disputed tasks, from agree --disputed")],
    out: Annotated[Path, typer.Option(help="where the decisions go, beside those of earlier calls")],
    choose: Annotated[
        list[str] | None, typer.Option(help="TASK=ANSWER, instead of asking; repeatable", metavar="TASK=ANSWER")
    ] = None,
    by: Annotated[str, typer.Option(help="who decides", envvar="USER")] = "",
    as_json: JsonOption = False,
) -> None:
    """Decide in the terminal what people differ in: a number takes that answer, s skips, q ends, e writes free text."""
    from nacre.cycle.rows.annotations import decide as keep
    from nacre.data.annotate import read_export

    if choose:
        choices = dict(_choice(one) for one in choose)
    else:
        if as_json or not sys.stdin.isatty():
            fix = "name the tasks: --choose TASK=ANSWER; nacre data annotate agree --json lists them"
            raise InputError("keys can be pressed in a terminal only", where="nacre data annotate decide", fix=fix)
        known = {one.id for one in read_export(out).items} if out.is_file() else set()
        choices = _by_key([one for one in read_export(file).items if one.id not in known])
    total = keep(file, choices, by=by, out=out)
    if as_json:
        print_json({"file": str(out), "decided": len(choices), "total": total})
        return
    console.print(f"{out}: {len(choices)} decided now, {total} in all", markup=False)


def rows(
    export: ExportArgument,
    out: Annotated[Path, typer.Option(help="where the rows go, as JSON lines")],
    question: QuestionOption = "",
    decided: DecidedOption = None,
    raters: RaterOption = None,
    ungated: Annotated[bool, typer.Option("--ungated", help="write them however far people agree")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the rows that the answers make, if people agree well enough; each says who answered, and who decided.

    Exit code 3 or 4: they do not, or that is not shown (see agree), and nothing is written. Free text is not gated.
    """
    from nacre.cycle.rows.annotations import agree as agree_on
    from nacre.cycle.rows.annotations import rows as write_rows

    found = agree_on(export, question=question, decided=decided or (), raters=raters or ())
    code = _exit_code(found)
    if code and not ungated:
        if as_json:
            print_json(_as_dict(found) | {"rows": 0, "file": None})
        else:
            _tell(found, export, None)
            console.print("nothing was written; --ungated writes the rows all the same", markup=False)
        raise typer.Exit(code)
    kappa = found.agreement.value if found.agreement else None
    done = write_rows(export, out, question=question, decided=decided or (), kappa=kappa)
    if as_json:
        print_json(_as_dict(found) | {"rows": done.rows, "file": str(out), "left": done.left})
        return
    console.print(f"{out}: {done.rows} rows", markup=False)
    gate = ["not gated: " + found.verdict.why] if found.verdict and code else []
    print_notes({"rows": [*gate, *(f"{count} left out: {why}" for why, count in done.left.items())]})


def _exit_code(found: "Agreeing") -> int:
    from nacre.gate.report import EXIT_CODES

    return EXIT_CODES[found.verdict.outcome] if found.verdict else 0


def _as_dict(found: "Agreeing") -> dict[str, Any]:
    return {
        "kind": found.kind,
        "tasks": found.tasks,
        "answered": found.answered,
        "raters": found.raters,
        "adjudicators": found.adjudicators,
        "agreement": found.agreement._asdict() if found.agreement else None,
        "outcome": found.verdict.outcome if found.verdict else None,
        "why": found.verdict.why if found.verdict else "free text has no kappa",
        "settled": found.settled,
        "disputed": [{"task": one.task.get("id"), "id": one.id, "said": _said(one)} for one in found.disputed],
        "notes": found.notes,
    }


def _tell(found: "Agreeing", export: Path, disputed: Path | None) -> None:
    people = ", ".join(f"{name} ({count})" for name, count in found.raters.items()) or "nobody"
    console.print(f"{export}: {found.answered} of {found.tasks} tasks answered, by {people}", markup=False)
    if found.agreement:
        console.print(f"{found.agreement.name}, {found.agreement.items} tasks of several answers", markup=False)
    if found.verdict:
        console.print(f"{found.verdict.outcome}: {found.verdict.why}", markup=False)
    else:
        console.print("free text has no kappa", markup=False)
    console.print(f"{len(found.disputed)} disputed, {found.settled} decided since", markup=False)
    for one in found.disputed[:_SHOWN]:
        said = "; ".join(f"{who}: {answer!r}" for who, answer in _said(one).items())
        console.print(f"  task {one.task.get('id')}: {said}", markup=False)
    if len(found.disputed) > _SHOWN:
        console.print(f"  and {len(found.disputed) - _SHOWN} more", markup=False)
    print_notes({"notes": found.notes})
    if found.disputed and disputed is None:
        console.print(
            f"next: nacre data annotate agree {export} --disputed FILE, then decide or adjudicate it", markup=False
        )
    elif disputed is not None:
        console.print(f"next: nacre data annotate decide {disputed} --out decided.json", markup=False)


def _said(item: "Item") -> dict[str, str]:
    return {one.rater: str(one.said) for one in item.opinions}


def _choice(text: str) -> tuple[str, str]:
    task, equals, answer = text.partition("=")
    if not (task and equals and answer):
        raise InputError("this is no decision", where=f"--choose {text}", fix="write TASK=ANSWER, e.g. 17=Good")
    return task, answer


def _by_key(items: "list[Item]") -> dict[str, str]:
    """What is chosen, task by task, until q is pressed."""
    choices: dict[str, str] = {}
    for place, item in enumerate(items, start=1):
        answers = sorted({str(one.said) for one in item.opinions})[:9]
        console.rule(f"task {item.task.get('id')} · {place} of {len(items)}", align="left")
        for name, text in item.task["data"].items():
            if isinstance(text, str):
                console.print(f"{name}: {text}", markup=False)
        for number, answer in enumerate(answers, start=1):
            console.print(f"[{number}] {answer}", markup=False)
        editable = item.kind == "textarea"
        console.print(f"[1-{len(answers)}] take it  {'[e]dit  ' if editable else ''}[s]kip  [q]uit", markup=False)
        keys = [*map(str, range(1, len(answers) + 1)), "s", "q", *("e" if editable else "")]
        key = typer.getchar().lower()
        while key not in keys:
            key = typer.getchar().lower()
        if key == "q":
            break
        written = (click.edit(answers[0]) or "").strip() if key == "e" else ""
        if key.isdigit() or written:
            choices[item.id] = written or answers[int(key) - 1]
    return choices
