"""`nacre data check`: what a dataset holds, what cannot be used and why, and what looks wrong."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from nacre.base.errors import InputError
from nacre.data.convert import Stream
from nacre.data.dataset import DatasetFiles, Split, at_path, resolve, split_names
from nacre.data.formats.fields import Unusable
from nacre.data.pictures import look_at
from nacre.data.seen import Seen
from nacre.data.suspects import Suspects
from nacre.records import Dropped, Example
from nacre.records.base import Record

MOST_PROBLEMS = 10_000  # that a report lists; the others are counted
_SHOWN_PROBLEMS = 20


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
        problems: every row that cannot be used, up to `MOST_PROBLEMS`; `more_problems` counts the others.
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
    more_problems: int = 0

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
        if (more := len(self.problems) - _SHOWN_PROBLEMS + self.more_problems) > 0:
            listed = "all" if not self.more_problems else f"the first {len(self.problems):,}"
            found.append(f"and {more} more problems (--json lists {listed})")
        found += [f"warning: {warning}" for warning in self.warnings]
        return found + [f"note: {note}" for note in self.notes]


def check(target: str, *, dataset_dir: Path | None = None) -> CheckReport:
    """Read a dataset as training would, row by row in constant memory, and report.

    Args:
        target: a file or folder, or a dataset's name where `dataset_dir` is given.
        dataset_dir: the folder that datasets are looked for in.

    Raises:
        InputError: there is no such file or dataset.
    """
    found = [resolve(name, dataset_dir) for name in split_names(target)] if dataset_dir else [at(target)]
    with Seen() as seen:
        reading = _Reading(Suspects(seen), dataset_dir)
        for files in found:
            reading.read(files)
        return reading.report(target)


class _Reading:
    """What is counted while the files are read."""

    def __init__(self, suspects: Suspects, dataset_dir: Path | None) -> None:
        self._suspects, self._folders = suspects, [dataset_dir] if dataset_dir else []
        self._pictures: set[Path] = set()
        self._usable: Counter[Split] = Counter()
        self._dropped = 0
        self._whole_files: list[Problem] = []
        self._rows: list[Problem] = []
        self._formats: Counter[str] = Counter()
        self._encodings: dict[str, None] = {}
        self._notes: dict[str, None] = {}

    def read(self, files: DatasetFiles) -> None:
        """One dataset's files."""
        self._notes.update(dict.fromkeys(files.notes))
        for split, path in _splits(files):
            try:
                stream = Stream(path, task=files.task, entry=files.entry)
                self._encodings.update(dict.fromkeys(stream.encodings))
                self._stream(stream, split)
            except InputError as error:
                self._whole_files.append(Problem(file=error.where, line=0, reason=error.what, remedy=error.fix))
        if files.entry and files.entry.num_samples is not None:
            self._notes[f"{files.name}: training draws {files.entry.num_samples} rows of these (num_samples)"] = None

    def _stream(self, stream: Stream, split: Split) -> None:
        for read in stream:
            one = read if isinstance(read, Dropped) else self._fault(read[1]) or read
            if isinstance(one, Dropped):
                self._dropped += 1
                if len(self._rows) < MOST_PROBLEMS:
                    self._rows.append(Problem(file=one.file, line=one.line, reason=one.reason, remedy=one.remedy))
            else:
                self._usable[split] += 1
                self._suspects.look(split, one[1])
        self._formats += stream.formats
        self._notes.update(dict.fromkeys(stream.notes))

    def _fault(self, example: Example) -> Dropped | None:
        """The row as one that cannot be used, where one of its pictures cannot."""
        try:
            look_at(example, self._folders, self._pictures)
        except Unusable as fault:
            return Dropped(file=example.origin.file, line=example.origin.line, reason=fault.reason, remedy=fault.remedy)
        return None

    def report(self, target: str) -> CheckReport:
        """Everything together."""
        usable = self._usable.total()
        left_out = self._dropped - len(self._rows)
        return CheckReport(
            target=target,
            format=", ".join(f"{name} {rows}" for name, rows in self._formats.most_common()),
            encoding=", ".join(self._encodings),
            rows=usable + self._dropped,
            usable=usable,
            dropped=self._dropped,
            train=self._usable["train"],
            dev=self._usable["dev"],
            warnings=tuple(self._suspects.warnings()),
            problems=(*self._whole_files, *self._rows),
            more_problems=left_out,
            notes=tuple(self._notes),
        )


def _splits(files: DatasetFiles) -> Iterator[tuple[Split, Path]]:
    yield from (("train", path) for path in files.train)
    yield from (("dev", path) for path in files.dev)


def at(target: str) -> DatasetFiles:
    """The dataset at a path.

    Raises:
        InputError: there is nothing.
    """
    found = at_path(Path(target))
    if found is None and os.path.islink(target):
        fix = "make it point to a file"
        raise InputError("the link leads nowhere, or in a circle", where=target, fix=fix)
    if found is None:
        raise InputError("there is no such file or folder", where=target, fix="check the path, or give --dataset_dir")
    return found
