"""A report on rows: every measure in one pass, memory of bounded size."""

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from nacre.base.errors import InputError
from nacre.data.convert import Stream
from nacre.data.dataset import DatasetFiles, Split
from nacre.data.report import balance, coverage, diversity, drift, duplicates, language, length, private, timeliness
from nacre.data.report.records import DataReport, EarlierRows, Flag, Said
from nacre.data.report.sample import SAMPLE_ROWS, Look, Sample
from nacre.data.seen import Seen
from nacre.records import Dropped, Example


@dataclass(frozen=True)
class Earlier:
    """Rows that were learned (``train``) or judged by (``dev``) before."""

    name: str
    rows: Iterable[Example]
    split: Split = "train"


@dataclass(frozen=True)
class Options:
    """What a report may be told.

    Attributes:
        today: the end of the last three years; None: this day.
        label, date: columns with the class and the date of a row; None: the usual names.
        domains: names and terms, see `coverage.read_domains`; None: clusters of the earlier rows.
        tokenizer: a model folder, to count tokens; `max_length`, what training cuts at.
    """

    today: datetime.date | None = None
    label: str | None = None
    date: str | None = None
    domains: Mapping[str, Sequence[str]] | None = None
    tokenizer: Path | None = None
    max_length: int | None = None


def report_on(
    target: str, rows: Iterable[Example], earlier: Iterable[Earlier] = (), options: Options | None = None
) -> DataReport:
    """Measure rows, each once, and compare them with earlier ones, each once and before them.

    Args:
        target: what the rows are called.
        rows: usable rows. If they come from `Rows`, its dropped rows and notes are reported too.
        earlier: rows of earlier increments, the oldest first.
        options: see there.

    Raises:
        InputError: there are no rows, a column is in no row, or there is no such tokenizer.
    """
    with ExitStack() as stack:
        repeats = stack.enter_context(duplicates.Repeats(stack.enter_context(Seen())))
        measuring = _Measuring(repeats, options or Options())
        for source in earlier:
            measuring.earlier(source)
        for row in rows:
            measuring.row(row)
        return measuring.report(target, rows if isinstance(rows, Rows) else None)


@dataclass
class Rows:
    """The usable rows of a dataset's files; what was dropped is counted. Iterate over it once."""

    files: Sequence[DatasetFiles]
    split: Split = "train"
    dropped: int = 0
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Example]:
        for files in self.files:
            for path in files.train if self.split == "train" else files.dev:
                stream = Stream(path, task=files.task, entry=files.entry)
                for one in stream:
                    if isinstance(one, Dropped):
                        self.dropped += 1
                    else:
                        yield one[1]
                self.notes += stream.notes


class _Measuring:
    """All measures of one run."""

    def __init__(self, repeats: duplicates.Repeats, options: Options) -> None:
        self._today = options.today or datetime.datetime.now(datetime.UTC).date()
        self._rows = 0
        self._sources: list[EarlierRows] = []
        self._new, self._learned = Sample(), Sample()
        self._privacy = private.Privacy()
        self._repeats = repeats
        self._languages = language.Languages()
        self._balances = balance.Balances(options.label, lambda name: self._privacy.mask(name, count=False)[0])
        self._times = timeliness.Times(self._today, options.date)
        self._lengths = length.LengthCounts(options.tokenizer, options.max_length)
        self._domains = coverage.Domains(options.domains) if options.domains else None

    def earlier(self, source: Earlier) -> None:
        """Read the rows of one earlier increment."""
        self._repeats.source(source.name, source.split)
        count = 0
        for row in source.rows:
            count += 1
            look = self._look(row, earlier=True)
            self._repeats.earlier(look)
            if source.split == "train":
                self._learned.add(look)
                self._languages.earlier(look)
        self._sources.append(EarlierRows(name=source.name, split=source.split, rows=count))

    def row(self, row: Example) -> None:
        """Read one row."""
        self._rows += 1
        look = self._look(row)
        self._new.add(look)
        for part in (self._repeats, self._languages, self._balances, self._times, self._lengths, self._domains):
            if part is not None:
                part.look(look)

    def _look(self, row: Example, *, earlier: bool = False) -> Look:
        prompt = "\n".join(filter(None, (row.system, *(turn.content for turn in row.prompt))))
        answer = "\n".join(turn.content for turn in row.answers)
        content_id = row.content_id
        if earlier and not self._learned.wants(content_id):
            return Look(row, content_id, prompt, answer, "", "")
        masked_prompt, masked_answer = self._privacy.mask(prompt, answer, count=not earlier)
        return Look(row, content_id, prompt, answer, masked_prompt, masked_answer)

    def report(self, target: str, read: Rows | None) -> DataReport:
        """Everything together."""
        if not self._rows:
            raise InputError("there are no usable rows", where=target, fix="see nacre data check")
        new, learned = self._new.rows(), self._learned.rows()
        found = DataReport(
            target=target,
            today=self._today.isoformat(),
            rows=self._rows,
            dropped=read.dropped if read else 0,
            earlier=tuple(self._sources),
            balance=self._balances.result(),
            coverage=self._domains.result() if self._domains else coverage.clusters(new, learned),
            diversity=diversity.result(new, self._repeats.distinct_prompts()),
            timeliness=self._times.result(),
            language=self._languages.result(),
            length=self._lengths.result(),
            duplicates=self._repeats.result(),
            private=self._privacy.result(),
            drift=drift.measure(new, learned),
        )
        notes = [*(Said(en=one, zh=one) for one in dict.fromkeys(read.notes if read else ())), *_notes(found)]
        return found.changed(flags=tuple(_flags(found)), notes=tuple(notes))


