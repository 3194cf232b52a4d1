"""Dates in one format, checked against the calendar.

Read are year first (2024-05-20, 2024/5/20, 2024.05.20), month names (May 20, 2024; 20 May 2024; May 20th, 2024),
Chinese (2024年5月20日, 二〇二四年五月二十日) and numbers with the year last (05/20/2024). Of the last kind, 03/04/2024
may be March or April: it stays and is counted, unless `numeric_order` says which. What is no day of the calendar, and
time stamps such as 2024-05-20T10:00, stay as they are.
"""

import datetime
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from nacre.base.config import Settings
from nacre.data.clean.base import Cleaner
from nacre.data.clean.marks import Marks

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
PRESETS = {"iso": "%Y-%m-%d", "us": "%B %-d, %Y", "uk": "%-d %B %Y", "chinese": "%Y年%-m月%-d日"}
_DIRECTIVES = ("%Y", "%m", "%d", "%B", "%b", "%-m", "%-d")
_DIRECTIVE = re.compile(r"%-?[A-Za-z%]?")

_MONTH = r"(Jan(?:uary|\.)?|Feb(?:ruary|\.)?|Mar(?:ch|\.)?|Apr(?:il|\.)?|May|June?\.?|July?\.?|Aug(?:ust|\.)?"
_MONTH += r"|Sep(?:tember|t\.?|\.)?|Oct(?:ober|\.)?|Nov(?:ember|\.)?|Dec(?:ember|\.)?)"
_YEAR_FIRST = re.compile(r"(?<![\w./-])([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})(?![0-9A-Za-z_]|[-/.][0-9A-Za-z])")
_YEAR_LAST = re.compile(r"(?<![\w./-])([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4})(?![0-9A-Za-z_]|[-/.][0-9A-Za-z])")
_MONTH_FIRST = re.compile(
    rf"(?i)\b{_MONTH}\s+([0-9]{{1,2}})(?:st|nd|rd|th)?(?:,\s*|\s+)([0-9]{{4}})(?![0-9A-Za-z_]|[-/.][0-9])"
)
_DAY_FIRST = re.compile(
    rf"(?i)(?<![\w./-])([0-9]{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+([0-9]{{4}})(?![0-9A-Za-z_]|[-/.][0-9])"
)
_CHINESE = re.compile(r"(?<![0-9])([0-9]{4})\s?年\s?([0-9]{1,2})\s?月\s?([0-9]{1,2})\s?[日号]")
_CHINESE_WORDS = re.compile(
    "([〇零○一二三四五六七八九]{4})年([一二三四五六七八九十]{1,3})月([一二三四五六七八九十]{1,3})[日号]"
)
_FIGURES = {sign: figure for figure, signs in enumerate(("〇零○", *"一二三四五六七八九")) for sign in signs}
_STEMS = "(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}[.]?"
_GAP = r"[\s\x80-\xff]"
_MARKS = (  # in the order in which the ways of writing are rewritten
    "[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]",
    "[0-9][-/.][0-9]{1,2}[-/.][0-9]{4}",
    f"(?i){_STEMS}{_GAP}+[0-9]{{1,2}}(st|nd|rd|th)?,?{_GAP}*[0-9]{{4}}",
    f"(?i)[0-9](st|nd|rd|th)?{_GAP}+(of{_GAP}+)?{_STEMS},?{_GAP}+[0-9]{{4}}",
    "年.{1,12}月.{1,12}(日|号)",
)


class DatesConfig(Settings):
    """Settings of the step `dates`."""

    format: str = Field(
        "iso",
        description="iso (2024-05-20), us (May 20, 2024), uk (20 May 2024), chinese (2024年5月20日), or a pattern of "
        "%Y, %m, %d, %B, %b, %-m and %-d",
    )
    chinese_format: str | None = Field(
        None,
        description="another format for dates written in Chinese (2024年5月20日); without it they are like the rest",
    )
    numeric_order: Literal["leave", "day_first", "month_first"] = Field(
        "leave", description="how to read 03/04/2024; what can only be read one way is read that way"
    )

    @field_validator("format", "chinese_format")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is None or value in PRESETS:
            return value
        parts = _DIRECTIVE.findall(value)
        if unknown := [part for part in parts if part not in _DIRECTIVES]:
            raise ValueError(f"{unknown[0]} is none of {', '.join((*PRESETS, *_DIRECTIVES))}")
        kinds = sorted(part[-1].lower().replace("b", "m") for part in parts)
        if kinds != ["d", "m", "y"]:
            raise ValueError("a format names year, month and day once each")
        return value


