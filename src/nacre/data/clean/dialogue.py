"""Low-quality dialogue: records whose sentences are, on average, hardly sentences.

The measure is the mean length of a sentence over all texts of a record. A Chinese character counts as five eighths
of a word: running Chinese has about 1.6 characters a word, so five words are eight characters.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from nacre.base.config import Settings
from nacre.data.clean.base import Cleaner, record_text

_END = re.compile(r"[.!?…]+(?=\s|$)|[。！？；\n]+")
_HAN = re.compile("[\u4000-\u9fff]")
_HAN_LEADS = b"\xe4\xe5\xe6\xe7\xe8\xe9"  # U+4000 to U+9FFF
_WIDE_ENDS = tuple(mark.encode() for mark in "。！？；…")
_HAN_WORD = 5 / 8


class DialogueConfig(Settings):
    """Settings of the step `dialogue`."""

    min_words: float = Field(5, gt=0, description="records whose mean sentence is shorter are dropped")


class Dialogue(Cleaner):
    """Drops records of very short sentences: greetings, single words, noise. Off by default: labels are short too."""

    does: ClassVar[str] = "drops records whose mean sentence is under five words (eight Chinese characters)"
    default: ClassVar[bool] = False
    Config = DialogueConfig

    def __init__(self, config: DialogueConfig) -> None:
        super().__init__(config)
        self._least = config.min_words

    def refuse(self, texts: Sequence[str], record: Mapping[str, Any]) -> str:
        """Whether the mean sentence is too short."""
        text = record_text(texts)
        data = text.encode("utf-8", "surrogatepass")
        han = _han(data) if len(data) != len(text) else 0
        ends = len(data) - len(data.translate(None, b".!?\n")) + 1
        ends += sum(data.count(mark) for mark in _WIDE_ENDS) if len(data) != len(text) else 0
        # at least so many words, even if every mark ended a sentence; where no space follows another, words and ends
        # together are no fewer than spaces
        words = han * _HAN_WORD if han else data.count(b" ") - ends if b"  " not in data else 0
        if words >= self._least * ends:
            return ""
        mean = mean_sentence(text)
        return f"the mean sentence has {mean:.1f} words, fewer than {self._least:g}" if mean < self._least else ""


def mean_sentence(text: str) -> float:
    """Words a sentence; 0 for a text without words."""
    sentences = [words for part in _END.split(text) if (words := _words(part))]
    return sum(sentences) / len(sentences) if sentences else 0.0


def _words(part: str) -> float:
    han = 0 if part.isascii() else _han(part.encode("utf-8", "surrogatepass"))
    return han * _HAN_WORD + len(_HAN.sub(" ", part).split()) if han else len(part.split())


def _han(data: bytes) -> int:
    """Chinese characters in UTF-8: each is the one of three bytes that begins it."""
    return len(data) - len(data.translate(None, _HAN_LEADS))
