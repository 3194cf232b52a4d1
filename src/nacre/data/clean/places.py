"""Where the texts of a record stand, so that they can be replaced without touching anything else in it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from nacre.data.dataset_info import Entry
from nacre.data.formats import formats
from nacre.data.formats.fields import Unusable
from nacre.data.formats.layout import Format, is_annotated

_NO_TEXTS = frozenset({"tools", "images", "videos", "audios"})
_MAY_BE_BLANK = frozenset({"input", "system", "history"})
_CONTENT = ("content", "value")
_ANNOTATED = ("data", "annotations")
_SHAPES_KEPT = 1024


class Place(NamedTuple):
    """One text: ``holder[key]``. `optional` says that the record can do without it."""

    holder: Any
    key: Any
    optional: bool


class Places:
    """Finds the texts of records: those of its format's columns, in messages the content and the arguments of calls.

    Of a task of Label Studio's export these are its data and what people wrote about it.

    Args:
        entry: how `dataset_info.json` describes the rows; without it each row is told by its columns.
    """

    def __init__(self, entry: Entry | None = None) -> None:
        self._described = entry.reader() if entry else None
        self._known: list[Format] = [formats.load(name)() for name in formats.names()]
        self._columns: dict[tuple[str, ...], tuple[tuple[str, bool], ...]] = {}
        columns = entry.layout.columns if entry else None
        tags = entry.layout.tags if entry else None
        self._content = (tags.content_tag,) if tags and tags.content_tag else _CONTENT
        named = columns.named if columns else {}
        self._no_texts = _NO_TEXTS | {named[what] for what in _NO_TEXTS if what in named}
        optional = {named[what] for what in ("query", "system", "history") if what in named}
        self._may_be_blank = frozenset(optional) if entry else _MAY_BE_BLANK

    def find(self, record: dict[str, Any]) -> list[Place]:
        """The places of the record's texts, by the names of its columns, whatever their order in the record.

        Raises:
            Unusable: the record is in no known format.
        """
        shape = tuple(record)
        columns = self._columns.get(shape)
        if columns is None:
            columns = self._text_columns(record)
            if len(self._columns) >= _SHAPES_KEPT:
                self._columns.clear()
            self._columns[shape] = columns
        found: list[Place] = []
        for name, optional in columns:
            value = record[name]
            if isinstance(value, str):
                found.append(Place(record, name, optional))
            elif name in _ANNOTATED and is_annotated(record):
                self._annotated(name, value, found)
            elif value:
                self._inside(value, optional, found)
        return found

    def _text_columns(self, record: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
        form = self._described or next((known for known in self._known if known.looks_like(record)), None)
        if form is None:
            names = ", ".join(list(record)[:8]) or "none"
            raise Unusable(f"unknown columns: {names}", "see nacre data check")
        used = form.used(record) - self._no_texts
        return tuple((name, name in self._may_be_blank) for name in sorted(used.intersection(record)))

    def _inside(self, value: Any, optional: bool, found: list[Place]) -> None:
        """Texts in a list of messages, in one message, or in a history of pairs."""
        if isinstance(value, list):
            for place, item in enumerate(value):
                if isinstance(item, str):
                    found.append(Place(value, place, optional))
                elif item:
                    self._inside(item, optional, found)
        elif isinstance(value, dict):
            self._message(value, found)

    def _message(self, message: dict[str, Any], found: list[Place]) -> None:
        """Texts of one message: its content or the parts of it, and the arguments of its calls."""
        for name in self._content:
            content = message.get(name)
            if isinstance(content, str):
                found.append(Place(message, name, False))
            elif isinstance(content, list):  # OpenAI's parts
                parts = (part for part in content if isinstance(part, dict))
                found += [Place(part, "text", True) for part in parts if isinstance(part.get("text"), str)]
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and "arguments" in function:
                found += strings(function, "arguments")

    @staticmethod
    def _annotated(name: str, value: Any, found: list[Place]) -> None:
        """Texts in the data of a task, or in what was written as an answer to it."""
        if name == "data":
            if isinstance(value, dict):
                found += [place for key in value for place in strings(value, key)]
            return
        for one in value if isinstance(value, list) else ():
            result = one.get("result") if isinstance(one, dict) else None
            for answer in result if isinstance(result, list) else ():
                written = answer.get("value") if isinstance(answer, dict) else None
                if isinstance(written, dict) and "text" in written:
                    found += strings(written, "text")


def strings(holder: Any, key: Any) -> Iterator[Place]:
    """Every text at any depth of a value. None of them is missed when it is empty."""
    value = holder[key]
    if isinstance(value, str):
        yield Place(holder, key, True)
    elif isinstance(value, dict | list):
        for inner in value if isinstance(value, dict) else range(len(value)):
            yield from strings(value, inner)
