"""What people are asked about answers, and what they say."""

from typing import Literal

from nacre.records.base import Record
from nacre.records.recipe import Decoding

Kind = Literal["pair", "single"]
Status = Literal["open", "answered", "equal"]

PAIR_CHOICES = ("left", "right", "tie", "skip")
SINGLE_CHOICES = ("1", "2", "3", "4", "5", "skip")
SKIP = "skip"


class Opinion(Record):
    """What one person chose for one item: one of the item's `choices`."""

    rater: str
    choice: str
    time: str


class ReviewItem(Record):
    """One row's answer, or two versions' answers to it, and what people said about them.

    Attributes:
        id: given by the ledger; 0 before.
        queue: what it belongs to.
        kind: `pair` to prefer one of two, `single` to rate one from 1 to 5.
        task, dev, place: the row: the task, the SHA-256 of its dev rows, its place among them.
        question, reference: of the row.
        left, right: the answers as they are shown; `right` is empty for a single one.
        turned: whether the first of `versions` stands on the right; no rater is told.
        versions: numbers of the version asked about, or of the old and the new one; 0 is the base model.
        weights: their identities, in that order.
        decoding: how the answers were generated.
        raters: how many people are to answer it.
        status: `equal` where both answers are the same text, which nobody is asked about.
        opinions: one for each rater.
    """

    id: int = 0
    queue: str
    kind: Kind
    task: str
    dev: str
    place: int
    question: str
    reference: str
    left: str
    right: str = ""
    turned: bool = False
    versions: tuple[int, ...]
    weights: tuple[str, ...]
    decoding: Decoding
    raters: int = 1
    status: Status = "open"
    opinions: tuple[Opinion, ...] = ()
    created: str

    @property
    def choices(self) -> tuple[str, ...]:
        """What may be chosen."""
        return PAIR_CHOICES if self.kind == "pair" else SINGLE_CHOICES

    @property
    def counted(self) -> tuple[Opinion, ...]:
        """The opinions that say something."""
        return tuple(opinion for opinion in self.opinions if opinion.choice != SKIP)

    @property
    def scores(self) -> tuple[float, ...] | None:
        """What people gave each version's answer, 0 to 1, the mean over them; None where nobody said anything."""
        if self.status == "equal":
            return 0.5, 0.5
        values = [self._value(opinion.choice) for opinion in self.counted]
        if not values:
            return None
        mean = sum(values) / len(values)
        return (1 - mean, mean) if self.kind == "pair" else (mean,)

    def preferred(self, choice: str) -> int | None:
        """The place among `versions` of the answer that a choice prefers; None for a tie."""
        return None if choice == "tie" else int((choice == "left") == self.turned)

    def _value(self, choice: str) -> float:
        """What a choice gives the last of `versions`."""
        if self.kind == "single":
            return (int(choice) - 1) / 4
        preferred = self.preferred(choice)
        return 0.5 if preferred is None else float(preferred)
