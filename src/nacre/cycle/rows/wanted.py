"""Which rows are to be removed: what a user asked for, and whether a row is one of them."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from nacre.base.errors import InputError
from nacre.base.pictures import picture_name
from nacre.records import Dropped, Example

_LEAST_ID = 8  # characters of a content id that name a row
_CODECS = ("utf-8", "gb18030", "utf-16-le", "utf-16-be")  # of the bytes of rows that could not be used
_ESCAPED = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")


@dataclass(frozen=True)
class Wanted:
    """Which rows: those that fit any of these.

    Attributes:
        ids: content ids or the beginning of one, or values of a column `id`.
        patterns: regular expressions, searched for in all texts of a row and in its columns.
        where: column and value, compared as text; the columns beside a row, or `task`, `file` and `line`.
    """

    ids: tuple[str, ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()
    where: tuple[tuple[str, str], ...] = ()

    def fits(self, row: Example) -> bool:
        """Whether a row is one of them."""
        origin = row.origin
        columns = {**{name: str(value) for name, value in origin.extra.items()}, "task": origin.task}
        columns |= {"file": origin.file, "line": str(origin.line)}
        if self._in_columns(columns) or (self.ids and row.content_id.startswith(self._long_ids)):
            return True
        texts = [row.system, row.tools, *(turn.content for turn in (*row.prompt, *row.answers)), *columns.values()]
        texts += map(picture_name, row.images or ())  # of a kept picture its hash
        return any(pattern.search(text) for pattern in self.patterns for text in texts if text)

    def fits_unusable(self, row: Dropped) -> bool:
        """Whether a row that could not be used is one of them, by its text, its bytes and, where it is JSON, columns.

        The bytes are read in each encoding that they may be in: whoever is to be forgotten must not be missed.
        """
        data = base64.b64decode(row.original_base64)
        texts = [row.original, *(data.decode(codec, errors="replace") for codec in _CODECS if data)]
        texts += [_ESCAPED.sub(lambda found: json.loads(f'"{found[0]}"'), text) for text in texts if "\\u" in text]
        if any(pattern.search(text) for pattern in self.patterns for text in texts):
            return True
        columns = {"file": PurePath(row.file).name, "line": str(row.line)} if row.original else {}
        if not (self.where or self.ids):
            return False
        return any(self._in_columns(columns | _columns_of(text)) for text in texts)

    def _in_columns(self, columns: Mapping[str, str]) -> bool:
        return any(columns.get(name) == value for name, value in self.where) or columns.get("id") in self.ids

    @property
    def _long_ids(self) -> tuple[str, ...]:
        return tuple(one for one in self.ids if len(one) >= _LEAST_ID)


def wanted(ids: Sequence[str], patterns: Sequence[str], where: Sequence[str]) -> Wanted:
    """What a user asked for.

    Raises:
        InputError: nothing, a pattern that cannot be read or fits everything, an id that is too short, or no
            ``column=value``.
    """
    if not (ids or patterns or where):
        raise InputError(
            "it is not said which rows", where="nacre data forget", fix="give --id, --pattern or --where COLUMN=VALUE"
        )
    compiled = []
    for text in patterns:
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise InputError(f"the pattern cannot be read: {error}", where="--pattern", fix="correct it") from None
        if pattern.search(""):
            raise InputError("the pattern fits every row", where="--pattern", fix="give one that needs a character")
        compiled.append(pattern)
    pairs = []
    for text in where:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"'{text}' is not COLUMN=VALUE", where="--where", fix="write e.g. --where user=anna")
        pairs.append((name, value))
    return Wanted(tuple(ids), tuple(compiled), tuple(pairs))


def _columns_of(text: str) -> dict[str, str]:
    """The columns of a row that is JSON, as text; none where it is not."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {name: str(value) for name, value in found.items()} if isinstance(found, dict) else {}
