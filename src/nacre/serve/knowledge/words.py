"""The words that are counted and compared, and how rare they are."""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from nacre.base.files import disk_errors
from nacre.serve.knowledge import part

_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_RUN = re.compile(rf"([{_CHINESE}]+)|((?:(?![{_CHINESE}])[^\W_])+)")
_LONGEST = 40  # letters of a word that are compared
_BUCKETS = 1 << 20
_MOST_WORDS = 64  # of a question

_EMPTY_ENGLISH = (
    "a about all am an and any are as at be been but by can could did do does for from had has have how i if in into "
    "is it its long many me much my no not of often on or our please shall should so tell than that the their them "
    "then there these they this to us was we were what when where which who whom whose why will with would you your"
)
_EMPTY_CHINESE = (
    "的 了 吗 呢 吧 啊 是 在 有 和 与 或 及 就 都 也 还 很 把 被 给 对 为 我 你 您 他 她 它 我们 你们 他们 咱们 "
    "这 那 这个 那个 这些 那些 什么 怎么 怎样 怎么样 如何 多少 几 哪 哪个 哪些 哪里 哪儿 谁 为什么 为何 请 请问 "
    "一下 可以 能 能否 是否 么 需要 要 会 应该 个 到 从 以 之 而 上 下 中 里 做 用 想 知道 告诉"
)
EMPTY = frozenset(f"{_EMPTY_ENGLISH} {_EMPTY_CHINESE}".split())
"""Words of a question that say nothing about what it asks for."""


def words_of(text: str, *, empty: bool = True) -> list[str]:
    """The words of a text in order, as they are compared: small letters, plurals as singulars, Chinese cut by jieba.

    Args:
        text: any.
        empty: whether those that say nothing (`EMPTY`) are among them.

    Raises:
        InputError: there is Chinese, and jieba is not installed.
    """
    found: list[str] = []
    for chinese, other in _RUN.findall(unicodedata.normalize("NFKC", text).casefold()):
        if other:
            if empty or other not in EMPTY:
                found.append(_singular(other)[:_LONGEST])
        else:
            found += [word for word in part("chinese")(chinese) if empty or word not in EMPTY]
    return found


def asked_words(question: str) -> list[str]:
    """The different words of a question that say what it asks for, at most 64."""
    return list(dict.fromkeys(words_of(question, empty=False)))[:_MOST_WORDS]


def _singular(word: str) -> str:
    """The S-stemmer of Harman, How Effective Is Suffixing? (1991): only English plurals are touched."""
    if len(word) < 4 or not word.isascii() or word[-1] != "s":
        return word
    if word.endswith("ies") and word[-4] not in "ea":
        return f"{word[:-3]}y"
    if word.endswith("es") and word[-3] not in "aeo":
        return word[:-1]
    return word if word[-2] in "us" else word[:-1]


class Frequencies:
    """In how many chunks a word is: 2^20 counters of 4 bytes, in which two words rarely share one.

    Args:
        counts: the counters; default: all at 0.
        chunks: how many chunks were counted.
    """

    def __init__(self, counts: "np.ndarray | None" = None, chunks: int = 0) -> None:
        self._counts = np.zeros(_BUCKETS, dtype=np.uint32) if counts is None else counts
        self.chunks = chunks

    def add(self, words: Iterable[str]) -> None:
        """Count a chunk."""
        self._counts[np.fromiter({_bucket(word) for word in words}, dtype=np.int64)] += 1
        self.chunks += 1

    def weight(self, word: str) -> float:
        """Its inverse document frequency, smoothed; half of a rare word's where no chunk has it.

        Such a word may be what the question is about, or only the asker's way to put it.
        """
        count = int(self._counts[_bucket(word)])
        rare = math.log1p((self.chunks + 1) / (max(count, 1) + 1))
        return rare if count else rare / 2

    def relevance(self, asked: Sequence[str], held: Iterable[str]) -> float:
        """Weight of the words asked for that a chunk holds, of the weight of all; 0 where none is asked for."""
        there = set(held)
        weights = {word: self.weight(word) for word in asked}
        total = sum(weights.values())
        return sum(weight for word, weight in weights.items() if word in there) / total if total else 0.0

    def save(self, path: Path) -> None:
        """Write the counters."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with disk_errors(path), path.open("wb") as file:
            np.save(file, self._counts)

    @classmethod
    def load(cls, path: Path, chunks: int) -> "Frequencies":
        """Read what `save` wrote; the pages that nobody asks for stay on the disk."""
        return cls(np.load(path, mmap_mode="r"), chunks)


def _bucket(word: str) -> int:
    return crc32(word.encode("utf-8", "surrogatepass")) & (_BUCKETS - 1)