def _flags(found: DataReport) -> list[Flag]:
    raised = [
        *balance.flags(found.balance),
        *coverage.flags(found.coverage),
        *diversity.flags(found.diversity),
        *timeliness.flags(found.timeliness),
        *language.flags(found.language),
        *length.flags(found.length),
        *duplicates.flags(found.duplicates, found.rows),
        *private.flags(found.private, found.rows),
        *drift.flags(found.drift),
    ]
    return sorted(raised, key=lambda flag: flag.level != "flag")


def _notes(found: DataReport) -> list[Said]:
    """What was not measured, or on part of the rows alone."""
    said = []

    def say(en: str, zh: str) -> None:
        said.append(Said(en=en, zh=zh))

    if found.dropped:
        say(
            f"{found.dropped:,} rows cannot be used and are not counted here (nacre data check names them)",
            f"{found.dropped:,} 行无法使用，未计入本报告（nacre data check 会逐条列出）",
        )
    if not found.balance.by:
        say(
            "balance: no classes were found; --label COLUMN names the column that holds them",
            "均衡性：没有发现类别；可用 --label 指定类别列",
        )
    if not found.earlier:
        say(
            "no earlier rows were given: nothing is said on drift and repeats (--against NAME)",
            "没有给出早期数据：不报告漂移和跨增量重复（--against NAME）",
        )
    elif found.drift.auc is None:
        new, old = found.drift.sampled
        say(
            f"drift needs {drift.MIN_ROWS} distinct rows on either side; there are {new} new and {old} earlier",
            f"漂移需要双方至少各有 {drift.MIN_ROWS} 个不同的行；现有新数据 {new} 行，早期数据 {old} 行",
        )
    if found.coverage.share is None:
        say(
            f"coverage needs a list of domains (--domains FILE) or at least {coverage.MIN_ROWS} earlier rows",
            f"覆盖度需要领域列表（--domains FILE）或至少 {coverage.MIN_ROWS} 行早期数据",
        )
    if future := found.timeliness.future:
        say(
            f"timeliness: {future:,} rows name days to come only and count as undated",
            f"时效性：{future:,} 行只含未来的日期，按没有日期计",
        )
    _say_samples(found, say)
    return said


def _say_samples(found: DataReport, say: Callable[[str, str], None]) -> None:
    if (sampled := found.diversity.sampled) >= SAMPLE_ROWS:
        part = ("diversity is", "多样性")
        if found.earlier:
            part = ("diversity, drift and clusters are", "多样性、漂移和聚类")
        say(
            f"{part[0]} measured on a sample of {sampled:,} distinct rows",
            f"{part[1]}在 {sampled:,} 个不同行的抽样上测量",
        )
    most = duplicates.COMPARED
    if found.duplicates.compared >= most or found.duplicates.compared_earlier >= most:
        say(
            f"near duplicates are looked for among the first {most:,} distinct rows of each side only",
            f"近似重复只在每一侧的前 {most:,} 个不同行中查找",
        )
