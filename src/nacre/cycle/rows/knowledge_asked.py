"""For how many of the questions people ask a snapshot of the documents has a passage."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest

from nacre.base.errors import NacreError
from nacre.serve.knowledge.search import Searcher
from nacre.serve.knowledge.snapshots import Snapshot, Where


@dataclass(frozen=True)
class Answered:
    """Questions from one place, and for how many of them the documents hold a passage.

    Attributes:
        interval: of the share, at 95 % (Wilson).
        unanswered: the questions without one, the most frequent first, with how often each was asked.
    """

    source: str
    questions: int
    answered: int
    interval: tuple[float, float]
    unanswered: tuple[tuple[str, int], ...]

    @property
    def share(self) -> float:
        """Questions with a passage, of all."""
        return self.answered / self.questions

    def numbers(self) -> dict[str, Any]:
        """For the history: no words of the users'."""
        low, high = self.interval
        return {
            "source": self.source,
            "questions": self.questions,
            "answered": self.answered,
            "share": round(self.share, 4),
            "interval": [round(low, 4), round(high, 4)],
        }


def answered(searcher: Searcher, asked: Mapping[str, Sequence[str]]) -> tuple[Answered, ...]:
    """Look up questions, named by where they are from; a place without questions is left out."""
    return tuple(_answered(searcher, source, texts) for source, texts in asked.items() if texts)


def _answered(searcher: Searcher, source: str, questions: Sequence[str]) -> Answered:
    counts = Counter(questions)
    inside = {text: bool((hits := searcher.search(text, 1)) and hits.passages) for text in counts}
    answered = sum(count for text, count in counts.items() if inside[text])
    low, high = binomtest(answered, len(questions)).proportion_ci(method="wilson")
    outside = tuple((text, count) for text, count in counts.most_common() if not inside[text])
    return Answered(source, len(questions), answered, (float(low), float(high)), outside)


class Check:
    """Whether a new snapshot may take the place of another one: the same questions are looked up in both.

    It may where, of no place that questions are from, the share with a passage falls by more than `max_drop`. The
    questions are all there are, not a sample of them, so there is no interval about the difference.

    Args:
        where: the store.
        asked: questions, by where they are from.
        force: the new one may in any case.

    Attributes:
        before: what was answered from the snapshot in use.
        after: and from the new one; both empty while nothing was checked.
        lost: what the new one has no passage for any more, in a sentence; empty where it is no more than may be lost.
        blind: why nothing could be compared; empty where it was.
    """

    def __init__(self, where: Where, asked: Mapping[str, Sequence[str]], *, force: bool = False) -> None:
        self._where, self._asked, self._force = where, asked, force
        self.before: tuple[Answered, ...] = ()
        self.after: tuple[Answered, ...] = ()
        self.lost = ""
        self.blind = ""

    def __call__(self, before: Snapshot, new: Snapshot) -> str:
        """Why the new one must not be put to use, or nothing."""
        self.after = answered(Searcher(self._where, new.number), self._asked)
        if not self.after:
            self.blind = "nobody has asked anything yet, so no question was looked up in it"
            return ""
        try:
            self.before = answered(Searcher(self._where, before.number), self._asked)
        except (NacreError, OSError) as error:  # nobody is answered from it either: whatever can be searched is better
            self.blind = f"snapshot {before.number} cannot be searched, so nothing was compared with it: {error}"
            return ""
        most = self._where.settings.max_drop
        lost = [
            f"{now.answered} of {now.questions} questions of {now.source} have a passage in it, "
            f"{was.answered} of {was.questions} in snapshot {before.number}"
            for was, now in zip(self.before, self.after, strict=True)
            if was.answered - now.answered > most * was.questions
        ]
        self.lost = "; ".join(lost)
        return "" if self._force else self.lost

    def numbers(self) -> dict[str, Any]:
        """For the history."""
        found: dict[str, Any] = {}
        if self.after:
            found["asked"] = [one.numbers() for one in self.after]
        if self.before:
            found["asked_before"] = [one.numbers() for one in self.before]
        if self.lost and self._force:
            found["forced"] = self.lost
        return found
