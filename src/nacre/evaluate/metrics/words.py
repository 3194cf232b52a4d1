"""One splitting of text into tokens for every metric that compares words."""

import unicodedata
from collections.abc import Callable

_HAN = (
    (0x3400, 0x4DBF),  # extension A
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),  # compatibility
    (0x20000, 0x3FFFF),  # extensions B and later
)
# Scripts written without spaces: each character is a token of its own.
_UNSPACED = (
    *_HAN,
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31BF),  # Bopomofo extended
    (0x31F0, 0x31FF),  # Katakana extensions
)


def unspaced(character: str) -> bool:
    """Whether the character belongs to a script that is written without spaces."""
    code = ord(character)
    return any(first <= code <= last for first, last in _UNSPACED)


def words(text: str) -> list[str]:
    """Tokens of a text: each Chinese, Japanese, Thai … character alone, elsewhere whole words.

    Case, width (NFKC) and punctuation do not count. A text of nothing but signs is split into its signs,
    so that "+" and "-" differ.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    tokens: list[str] = []
    word = ""
    for character in plain:
        in_word = unicodedata.category(character)[0] in "LMN"
        alone = in_word and unspaced(character)
        if word and (alone or not in_word):
            tokens.append(word)
            word = ""
        if alone:
            tokens.append(character)
        elif in_word:
            word += character
    if word:
        tokens.append(word)
    return tokens or [character for character in plain if not character.isspace()]


def han(character: str) -> bool:
    """Whether the character is a Chinese one."""
    code = ord(character)
    return any(first <= code <= last for first, last in _HAN)


def mostly(kind: Callable[[str], bool], text: str) -> bool:
    """Whether more than half of a text's letters are of a kind."""
    letters = [character for character in text if character.isalpha()]
    return 2 * sum(map(kind, letters)) > len(letters)


def mostly_chinese(texts: list[str]) -> bool:
    """Whether more than half of the letters of these texts belong to scripts written without spaces."""
    return mostly(unspaced, "".join(texts))
