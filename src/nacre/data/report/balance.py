"""Balance: how many rows each class has. More than three to one teaches a model to guess the larger class."""

from collections import Counter
from collections.abc import Callable

from nacre.base.errors import InputError, nearest
from nacre.data.report.records import Balance, ClassSize, Flag, Said
from nacre.data.report.sample import Look
from nacre.data.strata import CLASS_CHARS, CLASS_ROWS

MAX_RATIO = 3
MOST_CLASSES = 30  # that are listed
_MOST_COUNTED = 10_000
_COLUMNS = ("label", "category", "class", "intent", "topic", "domain", "标签", "类别", "分类", "意图")
_CLASSED = 0.5  # short answers that come back must be so many of the rows to be classes


class Balances:
    """Counts by column and by short answer, until there are too many values to be classes.

    Args:
        column: the column that names the class; None: one of the usual names, or else short answers.
        mask: what makes a class's name fit to be shown.
    """

    def __init__(self, column: str | None = None, mask: Callable[[str], str] = str) -> None:
        self._column, self._mask = column, mask
        self._counts: dict[str, Counter[str] | None] = {}
        self._columns: set[str] = set()
        self._rows = 0

    def look(self, look: Look) -> None:
        """One more row."""
        self._rows += 1
        extra = look.row.origin.extra
        if len(self._columns) < _MOST_COUNTED:
            self._columns |= extra.keys()
        for name in (self._column,) if self._column else _COLUMNS:
            if name in extra:
                self._count(name, str(extra[name]).strip())
        if look.row.desirable is not None:
            self._count("judgement", str(look.row.desirable).lower())
        elif 0 < len(answer := look.masked_answer.strip()) <= CLASS_CHARS:
            self._count("answer", answer)

    def _count(self, by: str, value: str) -> None:
        counts = self._counts.setdefault(by, Counter())
        if counts is not None:
            counts[value] += 1
            if len(counts) > _MOST_COUNTED:
                self._counts[by] = None

    def result(self) -> Balance:
        """The sizes of the classes.

        Raises:
            InputError: no row has the column that was named.
        """
        if self._column and self._column not in self._counts:
            close = nearest(self._column, self._columns)
            known = ", ".join(sorted(self._columns)[:20]) or "none"
            fix = f"{f'did you mean {close!r}? ' if close else ''}Columns beside the texts: {known}"
            raise InputError(f"no row has a column '{self._column}'", where="--label", fix=fix)
        for by in (self._column,) if self._column else (*_COLUMNS, "judgement", "answer"):
            counts = self._counts.get(by or "")
            if by and counts and (found := self._of(by, counts)):
                return found
        return Balance()

    def _of(self, by: str, counts: Counter[str]) -> Balance | None:
        often = sum(rows >= CLASS_ROWS for rows in counts.values())
        # where no more answers are rare than come back, a rare one is a rare class, else a text of its own
        least = CLASS_ROWS if by == "answer" and len(counts) - often > often else 1
        sizes = [(name, rows) for name, rows in counts.most_common() if rows >= least]
        inside = sum(rows for _, rows in sizes)
        if by != self._column and (len(sizes) < 2 or inside < _CLASSED * self._rows or len(sizes) > inside / 2):
            return None
        largest, smallest = sizes[0][1], sizes[-1][1]
        listed = sizes if len(sizes) <= MOST_CLASSES else [*sizes[: MOST_CLASSES - 1], sizes[-1]]
        return Balance(
            by=by,
            classes=tuple(
                ClassSize(name=self._mask(name), rows=rows, ratio=round(largest / rows, 2)) for name, rows in listed
            ),
            more=len(sizes) - len(listed),
            ratio=round(largest / smallest, 2),
            outside=self._rows - inside,
        )


def flags(found: Balance) -> list[Flag]:
    """Whether a class is more than three times larger than another."""
    if found.ratio is None or found.ratio <= MAX_RATIO:
        return []
    big, small = found.classes[0], found.classes[-1]
    said = Said(
        en=f"The largest class ({big.name}, {big.rows:,} rows) is {found.ratio:g} times the smallest "
        f"({small.name}, {small.rows:,}); {MAX_RATIO}:1 is the most that is wanted.",
        zh=f"最大的类别（{big.name}，{big.rows:,} 行）是最小类别（{small.name}，{small.rows:,} 行）的 "
        f"{found.ratio:g} 倍；应不超过 {MAX_RATIO}:1。",
    )
    need = -(-big.rows // MAX_RATIO) - small.rows
    rare = small.rows < CLASS_ROWS
    stray_en = f" So rare a class ({small.name}) may be a slip of whoever labelled: look." if rare else ""
    stray_zh = f"{small.name} 只有 {small.rows} 行，也可能是标注笔误，请核对。" if rare else ""
    advice = Said(
        en=f"Collect about {need:,} more rows of {small.name}, or take fewer rows of {big.name}: otherwise the model "
        f"learns to guess the larger class.{stray_en}",
        zh=f"请为 {small.name} 补充约 {need:,} 行，或减少 {big.name} 的行数：否则模型会学成总猜大类。{stray_zh}",
    )
    return [Flag(measure="balance", level="flag", found=said, advice=advice)]
