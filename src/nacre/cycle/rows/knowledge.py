"""The documents of a workspace: added, renewed, taken out and searched, and how much of what people ask is in them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError, unknown
from nacre.cycle.rows import knowledge_slots
from nacre.cycle.rows.coverage import asked_questions
from nacre.cycle.rows.knowledge_asked import Answered, Check, answered
from nacre.cycle.rows.knowledge_at import where
from nacre.cycle.rows.knowledge_slots import BY_HAND, REFUSED, changing
from nacre.cycle.workspace import Workspace
from nacre.serve.knowledge.build import Renewed, key_of, renew, sentences_of
from nacre.serve.knowledge.search import Hits, Searcher
from nacre.serve.knowledge.snapshots import Snapshot, Snapshots, Source


@dataclass(frozen=True)
class Standing:
    """What the store holds, and what people miss in it.

    Attributes:
        snapshots: numbers of those that are kept, the one in use first.
        lacks: what the one in use lacks, in sentences.
        asked: the questions, by where they are from; empty while nobody has asked anything.
        target: share that there should be a passage for.
    """

    snapshot: Snapshot
    snapshots: tuple[int, ...]
    lacks: tuple[str, ...]
    asked: tuple[Answered, ...]
    target: float

    @property
    def short(self) -> bool:
        """Whether a share is below the target."""
        return any(one.share < self.target for one in self.asked)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        held = self.snapshot
        return {
            "snapshot": held.number,
            "created": held.created,
            "snapshots": list(self.snapshots),
            "documents": len(held.documents),
            "chunks": held.chunks,
            "model": held.model,
            "sources": [{"path": source.path, "orders": source.orders} for source in held.sources],
            "lacks": list(self.lacks),
            "target": self.target,
            "asked": [
                one.numbers() | {"unanswered": [{"question": text, "times": times} for text, times in one.unanswered]}
                for one in self.asked
            ],
        }


def in_use(workspace: Workspace) -> bool:
    """Whether documents were ever added."""
    return Snapshots(where(workspace).folder).mark() is not None


def add(
    workspace: Workspace,
    paths: Sequence[Path],
    *,
    orders: bool = False,
    actor: str = "nacre",
    why: str = BY_HAND,
    force: bool = False,
) -> Renewed:
    """Take files and folders into the store, and renew it.

    Args:
        workspace: whose store.
        paths: relative to the folder the command runs in.
        orders: leave sentences in that speak to a language model; said again of a source, it holds from then on.
        actor: who the history says did it.
        why: one sentence for the history.
        force: put the new snapshot to use however many of people's questions lose their passage.

    Returns:
        What was made; where the share of people's questions with a passage falls too far, it is `refused`.

    Raises:
        InputError: there is no such file or folder, or it is of a kind that is not read.
        NacreError: another command is at work at the store.
    """
    with changing(workspace) as snapshots:
        present = snapshots.present()
        sources = {one.path: one for one in present.sources} if present else {}
        for path in paths:
            key = key_of(path, workspace.root)
            sources[key] = Source(path=key, orders=orders)
        check = _check(workspace, None, force)
        return _renewed(workspace, list(sources.values()), check, "add", actor, why)


def refresh(
    workspace: Workspace,
    *,
    questions: Path | None = None,
    actor: str = "nacre",
    why: str = BY_HAND,
    force: bool = False,
) -> Renewed:
    """Read what was changed in the sources since. As `add`, but for:

    Args:
        workspace: whose store.
        questions: a file with one question a line, relative to the workspace, that may not lose their passages either.
        actor: see `add`.
        why: see `add`.
        force: see `add`.
    """
    with changing(workspace) as snapshots:
        sources = _present(workspace, snapshots).sources
        return _renewed(workspace, sources, _check(workspace, questions, force), "refresh", actor, why)


def remove(workspace: Workspace, paths: Sequence[Path], *, actor: str = "nacre", why: str = BY_HAND) -> Renewed:
    """Take sources out of the store, and renew it. No question is looked up before: what must go, goes at once.

    Raises:
        InputError: one of them was never added.
        NacreError: as of `add`.
    """
    with changing(workspace) as snapshots:
        sources = {one.path: one for one in _present(workspace, snapshots).sources}
        for path in paths:
            key = key_of(path, workspace.root)
            if key not in sources:
                raise unknown("source", key, sources, where="nacre knowledge remove")
            del sources[key]
        return _renewed(workspace, list(sources.values()), None, "remove", actor, why)


def search(workspace: Workspace, question: str, limit: int | None = None) -> Hits:
    """The passages a served answer would be given.

    Raises:
        InputError: there are no documents.
        NacreError: the store cannot be read.
    """
    hits = Searcher(where(workspace)).search(question, limit)
    if hits is None:
        raise _nothing_added(workspace)
    return hits


def report(workspace: Workspace, *, questions: Path | None = None) -> Standing:
    """What the store holds, and for which of the questions people asked it has nothing.

    Args:
        workspace: whose store; its latest 2000 served questions are looked up.
        questions: a file with one question a line, relative to the workspace, to look up too.

    Raises:
        InputError: there are no documents, or the file cannot be read.
        NacreError: the store cannot be read.
    """
    snapshots = Snapshots(where(workspace).folder)
    present = _present(workspace, snapshots)
    searcher = Searcher(where(workspace))
    asked = asked_questions(workspace, questions)
    found = answered(searcher, asked)
    target = workspace.settings.knowledge.target
    return Standing(present, tuple(snapshots.order()), tuple(sentences_of(present)), found, target)


def _check(workspace: Workspace, questions: Path | None, force: bool) -> Check:
    return Check(where(workspace), asked_questions(workspace, questions), force=force)


def _renewed(
    workspace: Workspace, sources: Sequence[Source], check: Check | None, how: str, actor: str, why: str
) -> Renewed:
    """Renew the store, and write into the history what is in use then, and what is not and why."""
    before = Snapshots(where(workspace).folder).present()
    found = renew(where(workspace), sources, check=check, pinned=knowledge_slots.pinned(workspace))
    if found.made is None:
        return found
    numbers: dict[str, Any] = {"read": found.read, "kept": found.kept, "gone": found.gone}
    if check is not None:
        numbers |= check.numbers()
    if found.refused:
        how = REFUSED
        numbers |= {"made": found.made.number, "refused": found.refused}
    number = before.number if before else None
    knowledge_slots.record(workspace, number, found.snapshot, actor, how=how, why=why, **numbers)
    return replace(found, told=(*found.told, check.blind)) if check is not None and check.blind else found


def _present(workspace: Workspace, snapshots: Snapshots) -> Snapshot:
    found = snapshots.present()
    if found is None:
        raise _nothing_added(workspace)
    return found


def _nothing_added(workspace: Workspace) -> InputError:
    return InputError("there are no documents yet", where=str(workspace.root), fix="run nacre knowledge add FOLDER")
