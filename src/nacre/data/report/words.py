"""Words of mixed text, without a model: Latin words as they stand, Chinese character by character or in pairs."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{HAN}]|[^\W_{HAN}]+(?:['’][^\W\d_{HAN}]+)?")
_TERM = re.compile(rf"[{HAN}]+|[^\W\d_{HAN}]{{3,}}")
_MASK = re.compile(r"\[[A-Z]+(?:-[A-Z]+)?\]")
_HAN = re.compile(f"[{HAN}]")
_FEATURES = 20_000
_SHOWN_TERM_CHARS = 24
MIN_TERM_ROWS = 5  # a word that fewer rows have may name a person


def tokens(text: str) -> list[str]:
    """Words in lower case; each Chinese character is one, each number too."""
    return [found.lower() for found in _TOKEN.findall(text)]


def terms(text: str) -> list[str]:
    """What a text is about: words of three letters or more in lower case, and pairs of Chinese characters."""
    found: list[str] = []
    for run in _TERM.findall(_MASK.sub(" ", text)):
        if _HAN.match(run):
            found += [run[start : start + 2] for start in range(len(run) - 1)] or [run]
        else:
            found.append(run.lower())
    return found


def tfidf(texts: Sequence[str]) -> tuple[TfidfVectorizer, Any] | None:
    """A vectoriser fitted on the texts and their vectors (of length one); None where they have no terms."""
    vectoriser = TfidfVectorizer(analyzer=terms, sublinear_tf=True, max_features=_FEATURES)
    try:
        return vectoriser, vectoriser.fit_transform(texts)
    except ValueError:  # no term at all
        return None


def shown(names: Sequence[str], weights: Iterable[float], rows: NDArray[np.int64], count: int) -> tuple[str, ...]:
    """The terms with the largest positive weights that may be shown: in enough rows, no function words."""
    weighed = np.asarray(list(weights))
    found: list[str] = []
    for place in np.argsort(-weighed, kind="stable"):
        name = names[place]
        if len(found) == count or weighed[place] <= 0:
            break
        told = rows[place] >= MIN_TERM_ROWS and name not in ENGLISH_STOP_WORDS and len(name) <= _SHOWN_TERM_CHARS
        if told and not any(_overlap(name, other) for other in found):
            found.append(name)
    return tuple(found)


def _overlap(name: str, other: str) -> bool:
    """Whether two pairs of Chinese characters may be cut from one word."""
    return bool(_HAN.match(name)) and bool(set(name) & set(other))
