"""`nacre data check`: what a dataset holds, what cannot be used and why, and what looks wrong."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nacre.base.errors import InputError
from nacre.data.dataset import DatasetFiles, Loaded, Split, at_path, load_split, resolve, split_names
from nacre.records import Example
from nacre.records.base import Record

LONG_ROW_CHARS = 20_000
MAX_LABELS = 20
MAX_LABEL_CHARS = 40
MIN_ROWS_PER_LABEL = 5
IMBALANCE = 3
_SHOWN_LINES = 5
_SHOWN_PROBLEMS = 20
_CONTROL = re.compile(
    r"<\|[A-Za-z_]+\|>|<｜[^｜<>]{1,40}｜>|</?s>|<<SYS>>|\[/?INST\]|<(?:start|end)_of_turn>|<(?:bos|eos|pad)>"
)


class Problem(Record):
    """A row (or, with line 0, a file) that cannot be used."""

    file: str
    line: int
    reason: str
    remedy: str


class CheckReport(Record):
    """What a dataset holds.

    Attributes:
        target: what was asked for.
        format: formats of the rows with their numbers, e.g. ``"alpaca 280, messages 20"``.
        encoding: encodings of the files.
        rows: rows read; `usable` and `dropped` add up to it.
        train, dev: usable rows of either split.
        warnings: what can be used, but should be looked at.
        problems: every row that cannot be used.
        notes: what was decided while reading.
    """

    target: str
    format: str
    encoding: str
    rows: int
    usable: int
    dropped: int
    train: int
    dev: int
    warnings: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every row can be used."""
        return not self.problems

    def lines(self) -> list[str]:
        """The report in plain text, a line each."""
        found = [
            f"{self.target}: {self.rows} rows, {self.usable} usable ({self.train} train, {self.dev} dev), "
            f"{self.dropped} dropped",
            f"format: {self.format or 'none'}; encoding: {self.encoding or 'none'}",
        ]
        for problem in self.problems[:_SHOWN_PROBLEMS]:
            place = f"{problem.file}, line {problem.line}" if problem.line else problem.file
            found.append(f"problem: {place}: {problem.reason}; {problem.remedy}")
        if len(self.problems) > _SHOWN_PROBLEMS:
            found.append(f"and {len(self.problems) - _SHOWN_PROBLEMS} more problems (--json lists all)")
        found += [f"warning: {warning}" for warning in self.warnings]
        return found + [f"note: {note}" for note in self.notes]


def check(target: str, *, dataset_dir: Path | None = None) -> CheckReport:
    """Read a dataset as training would, and report.

    Args:
        target: a file or folder, or a dataset's name where `dataset_dir` is given.
        dataset_dir: the folder that datasets are looked for in.

    Raises:
        InputError: there is no such file or dataset.
    """
    found = [resolve(name, dataset_dir) for name in split_names(target)] if dataset_dir else [_at(target)]
    problems: list[Problem] = []
    train, dev = Loaded(), Loaded()
    splits: tuple[tuple[Split, Loaded], ...] = (("train", train), ("dev", dev))
    for files in found:
        for split, loaded in splits:
            try:
                loaded.add(load_split(files, split))
            except InputError as error:
                problems.append(Problem(file=error.where, line=0, reason=error.what, remedy=error.fix))
    problems += [
        Problem(file=row.file, line=row.line, reason=row.reason, remedy=row.remedy)
        for row in train.dropped + dev.dropped
    ]
    usable = len(train.examples) + len(dev.examples)
    return CheckReport(
        target=target,
        format=", ".join(f"{name} {rows}" for name, rows in (train.formats + dev.formats).most_common()),
        encoding=", ".join((train.encodings + dev.encodings).keys()),
        rows=train.rows + dev.rows,
        usable=usable,
        dropped=len(train.dropped) + len(dev.dropped),
        train=len(train.examples),
        dev=len(dev.examples),
        warnings=tuple(warnings(train.examples, dev.examples)),
        problems=tuple(problems),
        notes=tuple(dict.fromkeys(train.notes + dev.notes)),
    )


def warnings(train: Sequence[Example], dev: Sequence[Example]) -> list[str]:
    """What can be trained on, but should be looked at."""
    ids = [row.content_id for row in train]
    first: dict[str, Example] = {}
    doubles = [row for content, row in zip(ids, train, strict=True) if first.setdefault(content, row) is not row]
    shared = [row for row in dev if row.content_id in first]
    control = [row for row in (*train, *dev) if _CONTROL.search(_text(row))]
    long = [row for row in (*train, *dev) if len(_text(row)) > LONG_ROW_CHARS]
    found = [
        (doubles, "train rows repeat an earlier row exactly"),
        (shared, "dev rows are also train rows; training leaves them out"),
        (control, "rows hold control tokens of chat templates such as <|im_end|>, which can end an answer early"),
        (long, f"rows are longer than {LONG_ROW_CHARS:,} characters and will be cut at max_length"),
    ]
    return [f"{len(rows)} {what} ({_places(rows)})" for rows, what in found if rows] + _imbalance(train)


def _imbalance(train: Sequence[Example]) -> list[str]:
    labels = Counter(row.answer.strip() for row in train if row.kind == "sft")
    few = 2 <= len(labels) <= min(MAX_LABELS, sum(labels.values()) // MIN_ROWS_PER_LABEL)
    if not few or max(map(len, labels)) > MAX_LABEL_CHARS:
        return []
    (most, high), *_, (least, low) = labels.most_common()
    if high <= IMBALANCE * low:
        return []
    return [f"the answers are out of balance: '{most}' {high} rows, '{least}' {low} rows (more than {IMBALANCE}:1)"]


def _text(row: Example) -> str:
    return "\n".join((row.system, *(turn.content for turn in (*row.prompt, *row.answers))))


def _places(rows: Sequence[Example]) -> str:
    shown = ", ".join(f"{Path(row.origin.file).name} line {row.origin.line}" for row in rows[:_SHOWN_LINES])
    return shown + (", …" if len(rows) > _SHOWN_LINES else "")


def _at(target: str) -> DatasetFiles:
    found = at_path(Path(target))
    if found is None:
        raise InputError("there is no such file or folder", where=target, fix="check the path, or give --dataset_dir")
    return found
