"""From what people said to judged versions: harvest, then learn each increment that came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nacre.cycle.increment.evolution import Evolution
from nacre.cycle.increment.evolve import evolve
from nacre.cycle.increment.step import Promote
from nacre.cycle.rows.harvest import Harvested, NotEnough, NothingToLearn, harvest
from nacre.cycle.rows.sift import waiting
from nacre.cycle.workspace import Workspace

_WORST = (3, 4, 0)  # exit codes, the worst first


@dataclass(frozen=True)
class Learned:
    """What was harvested, where anything was, and the version of each increment."""

    harvested: Harvested | None
    learned: tuple[Evolution, ...]

    @property
    def exit_code(self) -> int:
        """3 where the gate refused one, 4 where it could not decide on one, else 0."""
        codes = {one.exit_code for one in self.learned}
        return next(code for code in _WORST if code in codes or not code)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "harvest": self.harvested.as_dict() if self.harvested else None,
            "evolutions": [one.as_dict() for one in self.learned],
        }


def from_feedback(
    workspace: Workspace,
    *,
    promote: Promote | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Learned:
    """Harvest, and learn every harvested increment that no version was trained on, the oldest first.

    A run that was killed while it trained is taken up by the next: what it harvested waits.

    Args:
        workspace: whose feedback.
        promote: see `evolve`.
        tell: is called with what is worth knowing before a training.

    Raises:
        NothingToLearn: there is no feedback to learn from, and nothing that was harvested waits.
        NotEnough: too few rows, and nothing was written.
    """
    harvested = None
    try:
        harvested = harvest(workspace)
    except (NothingToLearn, NotEnough) as error:
        if not waiting(workspace):
            raise
        tell(error.what)
    return Learned(harvested, tuple(evolve(workspace, name, promote=promote, tell=tell) for name in waiting(workspace)))
