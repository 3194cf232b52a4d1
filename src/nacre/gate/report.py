"""A verdict as JSON, as JUnit XML for CI, and as Markdown."""

from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from nacre.records import Flip, RuleVerdict, TaskVerdict, Verdict

EXIT_CODES = {"pass": 0, "fail": 3, "undecided": 4}
SHOWN = 20  # flips of a task in a report for people
NO_ANSWER = "(empty)"


def as_dict(verdict: Verdict, notes: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of ``--json``."""
    return {
        "verdict": verdict.outcome,
        "confidence": verdict.confidence,
        "power": verdict.power,
        "tasks": {task.task: _task(task) for task in verdict.tasks},
        "rules": [rule.model_dump(mode="json", exclude={"schema_version"}) for rule in verdict.rules],
        "notes": [*notes, *verdict.notes],
    }


def _task(task: TaskVerdict) -> dict[str, Any]:
    used = task.rows if task.rows_used is None else task.rows_used
    evidence = {"p_value": task.p_value}
    if task.e_value is not None:
        evidence |= {"e_value": task.e_value, "e_value_margin": task.e_margin}
    return {
        "verdict": task.outcome,
        "metric": task.metric,
        "before": task.before,
        "after": task.after,
        "drop": task.drop,
        "interval": task.interval,
        "margin": task.margin,
        "margin_why": task.margin_why,
        "test": task.test,
        **evidence,
        "rows": task.rows,
        "rows_used": used,
        "rows_saved": (task.rows_of or task.rows) - task.rows,
        "rows_missing": task.more_rows,
        "lost": task.lost,
        "gained": task.gained,
        "flips": [flip.model_dump(mode="json", exclude={"schema_version"}) for flip in task.flips],
    }


def junit(verdict: Verdict, title: str, notes: Sequence[str] = ()) -> str:
    """JUnit XML: a test case for each task and each rule. What is undecided is a failure too: it holds a release."""
    cases = [(task.task, "task", task.outcome, task_line(task)) for task in verdict.tasks]
    cases += [(f"{rule.rule} {rule.task}".strip(), "rule", rule.outcome, rule.why) for rule in verdict.rules]
    failures = sum(outcome != "pass" for _, _, outcome, _ in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0", "skipped": "0"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": title, **counts})
    for name, kind, outcome, why in cases:
        case = ElementTree.SubElement(suite, "testcase", {"classname": f"nacre.gate.{kind}", "name": name})
        if outcome != "pass":
            failure = ElementTree.SubElement(case, "failure", {"type": outcome, "message": why})
            failure.text = "\n".join(_flip_lines(verdict, name)) or why
        else:
            ElementTree.SubElement(case, "system-out").text = why
    ElementTree.SubElement(suite, "system-out").text = "\n".join([*notes, *verdict.notes])
    ElementTree.indent(root)
    # XML cannot hold most control characters, and answers of models may
    text = ElementTree.tostring(root, encoding="unicode")
    return "<?xml version='1.0' encoding='utf-8'?>\n" + "".join(map(_writable, text)) + "\n"


def markdown(verdict: Verdict, title: str, notes: Sequence[str] = ()) -> str:
    """A page: the outcome, a table of tasks, a table of rules, flips, notes."""
    lines = [f"# {title}: {verdict.outcome}", ""]
    if verdict.tasks:
        lines += _table(
            ("task", "verdict", "before", "after", "drop", "interval", "margin", "rows used", "rows missing"),
            [_cells(task) for task in verdict.tasks],
        )
    if verdict.rules:
        rows = [(rule.rule, rule.task, rule.outcome, rule.why) for rule in verdict.rules]
        lines += _table(("rule", "task", "verdict", "why"), rows)
    for task in verdict.tasks:
        if task.flips:
            lines += [f"## {task.task}: {task.lost} rows lost, {task.gained} gained", ""]
            flips = [_flip_cells(flip) for flip in task.flips[:SHOWN]]
            lines += _table(("row", "change", "prompt", "before", "after"), flips)
            hidden = (task.lost or 0) + (task.gained or 0) - len(flips)
            lines += [f"{hidden} more", ""] if hidden > 0 else []
    said = [*notes, *verdict.notes, *(f"{task.task}: margin {task.margin_why}" for task in verdict.tasks)]
    return "\n".join([*lines, *(f"- {_plain(note)}" for note in said), ""])


def task_line(task: TaskVerdict) -> str:
    """One task in a sentence."""
    low, high = task.interval
    used = task.rows if task.rows_used is None else task.rows_used
    more = f"; about {task.more_rows} more rows would decide" if task.more_rows else ""
    return (
        f"{task.outcome}: drop {task.drop:+.4f} ({low:+.4f} to {high:+.4f}), margin {task.margin:.4f}, "
        f"decided with {used} of {task.rows_of or task.rows} rows{more}"
    )


def rule_line(rule: RuleVerdict) -> str:
    """One rule in a sentence."""
    return f"{rule.rule}{f' ({rule.task})' if rule.task else ''}: {rule.outcome}: {rule.why}"


def flip_line(flip: Flip) -> str:
    """One flip in a line."""
    change = "right → wrong" if flip.lost else "wrong → right"
    said = f": {_plain(flip.answer_before)!r} → {_plain(flip.answer_after)!r}" if _answered(flip) else ""
    prompt = f" {_plain(flip.prompt)!r}" if flip.prompt else ""
    return f"row {flip.identity or flip.row} {change}{prompt}{said}"


def _flip_lines(verdict: Verdict, name: str) -> Iterator[str]:
    for task in verdict.tasks:
        if task.task == name:
            yield from (flip_line(flip) for flip in task.flips[:SHOWN])


def _cells(task: TaskVerdict) -> tuple[str, ...]:
    used = task.rows if task.rows_used is None else task.rows_used
    return (
        task.task,
        task.outcome,
        f"{task.before:.3f}",
        f"{task.after:.3f}",
        f"{task.drop:+.3f}",
        "{:+.3f} … {:+.3f}".format(*task.interval),
        f"{task.margin:.3f}",
        f"{used} of {task.rows_of or task.rows}",
        str(task.more_rows or ""),
    )


def _flip_cells(flip: Flip) -> tuple[str, ...]:
    change = "lost" if flip.lost else "gained"
    sides = f"{flip.before:g}", f"{flip.after:g}"
    if _answered(flip):
        sides = flip.answer_before or NO_ANSWER, flip.answer_after or NO_ANSWER
    return flip.identity or str(flip.row), change, flip.prompt, *sides


def _answered(flip: Flip) -> bool:
    """Whether answers are known: one of them may be empty."""
    return bool(flip.answer_before or flip.answer_after)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[_plain(cell).replace("|", "\\|") for cell in row] for row in (head, ["---"] * len(head), *rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def _plain(text: str) -> str:
    """On one line, and without what Markdown would take for HTML."""
    return " ".join(text.split()).replace("<", "&lt;")


def _writable(letter: str) -> str:
    code = ord(letter)
    return (
        letter if code in (9, 10, 13) or 32 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or code > 0xFFFF else "\ufffd"
    )
