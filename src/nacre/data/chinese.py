"""Chinese cut into words by jieba, which not every installation has."""

import logging
from collections.abc import Iterator
from functools import cache

import jieba


@cache
def _tokenizer() -> jieba.Tokenizer:
    """With its dictionary loaded by us: jieba would read and write a cache file in /tmp that others may change."""
    logging.getLogger("jieba").setLevel(logging.WARNING)
    made = jieba.Tokenizer()
    made.FREQ, made.total = made.gen_pfdict(made.get_dict_file())
    made.initialized = True
    return made


def cut(text: str) -> Iterator[str]:
    """The words of a Chinese text; of a long word its parts, too."""
    found: Iterator[str] = _tokenizer().cut_for_search(text)
    return found


def words(text: str) -> Iterator[str]:
    """The words of a Chinese text, each character in one of them; words that no dictionary has are guessed."""
    found: Iterator[str] = _tokenizer().cut(text)
    return found
