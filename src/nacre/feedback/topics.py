"""What people rate, by topic, so that the weak spots show."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nacre.data.strata import CLUSTERS

_MOST = 12
_ROWS_EACH = 8  # ratings that make one more topic worthwhile
_WORDS = 3
_SHOWN_CHARS = 80
_WORD = re.compile(r"[^\W\d_]{3,}|[\u4e00-\u9fff]{2}")


@dataclass(frozen=True)
class Topic:
    """Questions that are alike: how many were rated, how many of them badly, and how to know them.

    Attributes:
        words: what stands in these questions more often than in others.
        example: one question, a badly rated one where there is one.
    """

    number: int
    rated: int
    bad: int
    words: tuple[str, ...]
    example: str

    @property
    def share(self) -> float:
        """Share of bad ratings."""
        return self.bad / self.rated

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        fields = {name: getattr(self, name) for name in ("number", "rated", "bad", "example")}
        return fields | {"share_bad": round(self.share, 4), "words": list(self.words)}


def topics(ratings: Sequence[tuple[str, bool]], *, seed: int = 0) -> list[Topic]:
    """The topics of rated questions, the one with the most bad ratings first.

    Args:
        ratings: each question with whether its answer was called bad.
        seed: of the clusters.
    """
    if not ratings:
        return []
    labels = labels_of([question for question, _ in ratings], seed=seed)
    words = [set(_WORD.findall(question.casefold())) for question, _ in ratings]
    everywhere = Counter(word for some in words for word in some)
    found = []
    for number in sorted(set(labels)):
        places = [place for place, label in enumerate(labels) if label == number]
        here = Counter(word for place in places for word in words[place])
        telling = sorted(here, key=lambda word: (-(here[word] ** 2) / everywhere[word], word))
        example = next((ratings[place][0] for place in places if ratings[place][1]), ratings[places[0]][0])
        bad = sum(ratings[place][1] for place in places)
        shown = " ".join(example.split())
        short = shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}…"
        found.append(Topic(number, len(places), bad, tuple(telling[:_WORDS]), short))
    return sorted(found, key=lambda one: (-one.bad, -one.rated, one.number))


def labels_of(questions: Sequence[str], *, seed: int = 0) -> list[int]:
    """The topic of each question; the same for the same questions in any order."""
    count = min(_MOST, len(questions) // _ROWS_EACH)
    if count < 2 or len(set(questions)) <= count:
        return [0] * len(questions)
    return list(CLUSTERS.load("texts")(list(questions), count, seed))
