"""Made-up rows before people in Label Studio instead of the terminal: open drafts out, decisions in."""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nacre.base.errors import InputError
from nacre.cycle.rows.drafts import decide
from nacre.cycle.workspace import Workspace
from nacre.data.annotate.answers import Export, Item, corrected, read_export, told
from nacre.data.annotate.client import Client
from nacre.data.annotate.projects import Pushed, open_project, people, pull, push, the_project
from nacre.data.annotate.questions import ACCEPT, config, task_of
from nacre.records.draft import Draft


@dataclass(frozen=True)
class Decided:
    """What was decided in Label Studio: numbers of drafts accepted and rejected now, and what else there is to say."""

    accepted: tuple[int, ...]
    rejected: tuple[int, ...]
    notes: tuple[str, ...]


def push_drafts(workspace: Workspace, queue: str, client: Client, title: str, *, each: int = 1) -> Pushed:
    """Send the open drafts of a queue to a project, made where there is none; those it holds are not sent again.

    Args:
        workspace: where the queue is.
        queue: its name.
        client: the server.
        title: of the project.
        each: how many people are to answer each draft.

    Raises:
        InputError: no such queue, no open draft, a project that asks something else, or the server refuses.
        NacreError: the server does not answer.
    """
    waiting = [one for one in workspace.ledger.drafts.drafts(queue) if one.status == "open"]
    if not waiting:
        fix = "nacre data synthesize makes new ones"
        raise InputError("no draft waits for a decision", where=f"queue {queue}", fix=fix)
    tasks = [task_of(one.row, "accept", queue=queue, draft=one.id) for one in waiting]
    return push(client, open_project(client, title, config("accept"), people=each), tasks)


def pull_drafts(workspace: Workspace, queue: str, client: Client, title: str) -> Decided:
    """Decide on drafts as people did in Label Studio; the name is their e-mail address there.

    A draft is decided when all answers to it are the same, corrections too, or one is marked as ground truth. What is
    decided here already stays as it is.

    Raises:
        InputError: no such queue or project, or the server refuses.
        NacreError: the server does not answer.
    """
    drafts = {one.id: one for one in workspace.ledger.drafts.drafts(queue)}
    project = the_project(client, title)
    names = people(client)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "export.json"
        pull(client, project, file)
        found = read_export(file)
    done: dict[str, list[int]] = {"accepted": [], "rejected": []}
    notes: Counter[str] = Counter()
    for item in found.items:
        draft, reason = _waiting(item, queue, drafts)
        held = item.decided
        if draft is not None and held is not None:
            row = corrected(draft.row, held) if held.said == ACCEPT else None
            by = " and ".join(names.get(one.rater, one.rater) for one in item.opinions if one.said == held.said)
            status = "accepted" if held.said == ACCEPT else "rejected"
            decide(workspace, draft.id, status, by=by, row=row)
            done[status].append(draft.id)
        notes[reason] += bool(reason)
    if done["accepted"] or done["rejected"]:
        detail = {"queue": queue, "project": project.number, **{name: len(numbers) for name, numbers in done.items()}}
        workspace.ledger.record("annotated", "label studio", detail)
    return Decided(tuple(done["accepted"]), tuple(done["rejected"]), tuple(_notes(notes, found)))


def _waiting(item: Item, queue: str, drafts: dict[int, Draft]) -> tuple[Draft | None, str]:
    """The draft that a task is about, if it waits for a decision; else why it is passed over, where that is news."""
    number = item.own.get("draft")
    draft = drafts.get(number) if item.own.get("queue") == queue and isinstance(number, int) else None
    if draft is None:
        return None, "tasks are not of this queue"
    if draft.status != "open":
        held = item.decided
        otherwise = held is not None and (held.said == ACCEPT) != (draft.status == "accepted")
        return None, "drafts were decided otherwise here before, which stays" if otherwise else ""
    if task_of(draft.row, "accept", queue=queue, draft=draft.id)["data"]["nacre"]["id"] != item.id:
        return None, "tasks are of another workspace's drafts"
    if item.decided is None and item.opinions:
        return None, "drafts are disputed: change an answer or mark one as ground truth, or decide in nacre data review"
    return draft, "" if item.opinions else "drafts wait for an answer"


def _notes(notes: Counter[str], found: Export) -> list[str]:
    return [*told(notes), *told(found.left)]
