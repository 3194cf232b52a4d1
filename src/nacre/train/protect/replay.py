"""Experience replay: rows of past tasks mixed into every batch.

Source: Rolnick et al. 2019, "Experience Replay for Continual Learning" (arXiv 1811.11682); for language
models TRACE (arXiv 2310.06762). The share counts: 20 % of each batch keeps most of what joint training keeps.
Cost: `share` / (1 - `share`) more rows than plain training.
"""

from pydantic import Field

from nacre.base.config import Settings
from nacre.train.protect.base import MixIn, Protection, TrainingRows


class Replay(Protection):
    """Draw a share of every batch from the rows of past tasks, evenly over the tasks."""

    name = "replay"

    class Config(Settings):
        """Options of replay."""

        share: float = Field(0.2, gt=0, lt=1, description="share of every batch that is replayed rows")
        samples: int | None = Field(None, ge=1, description="use at most this many past rows, evenly over the tasks")

    def rows(self, rows: TrainingRows) -> TrainingRows:
        """Add the past rows as one stream, grouped by task."""
        tasks = {task: list(kept) for task, kept in self.context.memory.items() if kept}
        if not tasks:
            return rows
        if self.config.samples is not None:
            each = max(1, self.config.samples // len(tasks))
            tasks = {task: sorted(kept, key=lambda row: row.content_id)[:each] for task, kept in tasks.items()}
        total = sum(len(kept) for kept in tasks.values())
        sizes = ", ".join(f"{task} {len(kept)}" for task, kept in tasks.items())
        self.notes.append(f"replay: {self.config.share:.0%} of every batch from {total} rows of past tasks ({sizes})")
        return rows.with_rows(MixIn("replay", self.config.share, tuple(tasks.values())))
