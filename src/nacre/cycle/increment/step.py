"""One increment to learn, and everything that is known before anything is trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nacre.base.hashing import content_hash
from nacre.cycle.workspace import Workspace
from nacre.records import Recipe, Snapshot, Version
from nacre.registry.slots import Slot

Promote = Literal["pass", "never"]


@dataclass(frozen=True)
class Step:
    """One increment to learn: its rows, the line of versions it is learned on top of, and who is champion now."""

    workspace: Workspace
    snapshot: Snapshot
    lineage: list[Version]
    champion: Slot | None
    promote: Promote
    actor: str
    recipe: Recipe
    weak: Mapping[str, float] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda _: None

    @property
    def parent(self) -> Version | None:
        """The version that training starts from; None for the base model."""
        return self.lineage[-1] if self.lineage else None

    @property
    def against(self) -> int | None:
        """The version that the result is judged against: the champion."""
        return self.champion.version if self.champion else None

    @property
    def run(self) -> Path:
        """The run's folder, named by what decides its result, so that one that was killed is found again."""
        start = self.parent.artifact if self.parent else self.workspace.base.identity
        recipe = self.recipe.alone.model_dump(mode="json")
        return self.workspace.hidden / "runs" / content_hash([self.snapshot.data_hash, start, recipe])[:16]