class Dates(Cleaner):
    """Month names are English and do not depend on the machine's locale."""

    does: ClassVar[str] = "dates in one format; what is ambiguous stays and is counted"
    default: ClassVar[bool] = False
    Config = DatesConfig

    def __init__(self, config: DatesConfig) -> None:
        super().__init__(config)
        self._order = config.numeric_order
        self._left: Counter[str] = Counter()
        self._ways_in = Marks([[mark] for mark in _MARKS])
        self._ways = (
            lambda text: _YEAR_FIRST.sub(self._year_first, text),
            lambda text: _YEAR_LAST.sub(self._year_last, text),
            lambda text: _MONTH_FIRST.sub(lambda found: self._named(found, found[1], found[2]), text),
            lambda text: _DAY_FIRST.sub(lambda found: self._named(found, found[2], found[1]), text),
            self._in_chinese,
        )
        self._write = writer(config.format)
        self._write_chinese = writer(config.chinese_format or config.format)

    def marks(self) -> tuple[str, ...]:
        """The outline of a date in each way of writing."""
        return _MARKS

    def text(self, text: str) -> str:
        """The text with its dates rewritten, and again until nothing changes: one date may free another."""
        while (cleaned := self._rewritten(text)) != text:
            text = cleaned
            self._left.clear()  # what stays is counted in the last round alone
        if self._left:
            self.counts += self._left
            self._left.clear()
        return text

    def _rewritten(self, text: str) -> str:
        for way in self._ways_in.steps(text):
            text = self._ways[way](text)
        return text

    def _in_chinese(self, text: str) -> str:
        text = _CHINESE.sub(lambda found: self._chinese(found, *map(int, found.groups())), text)
        return _CHINESE_WORDS.sub(self._chinese_words, text)

    def notes(self) -> list[str]:
        """How many dates could be read two ways, and how many are no dates."""
        found = []
        if count := self.counts["ambiguous"]:
            found.append(f"dates: {count} such as 03/04/2024 were left (numeric_order: day_first or month_first)")
        if count := self.counts["no such day"]:
            found.append(f"dates: {count} are no day of the calendar and were left")
        return found

    def _year_first(self, found: re.Match[str]) -> str:
        return self._day(found[0], int(found[1]), int(found[3]), int(found[4]), self._write)

    def _year_last(self, found: re.Match[str]) -> str:
        first, second, year = int(found[1]), int(found[3]), int(found[4])
        if first <= 12 and second <= 12 and first != second and self._order == "leave":
            self._left["ambiguous"] += 1
            return found[0]
        day_first = first > 12 or (second <= 12 and self._order == "day_first")
        month, day = (second, first) if day_first else (first, second)
        return self._day(found[0], year, month, day, self._write)

    def _named(self, found: re.Match[str], month: str, day: str) -> str:
        number = next(place for place, name in enumerate(MONTHS, 1) if name[:3] == month[:3].capitalize())
        return self._day(found[0], int(found[3]), number, int(day), self._write)

    def _chinese(self, found: re.Match[str], year: int, month: int, day: int) -> str:
        return self._day(found[0], year, month, day, self._write_chinese)

    def _chinese_words(self, found: re.Match[str]) -> str:
        year = int("".join(str(_FIGURES[sign]) for sign in found[1]))
        return self._chinese(found, year, below_hundred(found[2]), below_hundred(found[3]))

    def _day(self, written: str, year: int, month: int, day: int, write: Callable[[datetime.date], str]) -> str:
        try:
            date = datetime.date(year, month, day)
        except ValueError:
            self._left["no such day"] += 1
            return written
        rewritten = write(date)
        self.counts["rewritten"] += rewritten != written
        return rewritten


def writer(pattern: str) -> Callable[[datetime.date], str]:
    """What writes a date as this format says."""
    pattern = PRESETS.get(pattern, pattern)

    def write(date: datetime.date) -> str:
        values: dict[str, Any] = {
            "%Y": f"{date.year:04d}",
            "%m": f"{date.month:02d}",
            "%d": f"{date.day:02d}",
            "%-m": date.month,
            "%-d": date.day,
            "%B": MONTHS[date.month - 1],
            "%b": MONTHS[date.month - 1][:3],
        }
        return _DIRECTIVE.sub(lambda part: str(values[part[0]]), pattern)

    return write


def below_hundred(numeral: str) -> int:
    """A Chinese numeral such as 二十一; 0, which is no month and no day, where it is none."""
    tens, ten, ones = numeral.rpartition("十")
    if not ten:
        return _FIGURES[ones] if len(ones) == 1 else 0
    if len(tens) > 1 or len(ones) > 1 or tens == "十" or ones == "十":
        return 0
    return (_FIGURES[tens] if tens else 1) * 10 + (_FIGURES[ones] if ones else 0)
