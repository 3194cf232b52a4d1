"""What people can say about an answer, one file a signal, and what each becomes. Importing this imports nothing.

The values themselves are checked by `nacre.records.Feedback`, which every door (API, importers) goes through.
"""

from dataclasses import dataclass
from typing import Protocol

from nacre.base.plugins import Table
from nacre.records import Feedback, Interaction

SIGNALS = Table(
    "signal",
    {
        "stars": "nacre.feedback.signals.stars:Stars",
        "thumb": "nacre.feedback.signals.thumb:Thumb",
        "score": "nacre.feedback.signals.score:Score",
        "comment": "nacre.feedback.signals.comment:Comment",
        "correction": "nacre.feedback.signals.correction:Correction",
        "pair": "nacre.feedback.signals.pair:Pair",
    },
)


@dataclass(frozen=True)
class Answer:
    """The text to be learned as the answer to an interaction.

    Attributes:
        text: the answer.
        rank: where several opinions name an answer to one prompt, the highest rank counts.
    """

    text: str
    rank: int


@dataclass(frozen=True)
class LeftOut:
    """This opinion teaches no answer, and why."""

    reason: str


class Signal(Protocol):
    """One kind of opinion."""

    def answer(self, interaction: Interaction, said: Feedback) -> Answer | LeftOut:
        """The answer to learn from this opinion, or why there is none."""
