"""What is to be trained, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nacre.records import Example, Federated, Recipe, Weights

MARKER = "nacre-checkpoint.json"  # in a checkpoint that is whole: the list of its files


@dataclass(frozen=True)
class Job:
    """What to train.

    Attributes:
        start: the weights that training starts from.
        previous: the version whose abilities are to be kept (usually the same).
        recipe: tuner, optimiser and protections.
        new: the increment's rows.
        dev: the increment's held-out rows: looked at while training, never trained on.
        memory: rows of each past task, oldest first.
        work: folder for checkpoints and the result; a run that was killed goes on from here.
        shared: folder for files that outlive the run (importance, generic text).
        general: the user's own generic text, if there is any.
        max_drop: what each past task may lose, in its score; empty: nothing is watched while training.
        base: identity of the base model below all versions, where it is known.
        learned: earlier increments taught something, even where none of their rows was kept.
        share: of the old rows, that may be kept.
        task: name of the task that the new rows teach.
        weak: past tasks by how much of their score the last report saw lost, for protections that look there first.
    """

    start: Weights
    recipe: Recipe
    new: Sequence[Example]
    work: Path
    shared: Path
    dev: Sequence[Example] = ()
    memory: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    previous: Weights | None = None
    general: Path | None = None
    max_drop: Mapping[str, float] = field(default_factory=dict)
    weak: Mapping[str, float] = field(default_factory=dict)
    base: str = ""
    learned: bool = False
    share: float = 1.0
    task: str = ""

    @property
    def past(self) -> bool:
        """Whether there are old abilities beside those of the base model."""
        return self.learned or bool(self.memory)

    @property
    def has_rows(self) -> bool:
        """Whether rows of past tasks are there."""
        return any(self.memory.values())

    @property
    def keeps(self) -> Weights:
        """The version whose abilities are to be kept."""
        return self.previous or self.start


@dataclass(frozen=True)
class Trained:
    """What came out. `folder` holds weights, tokenizer, log and loss curve, ready to be published.

    Attributes:
        drift: mean KL divergence in nats per token between the version that was to be kept and this one, on new
            rows' answers; it predicts forgetting (Shenfeld et al. 2025, arXiv 2509.04259).
        findings: what a look at the curves suggests, in sentences.
        below: the model that the result sits on, where the run made it: with a token for each of the recipe's terms.
        federated: what came of each round, where parties trained it together.
    """

    folder: Path
    kind: str
    recipe: Recipe
    steps: int
    seconds: float
    peak_rss_bytes: int
    final_loss: float
    notes: tuple[str, ...]
    drift: float | None = None
    findings: tuple[str, ...] = ()
    below: Weights | None = None
    federated: Federated | None = None
