"""Rows with typing mistakes in their questions, so that a model answers what people really write.

A twin of a row has a share of the letters of its questions exchanged for neighbours on the keyboard, swapped, left
out or doubled; Chinese characters are swapped, left out, doubled or exchanged for another one of the data. The answer
stays as it is. Left alone are digits (another number has another answer), placeholders and tags in <>, {} or [], web
addresses, and places where the answer or any other class of the data stands in the question: were the right one of
several options alone without a mistake, that would give it away.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence

from nacre.base.hashing import sha256_text
from nacre.data.strata import CLASS_CHARS, CLASS_ROWS
from nacre.records import Example, Message

_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_LETTER = re.compile(r"[A-Za-z\u3400-\u4dbf\u4e00-\u9fff]")
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_LEFT_ALONE = re.compile(r"<[^<>]*>|\{[^{}]*\}|\[[^\[\]]*\]|\b(?:https?://|www\.)\S+|\S+@\S+")
MOST_CLASSES = 200  # that are looked for in each question
_LEAST_ANSWER_CHARS = 2  # a single letter stands in every question


def with_typos(rows: Sequence[Example], *, letters: float, share: float, seed: int) -> tuple[list[Example], str]:
    """The rows, and after them a twin with mistakes of about `share` of them; and a sentence about it.

    Which rows have a twin, and what it says, depends on the row and the seed alone (and on the classes of the data,
    and, for Chinese characters that are exchanged, on its characters).

    Args:
        rows: the rows; plain text has no question and gets no twin.
        letters: share of the letters of a question that are mistyped; at least one is.
        share: of the rows that get a twin, from 0 to 1.
        seed: of all choices.
    """
    alphabet = sorted({letter for row in rows for turn in row.prompt for letter in _CHINESE.findall(turn.content)})
    classes = _classes(rows)
    twins = []
    for row in rows:
        chance = random.Random(sha256_text(f"{seed}/typos/{row.content_id}"))
        if chance.random() >= share or row.kind == "text":
            continue
        prompt = tuple(
            Message(
                role=turn.role, content=mistyped(turn.content, letters, chance, alphabet, keep=(row.answer, *classes))
            )
            if turn.role == "user"
            else turn
            for turn in row.prompt
        )
        if prompt != row.prompt:
            twins.append(row.model_copy(update={"prompt": prompt}))
    said = f"typos: {len(twins)} of {len(rows)} rows are learned once more with {letters:.0%} of their letters mistyped"
    return [*rows, *twins], said


def _classes(rows: Sequence[Example]) -> list[str]:
    """Short answers that come back, the most common first."""
    answers = Counter(row.answer.strip() for row in rows)
    often = [one for one, count in answers.most_common(MOST_CLASSES) if count >= CLASS_ROWS]
    return [one for one in often if len(one) <= CLASS_CHARS]


def mistyped(
    text: str, letters: float, chance: random.Random, alphabet: Sequence[str], *, keep: Sequence[str] = ()
) -> str:
    """`text` with a share of its letters mistyped, but at least one, if it has any that may be.

    Args:
        text: a question.
        letters: the share, from 0 to 1.
        chance: decides where and how.
        alphabet: Chinese characters that may stand in for others.
        keep: parts of the text that are left alone wherever they stand.
    """
    free = _free(text, keep)
    if not free:
        return text
    chosen = sorted(chance.sample(free, max(1, round(letters * len(free)))), reverse=True)
    said, may = list(text), set(free)
    for place in chosen:
        said[place : place + 2] = _mistake(said[place : place + 2], chance, alphabet, swaps=place + 1 in may)
    return "".join(said)


def _free(text: str, keep: Sequence[str]) -> list[int]:
    """Places of the letters that may be mistyped."""
    spans = [found.span() for found in _LEFT_ALONE.finditer(text)]
    for part in keep:
        if len(part) >= _LEAST_ANSWER_CHARS and part in text:
            spans += [found.span() for found in re.finditer(re.escape(part), text)]
    taken = {place for start, end in spans for place in range(start, end)}
    return [found.start() for found in _LETTER.finditer(text) if found.start() not in taken]


def _mistake(pair: list[str], chance: random.Random, alphabet: Sequence[str], *, swaps: bool) -> list[str]:
    """What is typed instead of a letter and the character after it (which changes only when the two are swapped)."""
    letter, after = pair[0], pair[1:]
    kind = chance.choice(("exchange", "swap", "drop", "double"))
    if kind == "swap" and swaps and after and after[0] != letter:
        return [after[0], letter]
    if kind == "drop":
        return after
    if kind == "exchange" and (other := _other(letter, chance, alphabet)):
        return [other, *after]
    return [letter, letter, *after]


def _other(letter: str, chance: random.Random, alphabet: Sequence[str]) -> str:
    """Another Chinese character of the data, or a neighbour on the keyboard; empty where there is none."""
    if _CHINESE.match(letter):
        others = [other for other in alphabet if other != letter] if len(alphabet) < 3 else alphabet
        picked = chance.choice(others) if others else ""
        return picked if picked != letter else alphabet[(alphabet.index(letter) + 1) % len(alphabet)]
    picked = chance.choice(_NEIGHBOURS[letter.lower()])
    return picked.upper() if letter.isupper() else picked


def _neighbours() -> dict[str, str]:
    """The keys around each letter; a row of keys is shifted by half a key against the one above."""
    found = {}
    for y, row in enumerate(_KEYS):
        for x, letter in enumerate(row):
            around = [(y, x - 1), (y, x + 1), (y - 1, x), (y - 1, x + 1), (y + 1, x - 1), (y + 1, x)]
            found[letter] = "".join(
                _KEYS[there][place] for there, place in around if 0 <= there < 3 and 0 <= place < len(_KEYS[there])
            )
    return found


_NEIGHBOURS = _neighbours()
