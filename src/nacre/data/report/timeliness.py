"""Timeliness: which share of the dated rows is from the last three years.

A row's date is that of a column, or else the newest date in its text. Dates are read as the cleaner `dates` reads them;
months (2024-05, May 2024, 2024年5月) and Chinese years (2024年) count by their last day, 03/04/2024 as the fourth of
March: the year is what matters here.
"""

import calendar
import datetime
import math
import re
from collections import Counter
from collections.abc import Iterator

from nacre.base.errors import InputError, nearest
from nacre.data.clean.dates import MONTHS, Dates, DatesConfig
from nacre.data.report.records import Flag, Said, Timeliness
from nacre.data.report.sample import Look

YEARS = 3
LEAST_RECENT = 0.6
FEW_DATED = 0.1  # of the rows
ENOUGH_DATED = 30  # fewer dates, on few of the rows, are noted and not flagged
_COLUMNS: tuple[str, ...] = (
    "date",
    "time",
    "datetime",
    "timestamp",
    "created_at",
    "updated_at",
    "created",
    "updated",
    "published",
)
_COLUMNS += ("published_at", "year", "日期", "时间", "发布时间", "创建时间", "更新时间", "年份")
_HINT = re.compile(r"(?:19|20)[0-9]{2}|[〇零○一二三四五六七八九]{4}年")
_ISO = re.compile(r"(?<![0-9A-Za-z_./-])((?:19|20)[0-9]{2})-([0-9]{2})-([0-9]{2})(?![0-9])")
_MONTH = re.compile(
    r"(?<![0-9A-Za-z_./-])((?:19|20)[0-9]{2})(?:[-/]|\s?年\s?)([0-9]{1,2})(?![0-9])(?:\s?月)?(?![-/.][0-9])"
)
_NAMED = re.compile(rf"\b({'|'.join(name[:3] for name in MONTHS)})[a-z]*\.?,?\s+((?:19|20)[0-9]{{2}})\b")
_YEAR = re.compile(r"(?<![0-9])((?:19|20)[0-9]{2})\s?年")
_PLAIN_YEAR = re.compile(r"\s*((?:19|20)[0-9]{2})\s*")
_FIRST_YEAR, _LAST_YEAR = 1900, 2100
_EPOCH_S, _EPOCH_MS = 10**8, 10**11
_MOST_COLUMNS = 1000


class Times:
    """Dates of rows, by year.

    Args:
        today: the last day of the three years.
        column: the column with the date; None: one of the usual names, where a row has one.
    """

    def __init__(self, today: datetime.date, column: str | None = None) -> None:
        self._today = today
        self.since = _years_before(today, YEARS)
        self._column = column
        self._iso = Dates(DatesConfig.model_validate({"format": "iso", "numeric_order": "month_first"}))
        self._years: Counter[str] = Counter()
        self._recent = self._undated = self._from_column = self._future = 0
        self._columns: set[str] = set()

    def look(self, look: Look) -> None:
        """One more row."""
        extra = look.row.origin.extra
        if len(self._columns) < _MOST_COLUMNS:
            self._columns |= extra.keys()
        in_columns = [extra[name] for name in ((self._column,) if self._column else _COLUMNS) if name in extra]
        if look.row.origin.time:
            in_columns.append(look.row.origin.time)
        found = [date for value in in_columns for date in self._of_value(value)]
        by_column = bool(found)
        found = found or list(self.dates(look.text))
        past = [date for date in found if date <= self._today]
        if not past:
            self._undated += 1
            self._future += bool(found)
            return
        newest = max(past)
        self._from_column += by_column
        self._recent += newest >= self.since
        self._years[f"{newest.year}"] += 1

    def _of_value(self, value: str | int | float) -> Iterator[datetime.date]:
        if not isinstance(value, str) or value.strip().isdecimal():
            yield from self._number(float(value))
            return
        if plain := _PLAIN_YEAR.fullmatch(value):
            yield self._year(int(plain[1]))
            return
        try:
            yield datetime.datetime.fromisoformat(value.strip()).date()
        except ValueError:
            yield from self.dates(value)

    def dates(self, text: str) -> Iterator[datetime.date]:
        """Every date in a text."""
        if not _HINT.search(text):
            return
        text = self._iso.text(text)
        for year, month, day in _ISO.findall(text):
            yield from _day(int(year), int(month), int(day))
        rest = _ISO.sub(" ", text)
        for year, month in _MONTH.findall(rest):
            yield from self._month(int(year), int(month))
        for name, year in _NAMED.findall(rest):
            number = next(place for place, month in enumerate(MONTHS, 1) if month.startswith(name))
            yield from self._month(int(year), number)
        for year in _YEAR.findall(_MONTH.sub(" ", rest)):
            yield self._year(int(year))

    def _number(self, value: float) -> Iterator[datetime.date]:
        if math.isfinite(value) and value == int(value) and _FIRST_YEAR <= value < _LAST_YEAR:
            yield self._year(int(value))
        else:
            yield from _moment(value)

    def _year(self, year: int) -> datetime.date:
        return self._within(datetime.date(year, 12, 31), year == self._today.year)

    def _month(self, year: int, month: int) -> Iterator[datetime.date]:
        if 1 <= month <= 12:
            last = datetime.date(year, month, calendar.monthrange(year, month)[1])
            yield self._within(last, (year, month) == (self._today.year, self._today.month))

    def _within(self, last: datetime.date, current: bool) -> datetime.date:
        """The month or year that is running is no future."""
        return self._today if current else last

    def result(self) -> Timeliness:
        """Shares and years.

        Raises:
            InputError: no row has the column that was named.
        """
        if self._column and self._column not in self._columns:
            close = nearest(self._column, self._columns)
            known = ", ".join(sorted(self._columns)[:20]) or "none"
            fix = f"{f'did you mean {close!r}? ' if close else ''}Columns beside the texts: {known}"
            raise InputError(f"no row has a column '{self._column}'", where="--date-column", fix=fix)
        dated = self._years.total()
        return Timeliness(
            since=self.since.isoformat(),
            dated=dated,
            undated=self._undated,
            from_column=self._from_column,
            future=self._future,
            share=self._recent / dated if dated else None,
            years=dict(sorted(self._years.items())),
        )


