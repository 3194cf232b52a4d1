"""The words of a domain: those that somebody lists, and those that its texts use far more often than general text does.

How telling a word is, says the log-likelihood ratio of its two frequencies (Dunning 1993, "Accurate Methods for the
Statistics of Surprise and Coincidence", Computational Linguistics 19): it holds for rare words too, where a ratio of
frequencies or a chi-squared does not.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nacre.base.errors import InputError
from nacre.base.plugins import Table
from nacre.data.report.words import HAN, MIN_TERM_ROWS
from nacre.records.lexicon import Term, is_chinese

WANTED = 500  # terms that a lexicon should have
KEY = 10.83  # of a chi-squared variable with one degree of freedom, one in a thousand is larger
SHORTEST, LONGEST = 2, 24  # characters of a term
_WORD = re.compile(rf"[{HAN}]+|[^\W\d_{HAN}][^\W_{HAN}]*(?:[-'’][^\W_{HAN}]+)*")
_HAN = re.compile(f"[{HAN}]")
_SHORTEST_LATIN = 3
_WORDS = Table("cutter of Chinese", {"jieba": "nacre.data.chinese:words"})


class Found(NamedTuple):
    """A lexicon before anybody asked what it is worth: its terms, the most telling first, and what is to be said."""

    terms: tuple[Term, ...]
    notes: tuple[str, ...]


class _Counts(NamedTuple):
    """Of each word: how often it stands in some texts, and in how many of them; and how many words there are."""

    words: Mapping[str, int]
    texts: Mapping[str, int]
    total: int


def read_terms(path: Path) -> list[str]:
    """The terms of a file, one a line; blank lines and doubles count once or not at all.

    Raises:
        InputError: no such file, no text, or no term in it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        fix = "give a text file in UTF-8 with one term a line"
        raise InputError("the lexicon cannot be read", where=str(path), fix=fix) from None
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise InputError("the lexicon has no term", where=str(path), fix="write one term a line, or leave it out")
    return found


def find_terms(domain: Sequence[str], general: Sequence[str], given: Sequence[str] = ()) -> Found:
    """The terms that were given, and every word that is key to the domain's texts.

    A word is key where the domain uses it more often and the log-likelihood ratio is above `KEY`. One that fewer than
    five texts have is left out: it may name a person.

    Args:
        domain: texts of the domain, train rows only.
        general: texts of no particular domain.
        given: terms that are wanted whatever the texts say.

    Raises:
        InputError: there is Chinese in the texts, and nothing that cuts it into words is installed.
    """
    mine, others = _counts(domain), _counts(general)
    listed = [_given(text, domain, general, mine.total, others.total) for text in given]
    mined = [
        Term(text=text, count=count, texts=mine.texts[text], general=others.words.get(text, 0), keyness=telling)
        for text, count in mine.words.items()
        if mine.texts[text] >= MIN_TERM_ROWS
        and SHORTEST <= len(text) <= LONGEST
        and (telling := keyness(count, others.words.get(text, 0), mine.total, others.total)) > KEY
    ]
    known = set(given)
    terms = [*listed, *(term for term in mined if term.text not in known)]
    terms.sort(key=lambda term: (not term.given, -term.keyness, term.text))
    notes = [f"lexicon: {len(listed)} terms were given, {len(terms) - len(listed)} were found in {len(domain)} texts"]
    if len(terms) < WANTED:
        more = "more text of the domain, or a list of its terms (--lexicon), brings more"
        notes.append(f"lexicon: {len(terms)} terms are fewer than the {WANTED} that a domain should have; {more}")
    return Found(tuple(terms), tuple(notes))


def keyness(count: int, other: int, total: int, other_total: int) -> float:
    """Dunning's log-likelihood ratio -2 log lambda of two frequencies; negative where the second is the higher one.

    Args:
        count: of the word among `total` words.
        other: of the word among `other_total` other words.
    """
    if not total or not other_total:
        return 0.0
    both = (count + other) / (total + other_total)
    cells = [
        (count, total * both),
        (other, other_total * both),
        (total - count, total * (1 - both)),
        (other_total - other, other_total * (1 - both)),
    ]
    ratio = 2 * sum(seen * math.log(seen / expected) for seen, expected in cells if seen > 0)
    return ratio if count * other_total >= other * total else -ratio


def _given(text: str, domain: Sequence[str], general: Sequence[str], total: int, other_total: int) -> Term:
    """What the texts say of a term that somebody named."""
    at = re.compile(re.escape(text) if is_chinese(text) else rf"(?<!\w){re.escape(text)}(?!\w)")
    found = [len(at.findall(one)) for one in domain]
    count, other = sum(found), sum(len(at.findall(one)) for one in general)
    telling = keyness(count, other, max(total, count), max(other_total, other))
    return Term(text=text, count=count, texts=sum(map(bool, found)), general=other, keyness=telling, given=True)


def _counts(texts: Iterable[str]) -> _Counts:
    """The words of some texts as they are spelled; a number is none."""
    words: Counter[str] = Counter()
    holders: Counter[str] = Counter()
    for text in texts:
        own = Counter(_words(text))
        words.update(own)
        holders.update(own.keys())
    return _Counts(words, holders, sum(words.values()))


def _words(text: str) -> Iterable[str]:
    for run in _WORD.findall(text):
        if _HAN.match(run):
            yield from (word for word in _chinese(run) if len(word) >= SHORTEST)
        elif len(run) >= _SHORTEST_LATIN:
            yield run


def _chinese(run: str) -> Iterable[str]:
    """The words of a run of Chinese characters.

    Raises:
        InputError: jieba is not installed.
    """
    try:
        found: Iterable[str] = _WORDS.load("jieba")(run)
    except ModuleNotFoundError as error:
        fix = "pip install jieba, or pip install 'nacre[knowledge]'"
        what = f"{error.name}, which cuts Chinese into words, is not installed"
        raise InputError(what, where="lexicon", fix=fix) from None
    return found
