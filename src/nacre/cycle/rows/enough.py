"""Whether rows that people made are enough for the gate to see what it is there for."""

import math
from dataclasses import dataclass, replace
from typing import Any

from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.workspace import Workspace
from nacre.data.snapshot import MAX_DEV_ROWS, MIN_SPLIT_ROWS
from nacre.gate.budget import ASSUMED_PSI, LARGEST, Ability


@dataclass(frozen=True)
class Enough:
    """What an increment's own dev rows could show.

    Attributes:
        rows, dev: all rows, and those among them that prove it.
        smallest: the smallest loss of the score that the gate can see on so many, from 0 to 1.
        margin: the loss that must be seen.
        wanted: about how many rows that takes.
    """

    rows: int
    dev: int
    smallest: float
    margin: float
    wanted: int

    @property
    def holds(self) -> bool:
        """Whether the margin can be seen."""
        return self.smallest <= self.margin

    def __str__(self) -> str:
        rows = f"{self.rows} row{'' if self.rows == 1 else 's'}, {self.dev} of them to prove it"
        points = f"{100 * self.smallest:.3g} points of 100 ({100 * self.margin:g} are asked for)"
        return f"{rows}: the gate could not see a loss of less than {points}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        numbers = {"rows": self.rows, "dev": self.dev, "wanted": self.wanted}
        return numbers | {"smallest": round(self.smallest, 4), "margin": self.margin, "enough": self.holds}


def enough(workspace: Workspace, name: str, rows: int, dev: int) -> Enough:
    """What the dev rows of a new increment can show, by the gate's own statistics.

    How many answers a later training will change is not known: a tenth is assumed, as `nacre evolve` does for a task
    that was never judged. The margin is the one of `keep`; for `auto` the widest that it may become.

    Args:
        workspace: its settings, and how many tasks are judged together.
        name: the increment's.
        rows, dev: all its rows, and those of its dev set.
    """
    settings = workspace.settings
    champion = workspace.ledger.slot("champion")
    known = len(devs(tasks_of(ancestry(workspace, champion.version if champion else None))))
    chosen = settings.keep.tasks.get(name, settings.keep.max_drop)
    margin = LARGEST if chosen == "auto" else chosen
    able = Ability(dev, ASSUMED_PSI, True, settings.gate, known + 1)
    smallest = able.smallest if dev >= 2 else 1.0
    needed = able.rows_for(margin) if margin > 0 and smallest > margin else dev
    while dev < needed <= MAX_DEV_ROWS and replace(able, rows=needed).smallest > margin:  # `rows_for` says about
        needed += max(1, needed // 50)
    share = settings.data.dev_share
    wanted = max(math.ceil(needed / share), MIN_SPLIT_ROWS) if needed <= MAX_DEV_ROWS else 0
    return Enough(rows, dev, smallest, margin, wanted if smallest > margin else rows)
