"""Texts that say the same over and over, as a generator does that has lost its way.

The measure is the share of n-grams (of words; of characters in writing without spaces) that stood before in the same
text, as in the Gopher rules (Rae et al. 2021, arXiv 2112.11446, table A1) with one n for all.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from nacre.base.config import Settings
from nacre.data.clean.base import Cleaner

_PROBES, _PROBE_CHARS = 16, 16
_UNSPACED_CHARS = 8  # a text with fewer spaces than one in so many characters is read by characters


class RepetitionConfig(Settings):
    """Settings of the step `repetition`."""

    max_share: float = Field(0.5, gt=0, lt=1, description="records with a larger share of repeated n-grams are dropped")
    words: int = Field(4, ge=2, le=10, description="length of an n-gram; twice as many where it is of characters")
    min_units: int = Field(40, ge=1, description="texts with fewer words (or characters) are not judged")


class Repetition(Cleaner):
    """Drops records with a text that mostly repeats itself."""

    does: ClassVar[str] = "drops records in which most n-grams of a text repeat earlier ones"
    default: ClassVar[bool] = False
    Config = RepetitionConfig

    def __init__(self, config: RepetitionConfig) -> None:
        super().__init__(config)
        self._settings = config

    def refuse(self, texts: Sequence[str], record: Mapping[str, Any]) -> str:
        """Whether a text repeats itself too much."""
        settings = self._settings
        for text in texts:
            if len(text) < settings.min_units or not may_repeat(text, settings.max_share):
                continue
            units: Sequence[str] = text.split()
            length = settings.words
            if len(units) * _UNSPACED_CHARS < len(text):
                units, length = text, 2 * settings.words
            if len(units) < max(settings.min_units, length):
                continue
            share = repeated_share(units, length)
            if share > settings.max_share:
                return f"{share:.0%} of a text repeats what stood before in it"
        return ""


def may_repeat(text: str, share: float) -> bool:
    """Whether enough of some pieces, taken at even distances, stand later in the text again.

    A text of which `share` repeats is passed over with a probability of 1 in 170 (at a share of a half), for a
    twentieth of the cost of counting all n-grams.
    """
    chars = _PROBE_CHARS if text.isascii() else _PROBE_CHARS // 2
    starts = range(0, len(text) - chars, max(1, (len(text) - chars) // _PROBES))
    find = text.find
    found = [start for start in starts[: _PROBES // 2] if find(text[start : start + chars], start + 1) >= 0]
    if found:
        found += [start for start in starts[_PROBES // 2 :] if find(text[start : start + chars], start + 1) >= 0]
    return len(found) >= _PROBES * share * 3 / 8


def repeated_share(units: Sequence[str], length: int) -> float:
    """Share of the n-grams that stood before."""
    count = len(units) - length + 1
    if isinstance(units, str):
        return 1 - len({units[place : place + length] for place in range(count)}) / count if count > 0 else 0.0
    return 1 - len(set(zip(*(units[place:] for place in range(length)), strict=False))) / count if count > 0 else 0.0
