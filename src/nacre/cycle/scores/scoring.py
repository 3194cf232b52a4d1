"""Scores, each made once: a report is looked up by what it depends on before any model is loaded."""

import gc
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.base.hashing import content_hash
from nacre.cycle.environment import refuse_another
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.scores.units import Reader
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.evaluate.judge.prompts import Language
from nacre.evaluate.judge.verdicts import Asking, judge_language
from nacre.evaluate.metrics import METRICS
from nacre.evaluate.plan import Plan, plan
from nacre.evaluate.rows import Source
from nacre.evaluate.score import Judge, Opinions, Wanted, score_rows
from nacre.model.load import load_model, load_tokenizer, positions
from nacre.records import Decoding, Report, RowsFile, TaskSettings, Weights
from nacre.records.judge import Judge as JudgeSettings
from nacre.records.report import ASKED, part, report_key

Way = tuple[str, Decoding, str]  # how a report is made: metric, decoding, and who judges
TIMED = 3  # tasks whose single requests are timed, of the same weights: how fast they answer is no matter of the task


class Scorer:
    """Scores weights on tasks; keeps one model in memory at a time and counts the seconds it takes."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.seconds = 0.0
        self._loaded: tuple[str, Any] | None = None
        self._sources: dict[str, Source] = {}
        self._timed: dict[str, set[str]] = defaultdict(set)

    def reports(
        self, weights: Weights, tasks: Iterable[tuple[str, RowsFile]], *, metric: str | None = None
    ) -> dict[str, Report]:
        """One report for each task, from the ledger where it is known.

        Args:
            weights: who answers.
            tasks: names and dev rows.
            metric: read this one instead of the one that the settings or the rows choose; such a report stands
                beside the usual one, and matrix and gate go on reading that.

        Raises:
            InputError: an unknown metric, or one that does not fit a task's rows.
            NacreError: the weights are damaged, or a judge fails.
        """
        return {task: self._report(weights, self._wanted(task, dev, metric)) for task, dev in tasks}

    def rows(self, weights: Weights, task: str, dev: RowsFile, indices: Sequence[int]) -> Report:
        """Score only the dev rows at `indices`, for whoever decides after a few rows whether more are needed.

        `scores` and `answers` are in the order of `indices`, and `Report.at` holds them. Rows that any earlier report
        has of these weights are not answered again, and those answered here are not answered again for another
        selection or for the full report. The report is kept under a key that has the hash of the indices, so it is
        never taken for the full one; metric, decoding and what else depends on the task's data (the options of a
        choice, BLEU's tokenizer) follow from all dev rows as there.

        Raises:
            InputError: an index that no dev row has, one given twice, or none; and what `reports` raises.
        """
        at = tuple(indices)
        wrong = [place for place in at if not 0 <= place < dev.rows]
        if wrong or not at or len(set(at)) < len(at):
            problem = (
                f"there is no dev row {wrong[0]}" if wrong else "rows are named twice" if at else "no row is named"
            )
            fix = f"name rows from 0 to {dev.rows - 1}, each once"
            raise InputError(problem, where=f"task {task}, {dev.rows} dev rows", fix=fix)
        usual = self._wanted(task, dev, None)
        return self._report(weights, Wanted(task, dev.sha256, usual.examples, usual.settings, at, part(at)))

    def check(self, weights: Weights, tasks: Iterable[tuple[str, RowsFile]]) -> None:
        """Find out before any training whether the tasks can be scored as the settings say.

        Raises:
            InputError: an unknown metric, one that does not fit a task's rows, or no room for its answers.
        """
        for task, dev in tasks:
            wanted = self._wanted(task, dev, None)
            if _asks(self._plan(weights, wanted).metric):
                self._judge(wanted)

    def way(self, weights: Weights, task: str, dev: RowsFile) -> Way | None:
        """How the usual report of these rows would be made now; None where a judge is wanted and none is set.

        Raises:
            InputError: see `check`.
        """
        wanted = self._wanted(task, dev, None)
        chosen = self._plan(weights, wanted)
        if not _asks(chosen.metric):
            return chosen.metric, chosen.decoding, ""
        if self.workspace.settings.evaluate.judge is None:
            return None
        return chosen.metric, chosen.decoding, self._judged(wanted)

    def reader(self, weights: Weights) -> Reader:
        """How these weights read text."""
        source = self._source(weights)
        return Reader(source.tokenizer, source.max_length)

    def _plan(self, weights: Weights, wanted: Wanted) -> Plan:
        source = self._source(weights)
        return plan(wanted.examples, wanted.settings, source.tokenizer, source.max_length)

    def _report(self, weights: Weights, wanted: Wanted) -> Report:
        """From the ledger, or made now.

        Rows that the judge said nothing readable about are missing in a report. Such a one is kept as one of some rows
        only, so the next time those rows are asked about again, and it is never taken for that of all rows.
        """
        started = time.perf_counter()
        ledger, chosen = self.workspace.ledger, self._plan(weights, wanted)
        judge, judged = self._judge(wanted) if _asks(chosen.metric) else (None, "")
        key = report_key(
            weights.identity, wanted.dev, chosen.metric, chosen.decoding, aside=wanted.aside, judged=judged
        )
        report = ledger.get_report(key)
        if report is None:
            # what other weights answered is of use only to those that share adapters with them
            known = ledger.reports(None if weights.routed else weights.identity, wanted.task, aside=True)
            timed = self._times(weights, wanted.task)
            report = score_rows(wanted, self._source(weights), reports=known, judge=judge, timed=timed)
            if report.rows < len(wanted.places):
                report = report.changed(aside=part(report.places))
            ledger.put_report(report)
        self.seconds += time.perf_counter() - started
        return report

    def _times(self, weights: Weights, task: str) -> bool:
        """Whether single requests are timed: on a few tasks, or where the gate compares latencies on all of them."""
        tasks = self._timed[weights.identity]
        if len(tasks) < TIMED or any(rule.name == "latency" for rule in self.workspace.settings.gate.rules):
            tasks.add(task)
        return task in tasks

    def _wanted(self, task: str, dev: RowsFile, metric: str | None) -> Wanted:
        """A task's rows, and how they are scored."""
        settings = self.workspace.settings.evaluate.tasks.get(task, TaskSettings())
        aside = "" if metric in (None, settings.metric) else ASKED
        chosen = settings.model_copy(update={"metric": metric}) if aside else settings
        return Wanted(task, dev.sha256, read_rows(self.workspace.memory, dev), chosen, aside=aside)

    def _judge(self, wanted: Wanted) -> tuple[Judge, str]:
        """Who gives opinions on the answers, and the digest of that."""
        asking = self.asking(wanted.task)
        language, judged = _language(asking.settings, wanted), self._judged(wanted)

        def judge(places: Sequence[int], answers: Sequence[str]) -> Opinions:
            examples = {place: wanted.examples[place] for place in places}
            found = asking.scores(examples, dict(zip(places, answers, strict=True)), language)
            return Opinions(found.scores, judged, found.notes)

        return judge, judged

    def _judged(self, wanted: Wanted) -> str:
        """The digest of who gives opinions, and how."""
        settings = self.workspace.settings.evaluate.judge
        return content_hash([settings.digest, _language(settings, wanted)]) if settings else ""

    def asking(self, task: str) -> Asking:
        """The judge of the settings.

        Raises:
            InputError: none is set, or its key is missing.
        """
        settings = self.workspace.settings.evaluate.judge
        if settings is None:
            raise InputError(
                f"{task} is to be scored by a judge, and none is set",
                where="nacre.yaml, evaluate.judge",
                fix="set evaluate.judge: {url: …, model: …}, or choose another metric",
            )
        return Asking(settings, self.workspace.memory / "judged")

    def _source(self, weights: Weights) -> Source:
        if weights.identity not in self._sources:
            longest = self.workspace.settings.evaluate.max_length
            max_length = min(longest, positions(weights) or longest)
            self._sources[weights.identity] = Source(
                weights, load_tokenizer(weights), max_length, partial(self._model, weights), self._below(weights)
            )
        return self._sources[weights.identity]

    def _below(self, weights: Weights) -> str:
        """Identity of the model that an adapter sits on: the workspace's base, or an artifact, named by its hash."""
        if weights.adapter is None:
            return ""
        base = self.workspace.base
        return base.identity if weights.model == base.model else Path(weights.model).name

    def _model(self, weights: Weights) -> Any:
        if self._loaded is None or self._loaded[0] != weights.identity:
            refuse_another(self.workspace, weights)
            if self._loaded is not None:
                self._loaded = None
                gc.collect()  # the old model goes before the new one comes
            self._loaded = (weights.identity, load_model(weights))
        return self._loaded[1]


def _asks(metric: str) -> bool:
    """Whether a metric is somebody's opinion."""
    return bool(METRICS.load(metric).reads == "verdicts")


def _language(settings: JudgeSettings, wanted: Wanted) -> Language:
    return judge_language(settings, [example.answer for example in wanted.examples])


def fill(workspace: Workspace, number: int) -> None:
    """Score what the matrix of version `number` leaves empty: the base model and every version, on every task."""
    lineage = ancestry(workspace, number)
    scored, scorer = devs(tasks_of(lineage)), Scorer(workspace)
    for weights in (workspace.base, *(workspace.weights(version) for version in lineage)):
        scorer.reports(weights, scored)
