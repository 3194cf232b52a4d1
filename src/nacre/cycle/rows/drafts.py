"""Made-up rows, and rows that feedback made, on their way: decided on by a person, written as an increment."""

import json
import re
from dataclasses import dataclass

from nacre.base.clock import now
from nacre.base.errors import InputError
from nacre.base.files import atomic_write, file_lock
from nacre.cycle.rows.past_dev import gather_dev
from nacre.cycle.rows.stage import REPORT
from nacre.cycle.workspace import Workspace
from nacre.data.all_dev import row_of
from nacre.data.compose.pieces import Piece, as_record, made, read_pieces, write_records
from nacre.data.compose.synthesize import Endpoint, synthesize
from nacre.feedback.rows import FEEDBACK
from nacre.records import Example
from nacre.records.draft import FROM_FEEDBACK, Draft

_STAGES = {"preference": "dpo", "kto": "kto"}
_QUEUE = re.compile(r"\w[\w.-]{0,50}")


@dataclass(frozen=True)
class Made:
    """What was put into a queue: rows added, what was dropped by reason, requests sent, and notes."""

    queue: str
    added: int
    dropped: dict[str, int]
    requests: int
    notes: tuple[str, ...]


def make(workspace: Workspace, dataset: str, wanted: int, endpoint: Endpoint, *, queue: str, seed: int = 0) -> Made:
    """Have rows made up after a dataset's rows, and put each before a person as soon as it is there.

    Rows like those of the dataset, like any row of the queue (rejected ones too), or like any dev row of the datasets
    and of the ledger are dropped and counted.

    Raises:
        InputError: no such dataset, a name that cannot name a queue, or the server refuses.
        NacreError: the server fails again and again.
    """
    if not _QUEUE.fullmatch(queue):
        fix = "use letters, digits, - and _, at most 50"
        raise InputError("this cannot name a queue", where=f"--queue {queue}", fix=fix)
    seeds = [row.example for row in read_pieces(dataset, workspace.dataset_dir).rows]
    dev, notes = gather_dev(workspace.root, workspace.dataset_dir, set())
    held = [draft.row for draft in workspace.ledger.drafts.drafts() if draft.queue == queue]
    added = 0

    def keep(row: Example, shown: tuple[str, ...]) -> None:
        nonlocal added
        draft = Draft(queue=queue, row=row, model=endpoint.model, seeds=shown, created=now())
        added += workspace.ledger.drafts.add([draft])

    try:
        found = synthesize(seeds, wanted, endpoint, dev=dev, known=held, keep=keep, seed=seed + len(held))
    finally:
        detail = {"queue": queue, "rows": added, "model": endpoint.model, "after": dataset}
        workspace.ledger.record("synthesized", "synthesize", detail)
    return Made(queue, added, dict(found.dropped), found.requests, (*notes, *found.notes))


def write_accepted(workspace: Workspace, queue: str, name: str) -> tuple[str, int]:
    """Add the accepted rows of a queue to ``dataset/NAME/train.jsonl``; each says who made and who accepted it.

    Returns:
        The file, and how many rows were added: those of earlier calls stand in it already.

    Raises:
        InputError: no such queue, nothing new was accepted, or the folder has train rows that nobody reviewed here.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        fix = "use letters, digits, - and _"
        raise InputError("this cannot name a folder", where=f"--increment {name}", fix=fix)
    harvested = any(one.model == FROM_FEEDBACK for one in workspace.ledger.drafts.drafts(queue))
    if harvested and name != queue:
        fix = f"nacre data review --queue {queue} --increment {queue}"
        raise InputError(
            "rows of feedback keep the name of their queue, so that they can be traced", where=queue, fix=fix
        )
    path = workspace.dataset_dir / name / "train.jsonl"
    where = str(path.relative_to(workspace.root))
    with file_lock(workspace.hidden / "harvest.lock", wait=False):
        accepted = [one for one in workspace.ledger.drafts.drafts(queue) if one.status == "accepted"]
        new = [one for one in accepted if not one.written]
        if not new:
            fix = f"nacre data review --queue {queue}"
            raise InputError("no row was accepted that is not written yet", where=f"queue {queue}", fix=fix)
        held = read_pieces(str(path), workspace.dataset_dir).rows if path.is_file() else []
        ours = {one.row.content_id for one in accepted}
        foreign = [row for row in held if row.example.content_id not in ours]
        if foreign or (path.parent / "train.json").exists():
            fix = "name another increment, and mix them with nacre data compose"
            raise InputError("the increment has train rows from elsewhere", where=where, fix=fix)
        there = {row.example.content_id for row in held}
        pieces: list[Piece] = [*held, *(_piece(one) for one in new if one.row.content_id not in there)]
        write_records(path, (_record(piece) for piece in pieces))
        if harvested:
            stage = _STAGES.get(new[0].row.kind, "sft")
            atomic_write(path.with_name(REPORT), json.dumps({"stage": stage}) + "\n")
        workspace.ledger.drafts.mark_written([one.id for one in new], where)
        detail = {"queue": queue, "increment": name, "rows": len(new)}
        workspace.ledger.record("accepted", new[0].by, detail)
        if harvested and not held:  # from now on it can be learned
            workspace.ledger.record("harvested", new[0].by, {"increment": name, "train": len(new), "dev": 0})
    return where, len(new)


def decide(workspace: Workspace, number: int, status: str, *, by: str, row: Example | None = None) -> Draft:
    """Accept or reject a draft; see `Drafts.decide`.

    Raises:
        InputError: also where it is not said who decides.
    """
    if not by.strip():
        raise InputError("it is not said who decides", where="nacre data review", fix="name them with --by")
    decided = workspace.ledger.drafts.decide(number, status, by=by.strip(), row=row)
    if decided.model == FROM_FEEDBACK and status == "rejected":
        numbers = [int(one) for one in str(decided.row.origin.extra.get(FEEDBACK, "")).split(",") if one]
        workspace.ledger.mark_feedback(numbers, "rejected", why=f"its row was rejected by {decided.by}")
    return decided


def rewritten(row: Example, question: str, answer: str) -> Example:
    """A row whose last question and (first) answer a person wrote anew.

    Raises:
        InputError: one of them is empty, the row has no answer, or the answer is the one that it shall be better than.
    """
    question, answer = question.strip(), answer.strip()
    if not (question and answer and row.answers):
        raise InputError("a row needs a question and an answer", where="the draft", fix="write both, or reject it")
    if any(answer == worse.content.strip() for worse in row.answers[1:]):
        fix = "write a better one, or reject it"
        raise InputError("this is the answer that another one shall be better than", where="the draft", fix=fix)
    prompt = (*row.prompt[:-1], row.prompt[-1].changed(content=question))
    return row.changed(prompt=prompt, answers=(row.answers[0].changed(content=answer), *row.answers[1:]))


def _piece(draft: Draft) -> Piece:
    if draft.model == FROM_FEEDBACK:
        accepted = {"accepted_by": draft.by[:64], "edited": "yes" if draft.edited else "no"}
        return made(draft.row, **draft.row.origin.extra, **accepted)
    said = {"origin": "synthetic", "model": draft.model[:64], "accepted_by": draft.by[:64], "accepted_at": draft.time}
    return made(draft.row, **said, draft=draft.id, edited="yes" if draft.edited else "no")


def _record(piece: Piece) -> dict[str, object]:
    return as_record(piece) if piece.raw is not None else row_of(piece.example) | piece.example.origin.extra
