"""Which steps may have something to do in a text: one look at it by Hyperscan for all steps together.

A step names its marks, regular expressions of which one must match wherever the step would act. All of them become one
automaton, so that a text without any costs a microsecond, however many steps there are. Marks see UTF-8: outside ASCII
they may hold whole characters and alternatives of them, never classes of them.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import hyperscan

Step = Callable[[str], str]


class Marks:
    """Finds the steps that a text needs.

    Args:
        wanted: the marks of each step; None for a step that must see every text.
    """

    def __init__(self, wanted: Sequence[Sequence[str] | None]) -> None:
        self._always = [place for place, marks in enumerate(wanted) if marks is None]
        expressions = [(mark.encode(), place) for place, marks in enumerate(wanted) for mark in marks or ()]
        self._found: list[int] = []
        self._database = _compiled(tuple(expressions)) if expressions else None

    def steps(self, text: str) -> Sequence[int]:
        """Places of the steps that may act on this text, in order."""
        found = self._found
        found.clear()
        if self._database is not None:
            self._database.scan(text.encode("utf-8", "surrogatepass"), match_event_handler=self._note)
        return sorted({*found, *self._always}) if found else self._always

    def _note(self, place: int, start: int, end: int, flags: int, context: object) -> None:
        self._found.append(place)


@lru_cache(maxsize=16)  # the same steps are made more than once in a run
def _compiled(expressions: tuple[tuple[bytes, int], ...]) -> hyperscan.Database:
    database = hyperscan.Database()
    database.compile(
        expressions=[expression for expression, _ in expressions],
        ids=[place for _, place in expressions],
        elements=len(expressions),
        flags=[hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_DOTALL] * len(expressions),
    )
    return database


def any_of(words: Sequence[str]) -> str:
    """A mark that is one of these words."""
    return "(" + "|".join(_literal(word) for word in words) + ")"


def _literal(word: str) -> str:
    return "".join(f"\\x{ord(sign):02x}" if sign.isascii() and not sign.isalnum() else sign for sign in word)
