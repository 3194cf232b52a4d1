"""Tables that more than one verb prints."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

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
