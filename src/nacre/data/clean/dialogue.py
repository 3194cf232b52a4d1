"""Low-quality dialogue: records whose sentences are, on average, hardly sentences.

The measure is the mean length of a sentence over all texts of a record. Scripts that put no space between words, or
put it around more than a word, are counted by characters, each as a part of an English word: a Chinese character is
five eighths (running Chinese has about 1.6 characters a word, so five words are eight characters), a Japanese kana
three eighths, a Korean syllable one half. Measured on article 1 of the Universal Declaration of Human Rights in the
translations of the United Nations, its 30 English words are 66 syllables (20 Korean words), which makes 0.45, and 25
kanji with 52 kana, which makes 0.28 a kana; everyday Japanese has fewer kanji, and a sentence is rather kept.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from nacre.base.config import Settings
from nacre.data.clean.base import Cleaner, record_text

_END = re.compile(r"[.!?…]+(?=\s|$)|[。！？；\n]+")
_HAN = re.compile("[\u4000-\u9fff]")
_KANA = re.compile("[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
_OTHERS = re.compile(f"{_KANA.pattern}|{_HANGUL.pattern}")
_HAN_LEADS = b"\xe4\xe5\xe6\xe7\xe8\xe9"  # U+4000 to U+9FFF
_WIDE_ENDS = "。！？；…"
_HAN_WORD, _KANA_WORD, _SYLLABLE_WORD = 5 / 8, 3 / 8, 1 / 2


class DialogueConfig(Settings):
    """Settings of the step `dialogue`."""

    min_words: float = Field(5, gt=0, description="records whose mean sentence is shorter are dropped")


class Dialogue(Cleaner):
    """Drops records of very short sentences: greetings, single words, noise. Off by default: labels are short too."""

    does: ClassVar[str] = (
        "drops records whose mean sentence is under five words (eight Chinese characters, ten Korean syllables)"
    )
    default: ClassVar[bool] = False
    Config = DialogueConfig

    def __init__(self, config: DialogueConfig) -> None:
        super().__init__(config)
        self._least = config.min_words

    def refuse(self, texts: Sequence[str], record: Mapping[str, Any]) -> str:
        """Whether the mean sentence is too short."""
        text = record_text(texts)
        ends = text.count(".") + text.count("!") + text.count("?") + text.count("\n") + 1
        han = 0
        if not text.isascii():
            han = _han(text.encode("utf-8", "surrogatepass"))
            ends += sum([text.count(mark) for mark in _WIDE_ENDS])
        # at least so many words, even if every mark ended a sentence; where no space follows another, words and ends
        # together are no fewer than spaces
        words = han * _HAN_WORD
        if not han and "  " not in text and not _OTHERS.search(text):
            words = text.count(" ") - ends
        if words >= self._least * ends:
            return ""
        mean = mean_sentence(text)
        return f"the mean sentence has {mean:.1f} words, fewer than {self._least:g}" if mean < self._least else ""


def mean_sentence(text: str) -> float:
    """Words a sentence; 0 for a text without words."""
    sentences = [words for part in _END.split(text) if (words := _words(part))]
    return sum(sentences) / len(sentences) if sentences else 0.0


def _words(part: str) -> float:
    if part.isascii():
        return len(part.split())
    rest, kana = _KANA.subn(" ", part)
    rest, syllables = _HANGUL.subn(" ", rest)
    rest, han = _HAN.subn(" ", rest)
    return len(rest.split()) + han * _HAN_WORD + kana * _KANA_WORD + syllables * _SYLLABLE_WORD


def _han(data: bytes) -> int:
    """Chinese characters in UTF-8: each is the one of three bytes that begins it."""
    return len(data) - len(data.translate(None, _HAN_LEADS))
