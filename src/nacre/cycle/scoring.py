"""Scores, each made once: a report is looked up by what it depends on before any model is loaded."""

import gc
import time
from collections.abc import Iterable
from typing import Any

from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.evaluate.score import planned_key, score
from nacre.model.load import load_model, load_tokenizer, positions
from nacre.records import Example, Report, RowsFile, TaskSettings, Weights


class Scorer:
    """Scores weights on tasks; keeps one model in memory at a time and counts the seconds it takes."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.seconds = 0.0
        self._loaded: tuple[str, Any] | None = None

    def reports(self, weights: Weights, tasks: Iterable[tuple[str, RowsFile]]) -> dict[str, Report]:
        """One report for each task, from the ledger where it is known."""
        started = time.perf_counter()
        tokenizer = load_tokenizer(weights)
        max_length = self._max_length(weights)
        found: dict[str, Report] = {}
        for task, dev in tasks:
            key, rows, wanted = self._planned(weights, task, dev, tokenizer, max_length)
            report = self.workspace.ledger.get_report(key)
            if report is None:
                model = self._model(weights)
                report = score(
                    weights, task, dev.sha256, rows, wanted, model=model, tokenizer=tokenizer, max_length=max_length
                )
                self.workspace.ledger.put_report(report)
            found[task] = report
        self.seconds += time.perf_counter() - started
        return found

    def check(self, weights: Weights, tasks: Iterable[tuple[str, RowsFile]]) -> None:
        """Find out before any training whether the tasks can be scored as the settings say.

        Raises:
            InputError: an unknown metric, one that does not fit a task's rows, or no room for its answers.
        """
        tokenizer, max_length = load_tokenizer(weights), self._max_length(weights)
        for task, dev in tasks:
            self._planned(weights, task, dev, tokenizer, max_length)

    def _planned(
        self, weights: Weights, task: str, dev: RowsFile, tokenizer: Any, max_length: int
    ) -> tuple[str, list[Example], TaskSettings]:
        """The key of a task's report, the rows, and how they are scored."""
        rows = read_rows(self.workspace.memory, dev)
        wanted = self.workspace.settings.evaluate.tasks.get(task, TaskSettings())
        return planned_key(weights, dev.sha256, rows, wanted, tokenizer, max_length), rows, wanted

    def _max_length(self, weights: Weights) -> int:
        wanted = self.workspace.settings.evaluate.max_length
        return min(wanted, positions(weights) or wanted)

    def _model(self, weights: Weights) -> Any:
        if self._loaded is None or self._loaded[0] != weights.identity:
            if self._loaded is not None:
                self._loaded = None
                gc.collect()  # the old model goes before the new one comes
            self._loaded = (weights.identity, load_model(weights))
        return self._loaded[1]


def fill(workspace: Workspace, number: int) -> None:
    """Score what the matrix of version `number` leaves empty: the base model and every version, on every task."""
    lineage = ancestry(workspace, number)
    scored, scorer = devs(tasks_of(lineage)), Scorer(workspace)
    for weights in (workspace.base, *(workspace.weights(version) for version in lineage)):
        scorer.reports(weights, scored)
