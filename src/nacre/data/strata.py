"""A small share of many rows that still shows every kind of them: a stratified reservoir.

Where only some past rows may be kept, chance alone forgets rare classes: with 15 rows for 14 classes some have none.
So rows are put into strata (a class for each short answer that comes back, clusters of similar texts for the rest),
each stratum keeps a floor of rows, and what is left of the budget goes to the strata in proportion to their sizes.

Inside a stratum the rows with the lowest hash of their content and the seed are kept (bottom-k sampling, Cohen and
Kaplan 2007): uniform, independent of the order of the rows, and a class that gets more rows keeps those it had.
"""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nacre.base.hashing import sha256_text
from nacre.base.plugins import Table
from nacre.records import Example

CLASS_CHARS = 64  # a longer answer is a text, not a class
CLASS_ROWS = 3  # an answer that fewer rows give is no class
MAX_CLUSTERS = 16
ROWS_PER_CLUSTER = 40
_TEXT_CHARS = 1_000

# scikit-learn takes a second to import, and most rows need no clusters.
CLUSTERS = Table("clusters", {"texts": "nacre.data.clusters:text_clusters"})


@dataclass(frozen=True)
class Chosen:
    """What a reservoir kept of one task.

    Attributes:
        rows: the kept rows, in the order in which they stood.
        classes, clusters: how many strata of either kind there were.
        raised: by how many rows the floor of the strata exceeds the budget; 0 where it fits.
    """

    rows: list[Example]
    classes: int
    clusters: int
    raised: int


def choose(rows: Sequence[Example], budget: int, *, floor: int, seed: int) -> Chosen:
    """Keep `budget` of `rows`, but at least `floor` of each class or cluster (or all it has).

    Args:
        rows: the rows of one task.
        budget: how many to keep; the floor comes first where it needs more.
        floor: rows that each class or cluster keeps at least, where it has so many.
        seed: of the choice inside a stratum and of the clusters.
    """
    strata = stratify(rows, clusters=clusters_for(budget, floor), seed=seed)
    sizes = [len(places) for places in strata.values()]
    counts = seats(sizes, budget, [min(floor, size) for size in sizes])
    kept: list[int] = []
    for places, count in zip(strata.values(), counts, strict=True):
        kept += sorted(places, key=lambda place: (sha256_text(f"{seed}/{rows[place].content_id}"), place))[:count]
    classes = sum(name.startswith("class") for name in strata)
    return Chosen([rows[place] for place in sorted(kept)], classes, len(strata) - classes, max(0, len(kept) - budget))


def clusters_for(budget: int, floor: int) -> int:
    """How many clusters a budget can hold: they are made by us, so they never force more rows than asked for."""
    return max(1, min(MAX_CLUSTERS, budget // max(floor, 1)))


def stratify(rows: Sequence[Example], *, clusters: int, seed: int) -> Mapping[str, list[int]]:
    """The places of `rows` by stratum: ``class …`` for each repeated short answer, ``cluster k`` for the other rows.

    At most `clusters` clusters, by k-means over hashed character n-grams of prompt and answer.
    """
    answers = Counter(row.answer.strip() for row in rows)
    strata: dict[str, list[int]] = {}
    others = []
    for place, row in enumerate(rows):
        answer = row.answer.strip()
        if answer and len(answer) <= CLASS_CHARS and answers[answer] >= CLASS_ROWS:
            strata.setdefault(f"class {answer}", []).append(place)
        else:
            others.append(place)
    for place, cluster in zip(others, _clusters([rows[place] for place in others], clusters, seed), strict=True):
        strata.setdefault(f"cluster {cluster}", []).append(place)
    return dict(sorted(strata.items()))


def seats(sizes: Sequence[int], budget: int, floors: Sequence[int]) -> list[int]:
    """How many of `budget` places each party of `sizes` gets: first its floor, then the next one by size.

    Sainte-Laguë's method: a place goes to the party with the largest size / (2 * places + 1); none gets more than
    it has, and a larger budget takes from nobody.
    """
    counts = [min(floor, size) for floor, size in zip(floors, sizes, strict=True)]
    queue = [(-size / (2 * count + 1), k) for k, (size, count) in enumerate(zip(sizes, counts, strict=True))]
    queue = [entry for entry in queue if counts[entry[1]] < sizes[entry[1]]]
    heapq.heapify(queue)
    for _ in range(budget - sum(counts)):
        if not queue:
            break
        _, k = heapq.heappop(queue)
        counts[k] += 1
        if counts[k] < sizes[k]:
            heapq.heappush(queue, (-sizes[k] / (2 * counts[k] + 1), k))
    return counts


def evenly(sizes: Sequence[int], budget: int) -> list[int]:
    """How many of `budget` places each task of `sizes` rows gets: all the same, at least one, none more than it has."""
    counts, left = [0] * len(sizes), budget
    for done, k in enumerate(sorted(range(len(sizes)), key=lambda k: sizes[k])):
        counts[k] = min(sizes[k], max(1, left // (len(sizes) - done)))
        left -= counts[k]
    return counts


def _clusters(rows: Sequence[Example], clusters: int, seed: int) -> list[int]:
    """The cluster of each row; the same for the same rows in any order."""
    count = min(clusters, len(rows) // ROWS_PER_CLUSTER)
    if count < 2:
        return [0] * len(rows)
    return list(CLUSTERS.load("texts")([_text(row) for row in rows], count, seed))


def _text(row: Example) -> str:
    return "\n".join(turn.content for turn in (*row.prompt, *row.answers[:1]))[:_TEXT_CHARS]
