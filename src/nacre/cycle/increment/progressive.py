"""Learn a part of an increment first, look at what came of it, and only then learn all: `nacre evolve --progressive`.

The part shows every class or cluster of the rows (`data.strata`) and is judged by the same dev rows. Its version is
held against the champion like any other and never promoted. Training on all rows starts where the first one started,
so that nothing is learned twice as often as the rest.

Cost: one more training, on the part, and one more judgement.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nacre.cycle.increment.evolution import Evolution
from nacre.data.rows import read_rows, write_rows
from nacre.data.strata import choose
from nacre.records import Snapshot

LITTLE_GAINED = 0.02  # of the new task's score
PART = "a part:"  # begins the note of a snapshot that has not all of its rows
Decision = Literal["go on", "stop", "nothing gained"]


@dataclass(frozen=True)
class Progress:
    """What the first rows showed: learn all, or not, because earlier tasks were lost or nothing was gained."""

    decision: Decision
    why: str


def first_part(snapshot: Snapshot, rows: int | None, memory: Path) -> Snapshot:
    """The snapshot with so many of its train rows, of each class or cluster in proportion; itself where it has no more.

    Raises:
        NacreError: the disk is full or cannot be written.
    """
    if rows is None or rows >= snapshot.train.rows:
        return snapshot
    kept = choose(read_rows(memory, snapshot.train), rows, floor=0, seed=0).rows
    said = f"{PART} {len(kept)} of {snapshot.train.rows} train rows are learned, of each class in proportion"
    return snapshot.changed(train=write_rows(memory, kept), notes=(*snapshot.notes, said))


def guessed(snapshot: Snapshot, memory: Path) -> float:
    """The most that one and the same answer scores on the dev rows: what is had without understanding any of them."""
    dev = read_rows(memory, snapshot.dev) if snapshot.dev else []
    answers = Counter(row.answer.strip() for row in dev)
    return max(answers.values(), default=0) / max(1, len(dev))


def decide(found: Evolution, guess: float = 0.0) -> Progress:
    """Whether the rest is worth learning, from what the first rows did to earlier tasks and to the new one.

    Args:
        found: what came of the first rows.
        guess: what the same answer to every question scores on the new task; less than that is nothing gained.
    """
    number = found.version.number
    if found.verdict.outcome == "fail":
        lost = ", ".join(f"{task.task} -{task.drop:.3f}" for task in found.verdict.tasks if task.outcome == "fail")
        return Progress("stop", f"the gate refused version {number}: {lost or 'see its rules'}")
    own = found.version.snapshot.task
    held = {task: max(before, guess if task == own else 0.0) for task, (before, _) in found.new_tasks.items()}
    gains = {task: after - held[task] for task, (_, after) in found.new_tasks.items()}
    if not gains:
        return Progress("go on", f"version {number} lost nothing that the gate saw; no new task to see a gain in")
    said = ", ".join(f"{task} {gain:+.3f}" for task, gain in gains.items())
    if own in held and held[own] > found.new_tasks[own][0]:
        said += f" over the {guess:.3f} that one and the same answer scores"
    full = all(after > 1 - LITTLE_GAINED for _, after in found.new_tasks.values())
    if max(gains.values()) < LITTLE_GAINED and not full:
        return Progress("nothing gained", f"version {number} learned next to nothing of it: {said}")
    return Progress("go on", f"version {number} gained {said} and lost nothing that the gate saw")


def progressively(
    learn: Callable[[int | None], Evolution], rows: int, tell: Callable[[str], None], memory: Path
) -> Evolution:
    """Learn `rows` of the increment, decide, and then perhaps learn all of it.

    Args:
        learn: learns so many rows of the increment without promoting the version, or (None) all of it.
        rows: how many first.
        tell: is told the decision before the second training begins.
        memory: the folder that rows are kept in.
    """
    first = learn(rows)
    number = first.version.number
    if PART not in " ".join(first.version.snapshot.notes):
        why = (
            f"the increment has {first.version.snapshot.train.rows} train rows: there is no smaller part to begin with"
        )
        last = learn(None)
        return replace(last, notes={**last.notes, "progressive": (why,)})
    found = decide(first, guessed(first.version.snapshot, memory))
    said = f"{found.decision}: {found.why}"
    if found.decision != "go on":
        more = f"the other rows were not learned; nacre evolve without --progressive learns all, {number} is kept"
        return replace(first, notes={**first.notes, "progressive": (said, more)})
    tell(f"progressive: {said}; now all rows")
    last = learn(None)
    return replace(last, notes={**last.notes, "progressive": (said, *last.notes.get("progressive", ()))})
