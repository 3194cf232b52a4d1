"""Which rows are like which: exactly, with nothing missed, for splits that must not leak.

Two texts are alike where they are equal but for white space and case, or where the sets of their 5-character pieces
have a Jaccard coefficient of at least the threshold. Pairs are found by prefix filtering (Chaudhuri et al. 2006, "A
Primitive Operator for Similarity Joins in Data Cleaning"; Bayardo et al. 2007): of two such sets ordered alike, rarest
piece first, the first |x| - ceil(t |x|) + 1 pieces of each must share one. No pair above the threshold is missed,
which the sketches of `clean.near` cannot promise.

Cost: what all texts share is looked at last, and groups that are known to be one are not compared again.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from nacre.data.clean.near import Hashes, distinct, jaccard, piece_hashes

_ROUNDING = 1e-9


def plain(text: str) -> str:
    """A text as it is compared for equality: white space and case do not count."""
    return " ".join(text.split()).casefold()


class Sets:
    """Which members belong together: disjoint sets with path halving."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def root(self, member: int) -> int:
        """The member that stands for the set."""
        above = self._above
        while above[member] != member:
            above[member] = above[above[member]]
            member = above[member]
        return member

    def join(self, one: int, other: int) -> None:
        """Make two sets one; the smaller number stands for it."""
        first, second = sorted((self.root(one), self.root(other)))
        self._above[second] = first

    def join_equal(self, keys: Sequence[Hashable]) -> None:
        """Put the members with equal keys into one set; None is no key."""
        held: dict[Hashable, int] = {}
        for member, key in enumerate(keys):
            if key is not None:
                self.join(member, held.setdefault(key, member))


class Likeness:
    """Texts by their pieces, in the order of how rare each piece is among them.

    Args:
        texts: all that will be compared.
        threshold: Jaccard coefficient from which two texts are alike; above 1 only equal texts are.
    """

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._threshold = threshold
        self._equal = [plain(text) for text in texts]
        # one copy of equal texts, and none at all where only equality counts
        self._sets: list[Hashes] = [distinct_pieces(text if threshold <= 1 else "") for text in texts]
        often = Counter(piece for pieces in self._sets for piece in pieces.tolist())
        self._prefixes = [self._prefix(pieces, often) for pieces in self._sets]

    def _prefix(self, pieces: Hashes, often: Counter[int]) -> list[int]:
        held = pieces.tolist()
        count = len(held) - math.ceil(self._threshold * len(held) - _ROUNDING) + 1
        return sorted(held, key=lambda piece: (often[piece], piece))[:count] if held else []

    def alike(self, one: int, other: int) -> bool:
        """Whether two of the texts are alike."""
        if self._equal[one] == self._equal[other]:
            return True
        first, second = self._sets[one], self._sets[other]
        small, large = sorted((len(first), len(second)))
        if not small or small < self._threshold * large - _ROUNDING:
            return False
        return jaccard(first, second) >= self._threshold - _ROUNDING

    def join(self, sets: Sets, count: int) -> None:
        """Put every two of the first `count` texts that are alike into one set."""
        equal: dict[str, int] = {}
        held: dict[int, dict[int, list[int]]] = {}  # a piece, the sets it stands in, their texts
        for number in range(count):
            sets.join(number, equal.setdefault(self._equal[number], number))
            for piece in self._prefixes[number]:
                groups = held.setdefault(piece, {})
                for root in list(groups):
                    now = sets.root(root)
                    if now != root:
                        groups.setdefault(now, []).extend(groups.pop(root))
                for root, members in list(groups.items()):
                    if sets.root(number) != sets.root(root) and any(self.alike(number, one) for one in members):
                        sets.join(number, root)
                groups.setdefault(sets.root(number), []).append(number)

    def like_any(self, asked: Iterable[int], others: Iterable[int]) -> dict[int, int]:
        """Of `asked` those that are like one of `others`, each with the first such one."""
        equal: dict[str, int] = {}
        held: dict[int, list[int]] = {}
        for number in others:
            equal.setdefault(self._equal[number], number)
            for piece in self._prefixes[number]:
                held.setdefault(piece, []).append(number)
        found: dict[int, int] = {}
        for number in asked:
            if (same := equal.get(self._equal[number])) is not None:
                found[number] = same
                continue
            candidates = sorted({one for piece in self._prefixes[number] for one in held.get(piece, ())})
            like = next((one for one in candidates if self.alike(number, one)), None)
            if like is not None:
                found[number] = like
        return found


def distinct_pieces(text: str) -> Hashes:
    """The set of a text's pieces, sorted."""
    hashes = piece_hashes(text)
    return distinct(hashes) if len(hashes) else hashes
