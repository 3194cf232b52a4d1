"""The queues of rows that wait for a person, as calls with JSON in and out: what the admin API asks for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nacre.base.errors import InputError
from nacre.cycle.rows.drafts import decide, rewritten, write_accepted
from nacre.cycle.workspace import Workspace
from nacre.records.draft import FROM_FEEDBACK, Draft

Action = Callable[[Mapping[str, Any], str], Any]


def draft_views(workspace: Workspace) -> dict[str, Action]:
    """The calls by name. Each takes what was asked and who asks, who is named as the one that decided.

    They raise what the functions they call raise; a workspace may be shared by threads.
    """
    return {
        "drafts": lambda given, actor: _list(workspace, given["queue"], given["most"]),
        "judge drafts": lambda given, actor: _judge(workspace, given["ids"], given["status"], actor),
        "edit draft": lambda given, actor: _edit(workspace, given, actor),
        "write drafts": lambda given, actor: _write(workspace, given),
    }


def _list(workspace: Workspace, queue: str | None, most: int) -> dict[str, Any]:
    """Every queue with how much is decided, and the oldest open drafts of one; None: of the first that has any."""
    every, queues = workspace.ledger.drafts.drafts(), dict[str, dict[str, Any]]()
    for one in every:
        harvested = one.model == FROM_FEEDBACK
        told = queues.setdefault(
            one.queue, {"queue": one.queue, "harvested": harvested, "open": 0, "accepted": 0, "rejected": 0, "ready": 0}
        )
        told[one.status] += 1
        told["ready"] += one.status == "accepted" and not one.written
    if queue is None:
        queue = next((name for name, told in queues.items() if told["open"] or told["ready"]), next(iter(queues), None))
    elif queue not in queues:
        workspace.ledger.drafts.drafts(queue)  # says that there is none
    waiting = [one for one in every if one.queue == queue and one.status == "open"]
    return {"queues": list(queues.values()), "queue": queue, "drafts": [_told(one) for one in waiting[:most]]}


def _told(one: Draft) -> dict[str, Any]:
    row = one.row
    return {
        "id": one.id,
        "status": one.status,
        "kind": row.kind,
        "model": one.model,
        "system": row.system,
        "before": [{"role": turn.role, "content": turn.content} for turn in row.prompt[:-1]],
        "question": row.prompt[-1].content,
        "answer": row.answer,
        "worse": row.answers[1].content if row.kind == "preference" else None,
        "wanted": row.desirable,
        "edited": one.edited,
        "created": one.created,
    }


def _judge(workspace: Workspace, ids: Sequence[int], status: str, actor: str) -> dict[str, Any]:
    """Accept or reject drafts.

    Raises:
        InputError: one of them is not there or was decided before; nothing is changed.
    """
    for one in _open(workspace, ids):
        decide(workspace, one.id, status, by=actor)
    return {"ids": list(dict.fromkeys(ids)), "status": status}


def _edit(workspace: Workspace, given: Mapping[str, Any], actor: str) -> dict[str, Any]:
    """Accept a draft as a person wrote it anew."""
    (one,) = _open(workspace, [given["id"]])
    row = rewritten(one.row, given["question"], given["answer"])
    return _told(decide(workspace, one.id, "accepted", by=actor, row=row))


def _write(workspace: Workspace, given: Mapping[str, Any]) -> dict[str, Any]:
    """Make what was accepted an increment; rows of feedback keep the name of their queue."""
    file, rows = write_accepted(workspace, given["queue"], given["increment"] or given["queue"])
    return {"queue": given["queue"], "file": file, "rows": rows}


def _open(workspace: Workspace, ids: Sequence[int]) -> list[Draft]:
    known = {one.id: one for one in workspace.ledger.drafts.drafts()}
    for identity in ids:
        if identity not in known:
            raise InputError(
                f"there is no draft {identity}; nothing was changed",
                where="ids",
                fix="take the numbers from the list of drafts",
            )
        if (one := known[identity]).status != "open":
            raise InputError(
                f"draft {identity} was {one.status} by {one.by}; nothing was changed",
                where="ids",
                fix="leave it out: a decision is not changed afterwards",
            )
    return [known[identity] for identity in dict.fromkeys(ids)]
