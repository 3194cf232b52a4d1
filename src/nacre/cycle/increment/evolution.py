"""What `evolve` did, for people and for ``--json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nacre.evaluate.matrix import Matrix, average_accuracy, bwt, forgetting
from nacre.records import Verdict, Version


@dataclass(frozen=True)
class Evolution:
    """What `evolve` did.

    Attributes:
        version: the version that knows the increment.
        parent: the version it was trained from; None for the base model.
        promoted: it is the champion, or the champion comes from it.
        trained: False when these rows were learned before and nothing had to be trained.
        new_tasks: score before and after, of tasks that the champion did not know.
        notes: what was decided, cut or left out, in sentences, by the part of the cycle that says so.
    """

    version: Version
    parent: int | None
    verdict: Verdict
    promoted: bool
    trained: bool
    matrix: Matrix | None
    new_tasks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    evaluate_seconds: float = 0.0
    peak_rss_bytes: int = 0
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Per task what was, what is, and what the gate says; a task that is new has nothing to lose."""
        found: dict[str, dict[str, Any]] = {
            task.task: {
                "before": task.before,
                "after": task.after,
                "drop": task.drop,
                "interval": task.interval,
                "margin": task.margin,
                "margin_why": task.margin_why,
                "verdict": task.outcome,
                "metric": task.metric,
                "rows": task.rows,
                "rows_used": task.rows if task.rows_used is None else task.rows_used,
                "more_rows": task.more_rows,
            }
            for task in self.verdict.tasks
        }
        for name, (before, after) in self.new_tasks.items():
            nothing = {"interval": None, "margin": None}
            found[name] = {"before": before, "after": after, "drop": before - after, **nothing, "verdict": "new"}
        return found

    @property
    def exit_code(self) -> int:
        """0 done (passed, or in use already), 3 refused by the gate, 4 undecided and held."""
        return 0 if self.promoted else {"pass": 0, "fail": 3, "undecided": 4}[self.verdict.outcome]

    def as_dict(self) -> dict[str, Any]:
        """The fields of ``--json``."""
        matrix = self.matrix
        return {
            "version": self.version.number,
            "parent": self.parent,
            "snapshot": self.version.snapshot.model_dump(mode="json"),
            "tasks": self.tasks(),
            "rules": [rule.model_dump(mode="json", exclude={"schema_version"}) for rule in self.verdict.rules],
            "matrix": matrix.model_dump(mode="json") if matrix else None,
            "average_accuracy": average_accuracy(matrix).value if matrix else None,
            "bwt": bwt(matrix).value if matrix else None,
            "forgetting": forgetting(matrix).value if matrix else None,
            "verdict": self.verdict.outcome,
            "promoted": self.promoted,
            "trained": self.trained,
            "train_seconds": self.version.train_seconds,
            "evaluate_seconds": self.evaluate_seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "notes": {part: list(notes) for part, notes in self.notes.items()},
        }
