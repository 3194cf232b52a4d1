"""Tool calls as a server told them, checked and numbered: clients, and we, put their pieces together by the numbers."""

from collections.abc import Mapping
from typing import Any

MOST_CALLS = 128  # of one answer: a place is made for each up to the highest number
_MOST_LEVELS = 16  # of objects and lists in one call, of which OpenAI's have two; far too many could not be written out


class Calls:
    """The numbers of one answer's calls. Servers may leave them out: a piece with an id or a name is a new call then,
    any other goes on with the last one.
    """

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = 0

    def numbered(self, calls: Any, *, whole: bool) -> list[Mapping[str, Any]]:
        """Pieces of calls, each with an `index`; those of a whole answer are whole, so that their order is it.

        Raises:
            ValueError, TypeError, AttributeError: they have another shape, or are too many.
        """
        if not isinstance(calls, list) or len(calls) > MOST_CALLS:
            raise ValueError("tool_calls")
        found: list[Mapping[str, Any]] = []
        for call in calls:
            new, place = _checked(call), call.get("index")
            if whole:
                place = self._begun
            elif place is None:
                place = self._begun if new or not self._begun else self._begun - 1
            if place >= MOST_CALLS:
                raise ValueError("tool_calls")
            self._begun = max(self._begun, place + 1)
            found.append({**call, "index": place})
        return found


def size(calls: tuple[Mapping[str, Any], ...]) -> int:
    """Bytes of what the model wrote of these calls: names and arguments."""
    functions = [call.get("function") or {} for call in calls]
    texts = [function.get(key) or "" for function in functions for key in ("name", "arguments")]
    return len("".join(texts).encode())


def _checked(call: Any) -> bool:
    """Whether a piece, seen by itself, begins a call.

    Raises:
        ValueError, TypeError, AttributeError: it has another shape.
    """
    function, index = call.get("function") or {}, call.get("index")
    if index is not None and (type(index) is not int or not 0 <= index < MOST_CALLS):  # true is an int to isinstance
        raise ValueError("index")
    texts = (call.get("id"), call.get("type"), function.get("name"), function.get("arguments"))
    if not all(text is None or isinstance(text, str) for text in texts) or not _shallow(call, _MOST_LEVELS):
        raise ValueError("function")
    return bool(call.get("id") or function.get("name"))


def _shallow(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return True
    return levels > 0 and all(_shallow(each, levels - 1) for each in value)