def _moment(value: float) -> Iterator[datetime.date]:
    """A day written as one number, 20240520; or seconds or milliseconds since 1970."""
    if _FIRST_YEAR * 10_000 <= value < _LAST_YEAR * 10_000:
        year, rest = divmod(int(value), 10_000)
        yield from _day(year, *divmod(rest, 100))
    if _EPOCH_S <= value < 100 * _EPOCH_MS:
        seconds = value / 1000 if value >= _EPOCH_MS else value
        yield datetime.datetime.fromtimestamp(seconds, datetime.UTC).date()


def _day(year: int, month: int, day: int) -> Iterator[datetime.date]:
    if 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]:
        yield datetime.date(year, month, day)


def _years_before(day: datetime.date, years: int) -> datetime.date:
    leap = day.month == 2 and day.day == 29 and not calendar.isleap(day.year - years)
    return day.replace(year=day.year - years, day=28 if leap else day.day)


def flags(found: Timeliness) -> list[Flag]:
    """Whether less than 60 % of the dated rows is recent, and whether hardly a row has a date."""
    rows = found.dated + found.undated
    raised = []
    few = found.dated < min(FEW_DATED * rows, ENOUGH_DATED)
    if found.share is not None and found.share < LEAST_RECENT:
        said = Said(
            en=f"{found.share:.0%} of the {found.dated:,} dated rows are from {found.since} or later; at least "
            f"{LEAST_RECENT:.0%} is wanted.",
            zh=f"{found.dated:,} 行有日期的数据中，{found.share:.0%} 来自 {found.since} 之后；"
            f"应不低于 {LEAST_RECENT:.0%}。",
        )
        in_text = found.from_column < found.dated  # a text of today may speak of long ago
        advice = Said(
            en="Check whether the old rows still hold, replace those that do not, and add rows from the last three "
            "years." + (" Dates in texts may be what they tell of, not when they were written." if in_text else ""),
            zh="请核对旧数据是否仍然成立，替换过时的部分，并补充最近三年的数据。"
            + ("文本中的日期可能是所述之事的日期，而非写作日期。" if in_text else ""),
        )
        raised.append(Flag(measure="timeliness", level="note" if few else "flag", found=said, advice=advice))
    if rows and found.dated < FEW_DATED * rows:
        said = Said(
            en=f"{found.undated:,} of {rows:,} rows have no date, so how recent they are is not known.",
            zh=f"{rows:,} 行中有 {found.undated:,} 行没有日期，无法得知其新旧。",
        )
        advice = Said(
            en="Keep the date of origin in a column (date, or --date-column NAME).",
            zh="请把来源日期保留在一列中（date 列，或用 --date-column 指定）。",
        )
        raised.append(Flag(measure="timeliness", level="note", found=said, advice=advice))
    return raised
