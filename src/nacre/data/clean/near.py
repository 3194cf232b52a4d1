"""Near duplicates: records most of whose text an earlier record has too.

Similar means a Jaccard coefficient of the sets of 5-character pieces of at least `threshold`. Candidates come from
MinHash (Broder 1997) by rensa in bands (Indyk and Motwani 1998): 20 bands of 6 values find a pair at 0.8 with a
probability of 0.998. Every candidate is then compared exactly, so that nothing below the threshold is ever merged.

Cost: 30 to 40 microseconds a record. Memory: about 2 kB a record, for the bands; the texts to compare with wait in a
temporary file.
"""

import tempfile
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rensa import RMinHash

from nacre.base.config import Settings
from nacre.data.clean.base import Cleaner, record_text, verdict_of

PIECE_CHARS = 5
_BANDS, _ROWS = 20, 6
_SEED = 1
_MAX_BUCKET = 64  # records a band remembers under one value; a template shared by thousands needs no more
# odd, with about as many ones as zeros: each character of a piece moves all bits of its hash
_FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))
_SHIFT = np.uint64(31)

Hashes = NDArray[np.uint64]


class NearConfig(Settings):
    """Settings of the step `near`."""

    threshold: float = Field(
        0.8, ge=0.5, le=1, description="Jaccard coefficient from which records are near duplicates"
    )


class Near(Cleaner):
    """Keeps the first of similar records. Off by default: rows made from one template are similar on purpose."""

    does: ClassVar[str] = "drops records of which an earlier one has most of the text (MinHash, then compared exactly)"
    default: ClassVar[bool] = False
    Config = NearConfig

    def __init__(self, config: NearConfig) -> None:
        super().__init__(config)
        self._threshold = config.threshold
        self._indexes: dict[bool | None, NearIndex] = {}  # what is judged differently is no duplicate

    def refuse(self, texts: Sequence[str], record: Mapping[str, Any]) -> str:
        """Whether an earlier record is like this one."""
        verdict = verdict_of(record)
        index = self._indexes.get(verdict)
        if index is None:
            index = self._indexes[verdict] = NearIndex(self._threshold)
        similar = index.match_or_add(record_text(texts))
        return f"is {similar:.0%} like an earlier record" if similar else ""


class NearIndex:
    """Texts that can be asked whether one of them is like a given text.

    Args:
        threshold: Jaccard coefficient from which two texts are alike.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._bands: tuple[dict[int, int | list[int]], ...] = tuple({} for _ in range(_BANDS))
        self._texts = tempfile.TemporaryFile(prefix="nacre-near-")  # noqa: SIM115 (closed with the index, by its object)
        self._ends = array("Q", [0])

    def match(self, text: str) -> float:
        """The first similarity found at or above the threshold; 0 where no text is like this one."""
        hashes = piece_hashes(text)
        return self._match(hashes, band_keys(hashes)) if len(hashes) else 0.0

    def add(self, text: str) -> None:
        """Put a text in. Texts shorter than a piece are like nothing."""
        hashes = piece_hashes(text)
        if len(hashes):
            self._add(text, band_keys(hashes))

    def match_or_add(self, text: str) -> float:
        """As `match`; a text that is like no other is put in."""
        hashes = piece_hashes(text)
        if not len(hashes):
            return 0.0
        keys = band_keys(hashes)
        similar = self._match(hashes, keys)
        if not similar:
            self._add(text, keys)
        return similar

    def _match(self, hashes: Hashes, keys: Sequence[int]) -> float:
        asked: set[int] = set()
        mine: Hashes | None = None
        for band, key in zip(self._bands, keys, strict=True):
            held = band.get(key)
            if held is None:
                continue
            for number in (held,) if isinstance(held, int) else held:
                if number in asked:
                    continue
                asked.add(number)
                mine = distinct(hashes) if mine is None else mine
                similar = jaccard(mine, distinct(piece_hashes(self._read(number))))
                if similar >= self._threshold:
                    return similar
        return 0.0

    def _add(self, text: str, keys: Sequence[int]) -> None:
        number = len(self._ends) - 1
        data = text.encode("utf-8", "surrogatepass")
        self._texts.seek(0, 2)
        self._texts.write(data)
        self._ends.append(self._ends[-1] + len(data))
        for band, key in zip(self._bands, keys, strict=True):
            held = band.setdefault(key, number)
            if isinstance(held, list):
                if len(held) < _MAX_BUCKET:
                    held.append(number)
            elif held != number:
                band[key] = [held, number]

    def _read(self, number: int) -> str:
        self._texts.seek(self._ends[number])
        return self._texts.read(self._ends[number + 1] - self._ends[number]).decode("utf-8", "surrogatepass")


def piece_hashes(text: str) -> Hashes:
    """A 64-bit hash for each piece of five characters of the text, in order, with repetitions."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    count = len(codes) - PIECE_CHARS + 1
    if count <= 0:
        return codes[:0]
    pairs = codes[:-1] * _FACTORS[0]
    pairs += codes[1:]
    hashes = pairs[: count + 1] * _FACTORS[1]
    hashes += pairs[2:]
    hashes = hashes[:count] * _FACTORS[2]
    hashes += codes[PIECE_CHARS - 1 :]
    hashes ^= hashes >> _SHIFT
    hashes *= _FACTORS[1]
    hashes ^= hashes >> _SHIFT
    return hashes


def band_keys(hashes: Hashes) -> list[int]:
    """The keys under which a text is found: one a band, each made of the band's MinHash values."""
    sketch = RMinHash.digest_matrix_from_flat_token_hashes(hashes, [0, len(hashes)], _BANDS * _ROWS, _SEED).to_rows()[0]
    return [hash(tuple(sketch[start : start + _ROWS])) for start in range(0, _BANDS * _ROWS, _ROWS)]


def distinct(hashes: Hashes) -> Hashes:
    """The same hashes sorted, each once."""
    ordered = np.sort(hashes)
    return ordered[np.concatenate(((True,), ordered[1:] != ordered[:-1]))]


def jaccard(first: Hashes, second: Hashes) -> float:
    """Shared members over all members of two sets, given as sorted arrays without repetitions."""
    both = np.concatenate((first, second))
    both.sort(kind="stable")
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared) if len(both) else 0.0
