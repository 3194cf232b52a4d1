"""What a metric is given and what it answers with."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Scored:
    """One task's dev rows as one model answered them; every list has one entry per row, in order.

    Attributes:
        answers: what the model said; empty strings where nothing was generated.
        references: what should have been said.
        losses: (negative log-likelihood in nats, number of tokens) of the reference under the model.
        pairs: what the model thinks of the chosen and of the rejected answer; none where the rows are no pairs.
        wanted: whether the reference is to be imitated; none where every one is.
        tokens: of the answers, as the model counts them; none where that is not known.
        every_reference: those of all dev rows, where only some of them were answered.
        verdicts: what a judge or people gave the answers, from 0 to 1; none where nobody was asked.
        ranks: of two encoders the places of the right caption and of the right picture, from 1; else none.
    """

    answers: Sequence[str]
    references: Sequence[str]
    losses: Sequence[tuple[float, int]]
    pairs: Sequence[tuple[float, float]] = ()
    wanted: Sequence[bool] = ()
    tokens: Sequence[int] = ()
    every_reference: Sequence[str] = ()
    verdicts: Sequence[float] = ()
    ranks: Sequence[tuple[int, int]] = ()

    @property
    def task_references(self) -> Sequence[str]:
        """The references of the whole task: what is decided from them is the same for some of its rows."""
        return self.every_reference or self.references


class Metric(ABC):
    """A score per example.

    Attributes:
        definition: one sentence that is printed beside the number.
        reads: `answers` needs generated text, `losses` does not, and so works on plain text too; `pairs` needs
            preference pairs, `judgements` answers that were judged good or bad, `verdicts` the opinion of a judge,
            `ranks` a model of two encoders.
        gate: whether the gate may read it: in [0, 1], higher is better, 1 for the reference itself.
    """

    definition: ClassVar[str]
    reads: ClassVar[Literal["answers", "losses", "pairs", "judgements", "verdicts", "ranks"]] = "answers"
    gate: ClassVar[bool] = True

    @abstractmethod
    def measure(self, scored: Scored) -> list[float]:
        """One finite score per row."""

    def applies(self, scored: Scored) -> bool:
        """Whether the metric means something for these rows; where it does not it is left out."""
        return True

    def total(self, scored: Scored) -> float | None:
        """The score of all rows together, where that is not the mean of `measure`; else None."""
        return None

    def note(self, scored: Scored) -> str:
        """What was decided from the data, in one sentence; empty when nothing was."""
        return ""
