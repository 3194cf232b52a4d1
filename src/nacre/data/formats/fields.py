"""Values out of a row, each of the right type or with the reason why not."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nacre.base.errors import nearest
from nacre.data.formats.layout import Columns
from nacre.records import Message

_PLACEHOLDERS = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}


class Unusable(Exception):
    """A row that cannot be used: why, and what would mend it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


def kind_of(value: Any) -> str:
    """The type of a JSON value in plain words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return {"NoneType": "null", "list": "a list", "dict": "an object", "str": "text"}[type(value).__name__]


def missing(record: Mapping[str, Any], column: str) -> Unusable:
    """The reason for a column that the row does not have, with the name that was perhaps meant."""
    close = nearest(column, record)
    found = ", ".join(str(name) for name in record) or "nothing"
    hint = f"did you mean '{close}'? Rename it to '{column}'" if close else f"add it; the row has: {found}"
    return Unusable(f"no column '{column}'", hint)


def text(record: Mapping[str, Any], column: str) -> str:
    """The text of a column that must be there and be text; it may be blank."""
    if column not in record:
        raise missing(record, column)
    value = record[column]
    if not isinstance(value, str):
        raise Unusable(f"column '{column}' is {kind_of(value)}, not text", "write text in double quotes")
    return value


def answer(record: Mapping[str, Any], column: str) -> str:
    """The text of a column that is trained on: there, text, and not blank."""
    value = text(record, column)
    if not value.strip():
        raise Unusable(f"column '{column}' is blank", "fill it in, or delete the row")
    return value


def optional(record: Mapping[str, Any], column: str | None) -> str:
    """The text of a column that may be absent or null; then empty."""
    if column is None or record.get(column) is None:
        return ""
    return text(record, column)


def tools(record: Mapping[str, Any], column: str | None) -> str:
    """Tool declarations as JSON text; a list or object is written out."""
    value = record.get(column) if column else None
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else optional(record, column)


def beside(record: Mapping[str, Any], columns: Columns, messages: Sequence[Message]) -> dict[str, Any]:
    """The fields of an Example that stand beside its messages."""
    found = media(record, columns, messages)
    return {"system": optional(record, columns.system), "tools": tools(record, columns.tools), **found}


def media(
    record: Mapping[str, Any], columns: Columns, messages: Sequence[Message]
) -> dict[str, tuple[str, ...] | None]:
    """Paths of pictures, videos and sounds as the file gives them: as many as the texts have places for."""
    found: dict[str, tuple[str, ...] | None] = {}
    for what, place in _PLACEHOLDERS.items():
        column = columns.named.get(what)
        value = record.get(column) if column else None
        paths = [value] if isinstance(value, str) else value or []
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise Unusable(f"column '{column}' is not a list of paths", 'write ["path", …]')
        if paths and (places := sum(message.content.count(place) for message in messages)) != len(paths):
            raise Unusable(f"{len(paths)} {what} for {places} {place} in the texts", f"write one {place} for each path")
        found[what] = tuple(paths) or None
    return found
