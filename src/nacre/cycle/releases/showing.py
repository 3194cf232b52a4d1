"""What people look at, as calls with JSON in and out: what the admin API asks for beside the moves of releases.

Nothing is trained or scored here. Each callable takes what was asked and who asks.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from nacre.base.errors import ConflictError
from nacre.base.plugins import Table
from nacre.cycle.rows.opinions import decide
from nacre.cycle.scores.matrix import look_up
from nacre.cycle.workspace import Workspace
from nacre.evaluate.matrix import Matrix, figures
from nacre.records import Feedback, FeedbackStatus, Interaction

Action = Callable[[Mapping[str, Any], str], Any]
PARTS = Table(  # importing them takes seconds: a server does that when somebody looks, not when it starts
    "view",
    {
        "nodes": "nacre.cycle.versions.lineage_picture:nodes",
        "data report": "nacre.cycle.releases.showing_data:data_report",
        "increments": "nacre.cycle.releases.showing_data:increments",
        "evolution report": "nacre.cycle.reports.report:evolution_report",
        "trainings": "nacre.train.log:runs_under_way",
        "log": "nacre.train.log:read_log",
    },
)


def views(workspace: Workspace) -> dict[str, Action]:
    """The views by name.

    They raise what the functions they call raise; a workspace may be shared by threads.
    """
    busy = threading.Lock()  # a report reads every row: one at a time, so that it never crowds out a move of a release

    def data_report(given: Mapping[str, Any], actor: str) -> str:
        if not busy.acquire(blocking=False):
            raise ConflictError("another data report is being made", fix="try again in a moment")
        try:
            return str(PARTS.load("data report")(workspace, given["name"], given["lang"]))
        finally:
            busy.release()

    return {
        "matrix": lambda given, actor: _matrix(workspace, given["version"]),
        "lineage": lambda given, actor: {"nodes": [asdict(node) for node in PARTS.load("nodes")(workspace)]},
        "flips": lambda given, actor: _flips(workspace, given["version"]),
        "pairs": lambda given, actor: {"pairs": _pairs(workspace, given["most"])},
        "opinions": lambda given, actor: _opinions(workspace, given["status"], given["most"]),
        "judge opinions": lambda given, actor: _judge(workspace, given, actor),
        "increments": lambda given, actor: {"increments": PARTS.load("increments")(workspace)},
        "data report": data_report,
        "trainings": lambda given, actor: {"trainings": PARTS.load("trainings")(workspace.hidden / "runs")},
        "evolution report": lambda given, actor: PARTS.load("evolution report")(
            workspace, given["version"], given["lang"]
        ),
        "curves": lambda given, actor: _curves(workspace, given["version"]),
    }


def _matrix(workspace: Workspace, number: int | None) -> dict[str, Any]:
    """The matrix of the line that led to a version, or (None) of all versions, as the ledger knows it."""
    found = look_up(workspace, number)
    read = figures(found.grid) if isinstance(found.grid, Matrix) else ()
    return {
        "kind": "line" if isinstance(found.grid, Matrix) else "history",
        "grid": found.grid.model_dump(mode="json"),
        "figures": [one.model_dump(mode="json") for one in read],
        "notes": list(found.notes),
    }


def _flips(workspace: Workspace, number: int) -> dict[str, Any]:
    """What the gate saw a version lose and gain, row by row, as far as the verdict lists them."""
    workspace.ledger.version(number)  # there is one
    verdict = workspace.ledger.verdict(number)
    told = verdict.model_dump(mode="json") if verdict else None
    return {"version": number, "against": workspace.ledger.judged_against(number), "verdict": told}


def _pairs(workspace: Workspace, most: int) -> list[dict[str, Any]]:
    """What champion and shadow answered to the same requests, the newest first; nothing where no release is on."""
    ledger = workspace.ledger
    active = ledger.releases.active()
    found = []
    for pair in reversed(ledger.releases.observed.pairs(active)[-most:] if active else []):
        old, new = (ledger.interaction(one) for one in pair.ids)
        if old is not None and new is not None:  # else forgotten since
            found.append(
                {
                    "time": old.time,
                    "question": old.messages[-1].content if old.messages else "",
                    "champion": old.answer,
                    "shadow": new.answer,
                    "finishes": list(pair.finishes),
                    "scores": list(pair.scores) if pair.scores else None,
                }
            )
    return found


def _opinions(workspace: Workspace, status: FeedbackStatus | None, most: int) -> dict[str, Any]:
    """The newest opinions with what they are about, and how many there are of each status."""
    usage = workspace.ledger.usage
    counts, chosen = usage.opinion_counts(), usage.newest_opinions(most, status)
    answers = usage.interactions(name for one in chosen for name in (one.interaction, one.other))
    return {
        "counts": counts,
        "found": sum(counts.values()) if status is None else counts.get(status, 0),
        "feedback": [_opinion(answers, one) for one in chosen],
    }


def _opinion(answers: Mapping[str, Interaction], one: Feedback) -> dict[str, Any]:
    about, other = answers.get(one.interaction), answers.get(one.other)
    asked = about.messages[-1].content if about and about.messages else ""
    told = {"question": asked, "answer": about.answer, "version": about.version, "arm": about.arm} if about else {}
    return one.model_dump(mode="json") | told | ({"other_answer": other.answer} if other else {})


def _judge(workspace: Workspace, given: Mapping[str, Any], actor: str) -> dict[str, Any]:
    """Take opinions in, or turn them down; what was made into an increment already stays as it is.

    Raises:
        InputError: one of them is not there, was exported, or may not be learned from; nothing is changed.
        NacreError: a harvest is at work.
    """
    decided = decide(workspace, list(dict.fromkeys(given["ids"])), given["status"], why=given["why"], actor=actor)
    return {"ids": [one.id for one in decided], "status": given["status"]}


def _curves(workspace: Workspace, number: int) -> dict[str, Any]:
    """The log of a version's training; empty where its weights are not here."""
    version = workspace.ledger.version(number)
    folder = workspace.store.root / version.artifact
    return {"version": number, "task": version.snapshot.task, "points": PARTS.load("log")(folder)}
