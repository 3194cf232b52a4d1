"""What people look at, as calls with JSON in and out: what the admin API asks for beside the moves of releases.

Nothing is trained or scored here. Each callable takes what was asked and who asks.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from nacre.base.errors import ConflictError, unknown
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.reports.report import evolution_report
from nacre.cycle.rows.opinions import decide
from nacre.cycle.scores.matrix import look_up
from nacre.cycle.versions.lineage_picture import nodes
from nacre.cycle.workspace import Workspace
from nacre.data.dataset import resolve
from nacre.data.dataset_info import read_info
from nacre.data.report.build import Earlier, Rows, report_on
from nacre.data.report.page import to_html
from nacre.data.rows import read_rows
from nacre.evaluate.matrix import Matrix, figures
from nacre.records import Feedback, Interaction
from nacre.train.log import read_log, runs_under_way

Action = Callable[[Mapping[str, Any], str], Any]


def views(workspace: Workspace) -> dict[str, Action]:
    """The views by name.

    They raise what the functions they call raise; a workspace may be shared by threads.
    """
    busy = threading.Lock()  # a report reads every row: one at a time, so that it never crowds out a move of a release

    def data_report(given: Mapping[str, Any], actor: str) -> str:
        if not busy.acquire(blocking=False):
            raise ConflictError("another data report is being made", fix="try again in a moment")
        try:
            return _data_report(workspace, given["name"], given["lang"])
        finally:
            busy.release()

    return {
        "matrix": lambda given, actor: _matrix(workspace, given["version"]),
        "lineage": lambda given, actor: {"nodes": [asdict(node) for node in nodes(workspace)]},
        "flips": lambda given, actor: _flips(workspace, given["version"]),
        "opinions": lambda given, actor: _opinions(workspace, given["status"], given["most"]),
        "judge opinions": lambda given, actor: _judge(workspace, given, actor),
        "increments": lambda given, actor: {"increments": _increments(workspace)},
        "data report": data_report,
        "trainings": lambda given, actor: {"trainings": runs_under_way(workspace.hidden / "runs")},
        "evolution report": lambda given, actor: evolution_report(workspace, given["version"], given["lang"]),
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


def _opinions(workspace: Workspace, status: str | None, most: int) -> dict[str, Any]:
    """The newest opinions with what they are about, and how many there are of each status."""
    found = workspace.ledger.feedback()
    counts: dict[str, int] = {}
    for one in found:
        counts[one.status] = counts.get(one.status, 0) + 1
    chosen = [one for one in reversed(found) if status is None or one.status == status]
    answers = workspace.ledger.usage.interactions(
        name for one in chosen[:most] for name in (one.interaction, one.other)
    )
    return {
        "counts": counts,
        "found": len(chosen),
        "feedback": [_opinion(answers, one) for one in chosen[:most]],
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


def _increments(workspace: Workspace) -> list[str]:
    """Names of the datasets of the workspace."""
    folder = workspace.dataset_dir
    folders = [one.name for one in folder.iterdir() if any(one.glob("train.*"))] if folder.is_dir() else []
    return sorted({*folders, *read_info(folder)})


def _data_report(workspace: Workspace, name: str, lang: str) -> str:
    """The data report of an increment as a page, compared with what the champion's line learned before it."""
    names = _increments(workspace)
    if name not in names:
        raise unknown("increment", name, names, where="the request")
    files = resolve(name, workspace.dataset_dir)
    earlier: list[Earlier] = []
    champion = workspace.ledger.slot("champion")
    for learned in tasks_of(ancestry(workspace, champion.version if champion else None)).values():
        if learned.name == files.task:
            break
        earlier.append(
            Earlier(learned.name, (row for file in learned.train for row in read_rows(workspace.memory, file)))
        )
    return to_html(report_on(name, Rows([files]), earlier), lang="zh" if lang == "zh" else "en")


def _curves(workspace: Workspace, number: int) -> dict[str, Any]:
    """The log of a version's training; empty where its weights are not here."""
    version = workspace.ledger.version(number)
    folder = workspace.store.root / version.artifact
    return {"version": number, "task": version.snapshot.task, "points": read_log(folder)}
