"""Where the texts of a record stand, so that they can be replaced without touching anything else in it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from nacre.data.dataset_info import Entry
from nacre.data.formats import formats
from nacre.data.formats.fields import Unusable
from nacre.data.formats.layout import Format

_NO_TEXTS = frozenset({"tools", "images", "videos", "audios"})
_MAY_BE_BLANK = frozenset({"input", "system", "history"})
_CONTENT = ("content", "value")
_SHAPES_KEPT = 1024


class Place(NamedTuple):
    """One text: ``holder[key]``. `optional` says that the record can do without it."""

    holder: Any
    key: Any
    optional: bool


class Places:
    """Finds the texts of records: those of its format's columns, in messages the content alone.

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
        """The places of the record's texts, in the order of its columns.

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
            elif value:
                self._inside(value, optional, found)
        return found

    def _text_columns(self, record: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
        form = self._described or next((known for known in self._known if known.looks_like(record)), None)
        if form is None:
            names = ", ".join(list(record)[:8]) or "none"
            raise Unusable(f"unknown columns: {names}", "see nacre data check")
        used = form.used(record) - self._no_texts
        return tuple((name, name in self._may_be_blank) for name in record if name in used)

    def _inside(self, value: Any, optional: bool, found: list[Place]) -> None:
        """Texts in a list of messages, in one message, or in a history of pairs."""
        if isinstance(value, list):
            for place, item in enumerate(value):
                if isinstance(item, str):
                    found.append(Place(value, place, optional))
                elif item:
                    self._inside(item, optional, found)
        elif isinstance(value, dict):
            found += [Place(value, name, False) for name in self._content if isinstance(value.get(name), str)]
