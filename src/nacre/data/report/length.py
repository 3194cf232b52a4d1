"""Length of rows in characters and words, and in tokens where a tokenizer is given. A Chinese character is one word."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from nacre.base.errors import InputError
from nacre.data.chunks import token_spans
from nacre.data.report.records import Flag, Length, Lengths, Said
from nacre.data.report.sample import Look
from nacre.data.report.words import tokens

MOST_CUT = 0.01
_EXACT = 10_000  # longer lengths are rounded to three digits, so that there are never many different ones
_QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}

Unit = Literal["characters", "words", "tokens"]


class LengthCounts:
    """Rows by length.

    Args:
        tokenizer: a model folder, or its tokenizer.json.
        limit: the number of tokens that training cuts rows at.

    Raises:
        InputError: there is no such tokenizer, or a limit without one.
    """

    def __init__(self, tokenizer: Path | None = None, limit: int | None = None) -> None:
        self._measures: dict[Unit, Callable[[str], int]] = {"characters": len, "words": lambda text: len(tokens(text))}
        if tokenizer is not None:
            if not (tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer).is_file():
                fix = "name a model folder with a tokenizer.json"
                raise InputError("there is no such tokenizer", where=f"--tokenizer {tokenizer}", fix=fix)
            spans = token_spans(str(tokenizer))
            self._measures["tokens"] = lambda text: len(spans(text))
        elif limit is not None:
            fix = "add --tokenizer FOLDER, the base model's"
            raise InputError("a length in tokens needs a tokenizer", where="--max-length", fix=fix)
        self._limit = limit
        self._over = 0
        self._counts: dict[Unit, Counter[int]] = {unit: Counter() for unit in self._measures}
        self._sums: Counter[Unit] = Counter()

    def look(self, look: Look) -> None:
        """One more row."""
        for unit, measure in self._measures.items():
            length = measure(look.text)
            self._counts[unit][_rounded(length)] += 1
            self._sums[unit] += length
            self._over += unit == "tokens" and self._limit is not None and length > self._limit

    def result(self) -> Length:
        """Means, quantiles and bins of each unit."""
        units = tuple(self._of(unit, counts) for unit, counts in self._counts.items() if counts)
        return Length(units=units, limit=self._limit, over=self._over)

    def _of(self, unit: Unit, counts: Counter[int]) -> Lengths:
        total = counts.total()
        bins: Counter[int] = Counter()
        for length, rows in counts.items():
            bins[1 << max(0, length - 1).bit_length()] += rows
        low, high = min(bins), max(bins)
        bounds = [1 << k for k in range(low.bit_length() - 1, high.bit_length())]
        return Lengths(
            unit=unit,
            mean=round(self._sums[unit] / total, 1),
            quantiles={name: _quantile(counts, share) for name, share in _QUANTILES.items()},
            bins=tuple(bounds),
            rows=tuple(bins[bound] for bound in bounds),
        )


def _rounded(length: int) -> int:
    if length < _EXACT:
        return length
    unit = 10.0 ** (len(str(length)) - 3)
    return int(round(length / unit) * unit)


def _quantile(counts: Counter[int], share: float) -> int:
    wanted, below = max(1, math.ceil(share * counts.total())), 0  # nearest rank
    lengths = sorted(counts)
    for length in lengths:
        below += counts[length]
        if below >= wanted:
            return length
    return lengths[-1]


def flags(found: Length) -> list[Flag]:
    """Whether more than one row of a hundred will be cut."""
    tokens_ = next((unit for unit in found.units if unit.unit == "tokens"), None)
    rows = sum(tokens_.rows) if tokens_ else 0
    if found.limit is None or not rows or found.over <= MOST_CUT * rows:
        return []
    said = Said(
        en=f"{found.over:,} of {rows:,} rows are longer than {found.limit:,} tokens and will be cut.",
        zh=f"{rows:,} 行中有 {found.over:,} 行超过 {found.limit:,} 个词元，训练时会被截断。",
    )
    advice = Said(
        en="Raise train.max_length, shorten the rows, or cut plain texts into pieces (nacre data chunk).",
        zh="请提高 train.max_length、缩短这些行，或把纯文本切块（nacre data chunk）。",
    )
    return [Flag(measure="length", level="flag", found=said, advice=advice)]
