"""The words of a domain, and which of them became tokens."""

from nacre.records.base import Record


class Term(Record):
    """One word or phrase.

    Attributes:
        text: as it stands in the texts.
        count: how often it stands in the domain's text; `texts` in how many of them.
        general: how often it stands in the general text.
        keyness: log-likelihood ratio of the two frequencies, see `nacre.data.lexicon.keyness`.
        given: somebody named it; else it was found in the texts.
        pieces: tokens that it was cut into.
        saved: tokens of the domain's text that a token of its own saves, all its occurrences together.
        why: why it did not become a token; empty where it did.
    """

    text: str
    count: int
    texts: int = 0
    general: int = 0
    keyness: float = 0.0
    given: bool = False
    pieces: int = 0
    saved: int = 0
    why: str = ""


class Lexicon(Record):
    """The terms of a domain, the most telling first, and what the tokens made of them changed.

    Attributes:
        pays: tokens that a new row of the embedding had to save.
        domain, general: tokens per character of either text, before and after.
    """

    terms: tuple[Term, ...] = ()
    pays: int = 0
    domain: tuple[float, float] = (0.0, 0.0)
    general: tuple[float, float] = (0.0, 0.0)

    @property
    def added(self) -> tuple[str, ...]:
        """The terms that became tokens."""
        return tuple(term.text for term in self.terms if not term.why)


def is_chinese(text: str) -> bool:
    """Whether a term has Chinese characters, between which no space says where a word ends."""
    return any("\u3400" <= letter <= "\u9fff" or "\uf900" <= letter <= "\ufaff" for letter in text)
