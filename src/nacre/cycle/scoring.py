"""Scores, each made once: a report is looked up by what it depends on before any model is loaded."""

import gc
import time
from collections.abc import Iterable
from typing import Any

from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.evaluate.score import planned_key, score
from nacre.model.load import load_model, load_tokenizer, positions
from nacre.records import Report, RowsFile, TaskSettings, Weights


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
        settings = self.workspace.settings.evaluate
        max_length = min(settings.max_length, positions(weights) or settings.max_length)
        found: dict[str, Report] = {}
        for task, dev in tasks:
            rows = read_rows(self.workspace.memory, dev)
            wanted = settings.tasks.get(task, TaskSettings())
            key = planned_key(weights, dev.sha256, rows, wanted, tokenizer, max_length)
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

    def _model(self, weights: Weights) -> Any:
        if self._loaded is None or self._loaded[0] != weights.identity:
            self._loaded = None
            gc.collect()  # the old model goes before the new one comes
            self._loaded = (weights.identity, load_model(weights))
        return self._loaded[1]
