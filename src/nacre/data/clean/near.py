"""Near duplicates: records most of whose text an earlier record has too.

Similar means a Jaccard coefficient of the sets of 5-character pieces of at least `threshold`. Candidates come from
MinHash (Broder 1997) by rensa in bands (Indyk and Motwani 1998): 20 bands of 6 values find a pair at 0.8 with a
probability of 0.998; for other thresholds the bands are narrower or wider. Texts made from few words share bands with
hundreds of others, so a candidate must also have about as many values of its sketch in common as a similar text has (a
pair at the threshold is passed over once in 30,000 times). What is left is compared exactly, so that nothing below the
threshold is ever merged.

Cost: 40 to 60 microseconds a record. Memory: about 2 kB a record, for the bands; the texts to compare with wait in a
temporary file.
"""

import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rensa import RMinHash

from nacre.base.config import Settings
from nacre.data.clean.base import Cleaner, record_text, verdict_of

PIECE_CHARS = 5
_VALUES = 120
_MISSED = 0.005  # of the pairs at the threshold, by the bands
_SEED = 1
_SPREADS = 4  # standard deviations by which fewer values than expected may agree
_FIRST_ROWS = 256
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
    remembers: ClassVar[bool] = True
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

    def close(self) -> None:
        """Close the indexes."""
        for index in self._indexes.values():
            index.close()


class NearIndex:
    """Texts that can be asked whether one of them is like a given text. Closed by whoever made it.

    Args:
        threshold: Jaccard coefficient from which two texts are alike.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        # of so many values of a sketch the share that agrees is as large as the Jaccard coefficient, more or less
        spread = (threshold * (1 - threshold) * _VALUES) ** 0.5
        self._least_alike = int(threshold * _VALUES - _SPREADS * spread)
        rows = band_rows(threshold)
        self._bands: tuple[dict[int, int | list[int]], ...] = tuple({} for _ in range(_VALUES // rows))
        self._band_bytes = Struct(f"{4 * rows}s" * len(self._bands))
        self._marks = np.empty((_FIRST_ROWS, _VALUES), np.uint8)  # a byte of each value of each text's sketch
        self._texts: IO[bytes] | None = None  # made when there is something to keep
        self._moved = False  # away from the end of the file
        self._ends = array("Q", [0])

    def __enter__(self) -> "NearIndex":
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the temporary file go. A closed index is asked nothing more."""
        if self._texts is not None:
            self._texts.close()

    def match(self, text: str) -> float:
        """The first similarity found at or above the threshold; 0 where no text is like this one."""
        hashes = piece_hashes(text)
        return self._match(hashes, sketch(hashes)) if len(hashes) else 0.0

    def add(self, text: str) -> None:
        """Put a text in. Texts shorter than a piece are like nothing."""
        hashes = piece_hashes(text)
        if len(hashes):
            self._add(text, sketch(hashes))

    def match_or_add(self, text: str) -> float:
        """As `match`; a text that is like no other is put in."""
        hashes = piece_hashes(text)
        if not len(hashes):
            return 0.0
        values = sketch(hashes)
        similar = self._match(hashes, values)
        if not similar:
            self._add(text, values)
        return similar

    def _match(self, hashes: Hashes, values: bytes) -> float:
        found: set[int] = set()
        for band, key in zip(self._bands, self._keys(values), strict=True):
            held = band.get(key)
            if held is None:
                continue
            if isinstance(held, int):
                found.add(held)
            else:
                found.update(held)
        if not found:
            return 0.0
        numbers = np.fromiter(found, np.intp, len(found))
        alike = np.count_nonzero(self._marks[numbers] == _marks(values), axis=1)
        likely = numbers[alike >= self._least_alike].tolist()
        mine = distinct(hashes) if likely else hashes
        for number in sorted(likely):
            similar = jaccard(mine, distinct(piece_hashes(self._read(number))))
            if similar >= self._threshold:
                return similar
        return 0.0

    def _add(self, text: str, values: bytes) -> None:
        number = len(self._ends) - 1
        if number == len(self._marks):
            self._marks = np.concatenate((self._marks, np.empty_like(self._marks)))
        self._marks[number] = _marks(values)
        data = text.encode("utf-8", "surrogatepass")
        if self._texts is None:
            self._texts = tempfile.TemporaryFile(prefix="nacre-near-")  # noqa: SIM115 (closed by `close`)
        if self._moved:  # every seek would write what is in the buffer
            self._texts.seek(0, 2)
            self._moved = False
        self._texts.write(data)
        self._ends.append(self._ends[-1] + len(data))
        for band, key in zip(self._bands, self._keys(values), strict=True):
            held = band.setdefault(key, number)
            if isinstance(held, list):
                if len(held) < _MAX_BUCKET:
                    held.append(number)
            elif held != number:
                band[key] = [held, number]

    def _keys(self, values: bytes) -> Iterator[int]:
        """The keys under which a text is found: one a band."""
        return map(hash, self._band_bytes.unpack_from(values))

    def _read(self, number: int) -> str:
        assert self._texts is not None
        self._texts.seek(self._ends[number])
        self._moved = True
        return self._texts.read(self._ends[number + 1] - self._ends[number]).decode("utf-8", "surrogatepass")


def band_rows(threshold: float) -> int:
    """How many values make a band: as many as miss few enough of the pairs at the threshold."""
    found = (rows for rows in range(12, 1, -1) if (1 - threshold**rows) ** (_VALUES // rows) <= _MISSED)
    return next(found, 1)


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
    return hashes


def sketch(hashes: Hashes) -> bytes:
    """The MinHash values of a text, four bytes each, band by band."""
    made = RMinHash.digest_matrix_from_flat_token_hashes(hashes, [0, len(hashes)], _VALUES, _SEED)
    return array("I", made.to_rows()[0]).tobytes()


def _marks(values: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(values, np.uint8)[::4]


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
