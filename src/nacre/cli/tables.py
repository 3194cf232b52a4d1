"""Tables that more than one verb prints."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from nacre.records import Combined, Compressed

COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow", "new": "cyan"}


def task_table(tasks: Mapping[str, Mapping[str, Any]]) -> Table:
    """Per task: before, after, drop with interval and margin, verdict."""
    table = Table(title="kept and new tasks", title_justify="left")
    table.add_column("task")
    for name in ("before", "after", "drop", "interval", "margin"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for name, task in tasks.items():
        interval = "" if task["interval"] is None else "{:+.3f} … {:+.3f}".format(*task["interval"])
        margin = "" if task["margin"] is None else f"{task['margin']:.3f}"
        more = f" ({task['more_rows']} more dev rows would decide)" if task.get("more_rows") else ""
        colour = COLOURS[task["verdict"]]
        table.add_row(
            name,
            f"{task['before']:.3f}",
            f"{task['after']:.3f}",
            "" if task["verdict"] == "new" else f"{task['drop']:+.3f}",
            interval,
            margin,
            f"[{colour}]{task['verdict']}[/]{more}",
        )
    return table


def side_table(told: "Compressed | Combined", names: tuple[str, str] = ("before", "after")) -> Table:
    """Both sides as they were measured, and what one is of the other."""
    before, after = told.before, told.after
    title = " and ".join(names)
    table = Table("", title=title, title_justify="left")
    for name in (*names, f"{names[1]} / {names[0]}"):
        table.add_column(name, justify="right")
    rows: list[tuple[str, Any, Any, str]] = [
        ("weights on disk (bytes)", before.size_bytes, after.size_bytes, ",.0f"),
        ("decoding (tokens/s)", before.tokens_s, after.tokens_s, ",.1f"),
        ("first token (s)", before.first_token_s, after.first_token_s, ".4f"),
        ("perplexity on dev rows", before.perplexity, after.perplexity, ".4f"),
    ]
    for name, old, new, form in rows:
        known = old is not None and new is not None
        cells = [format(old, form), format(new, form), f"{new / old:.3f}"] if known else ["", "", "not measured"]
        table.add_row(name, *cells)
    for name, share in (("same answers", told.same_answers), ("same greedy tokens", told.same_tokens)):
        table.add_row(name, "", "" if share is None else f"{share:.2%}", "")
    return table
