"""The documents of a workspace: added, renewed, taken out and searched, and how much of what people ask is in them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from nacre.base.errors import InputError, unknown
from nacre.base.files import file_lock
from nacre.cycle.rows.coverage import asked_questions
from nacre.cycle.rows.knowledge_at import where
from nacre.cycle.workspace import Workspace
from nacre.serve.knowledge.build import Renewed, key_of, renew, sentences_of
from nacre.serve.knowledge.search import Hits, Searcher
from nacre.serve.knowledge.snapshots import Snapshot, Snapshots, Source

EVENT = "knowledge"


@dataclass(frozen=True)
class Answered:
    """Questions from one place, and for how many of them the documents hold a passage.

    Attributes:
        interval: of the share, at 95 % (Wilson).
        unanswered: the questions without one, the most frequent first, with how often each was asked.
    """

    source: str
    questions: int
    answered: int
    interval: tuple[float, float]
    unanswered: tuple[tuple[str, int], ...]

    @property
    def share(self) -> float:
        """Questions with a passage, of all."""
        return self.answered / self.questions

    def numbers(self) -> dict[str, Any]:
        """For the history: no words of the users'."""
        low, high = self.interval
        return {
            "source": self.source,
            "questions": self.questions,
            "answered": self.answered,
            "share": round(self.share, 4),
            "interval": [round(low, 4), round(high, 4)],
        }


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


def add(workspace: Workspace, paths: Sequence[Path], *, orders: bool = False, actor: str = "nacre") -> Renewed:
    """Take files and folders into the store, and renew it.

    Args:
        workspace: whose store.
        paths: relative to the folder the command runs in.
        orders: leave sentences in that speak to a language model; said again of a source, it holds from then on.
        actor: who the history says did it.

    Raises:
        InputError: there is no such file or folder, or it is of a kind that is not read.
        NacreError: another command is at work at the store.
    """
    with _changing(workspace) as snapshots:
        present = snapshots.present()
        sources = {one.path: one for one in present.sources} if present else {}
        for path in paths:
            key = key_of(path, workspace.root)
            sources[key] = Source(path=key, orders=orders)
        return _renewed(workspace, list(sources.values()), actor)


def refresh(workspace: Workspace, *, actor: str = "nacre") -> Renewed:
    """Read what was changed in the sources since. Raises as `add` does."""
    with _changing(workspace) as snapshots:
        return _renewed(workspace, _present(workspace, snapshots).sources, actor)


def remove(workspace: Workspace, paths: Sequence[Path], *, actor: str = "nacre") -> Renewed:
    """Take sources out of the store, and renew it.

    Raises:
        InputError: one of them was never added.
        NacreError: as of `add`.
    """
    with _changing(workspace) as snapshots:
        sources = {one.path: one for one in _present(workspace, snapshots).sources}
        for path in paths:
            key = key_of(path, workspace.root)
            if key not in sources:
                raise unknown("source", key, sources, where="nacre knowledge remove")
            del sources[key]
        return _renewed(workspace, list(sources.values()), actor)


def rollback(workspace: Workspace, *, actor: str = "nacre") -> Snapshot:
    """Put the snapshot before to use again; the sources are not touched, so a refresh undoes it.

    Raises:
        InputError: there is none.
    """
    with _changing(workspace) as snapshots:
        was = _present(workspace, snapshots).number
        snapshot = snapshots.read(snapshots.back())
        _record(workspace, snapshot, actor, {"rolled_back": was})
        return snapshot


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
    answered = tuple(_answered(searcher, source, texts) for source, texts in asked.items() if texts)
    target = workspace.settings.knowledge.target
    return Standing(present, tuple(snapshots.order()), tuple(sentences_of(present)), answered, target)


def _answered(searcher: Searcher, source: str, questions: Sequence[str]) -> Answered:
    counts = Counter(questions)
    inside = {text: bool((hits := searcher.search(text, 1)) and hits.passages) for text in counts}
    answered = sum(count for text, count in counts.items() if inside[text])
    low, high = binomtest(answered, len(questions)).proportion_ci(method="wilson")
    outside = tuple((text, count) for text, count in counts.most_common() if not inside[text])
    return Answered(source, len(questions), answered, (float(low), float(high)), outside)


@contextmanager
def _changing(workspace: Workspace) -> Iterator[Snapshots]:
    """One change of the store at a time; searches go on beside it."""
    folder = where(workspace).folder
    with file_lock(folder / "lock", wait=False):
        yield Snapshots(folder)


def _renewed(workspace: Workspace, sources: Sequence[Source], actor: str) -> Renewed:
    found = renew(where(workspace), sources)
    if found.changed:
        _record(workspace, found.snapshot, actor, {"read": found.read, "kept": found.kept, "gone": found.gone})
    return found


def _record(workspace: Workspace, snapshot: Snapshot, actor: str, more: dict[str, Any]) -> None:
    """Write into the history what is in use now: numbers and hashes, no words of the documents."""
    detail = {"snapshot": snapshot.number, "record": snapshot.digest, "documents": len(snapshot.documents)}
    workspace.ledger.record(EVENT, actor, {**detail, "chunks": snapshot.chunks, **more})


def _present(workspace: Workspace, snapshots: Snapshots) -> Snapshot:
    found = snapshots.present()
    if found is None:
        raise _nothing_added(workspace)
    return found


def _nothing_added(workspace: Workspace) -> InputError:
    return InputError("there are no documents yet", where=str(workspace.root), fix="run nacre knowledge add FOLDER")
