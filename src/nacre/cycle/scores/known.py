"""Which of the reports in the ledger are what the settings mean now: same metric, same decoding, same judge.

A matrix compares scores of one task with each other, so a report that was made in another way is none for it.
"""

from collections import defaultdict
from functools import cached_property

from nacre.base.errors import InputError
from nacre.cycle.scores.scoring import Scorer, Way
from nacre.cycle.workspace import Workspace
from nacre.data.rows import rows_path
from nacre.evaluate.plan import AFTERWARDS
from nacre.records import Report, RowsFile, Version, Weights
from nacre.records.report import ASKED


class KnownReports:
    """Looks scores up, and counts what it passes over; nothing is scored.

    Args:
        workspace: its settings say how a task is scored, its ledger has the reports.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._scorer = Scorer(workspace)
        self._reports: dict[str, list[Report]] = {}
        self._ways: dict[tuple[str, str, str], Way | None] = {}
        self._passed: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)

    def find(self, identity: str, task: str, dev: RowsFile) -> Report | None:
        """The report of all these dev rows by these weights, as the settings would make it now.

        Of rows that are no longer kept nobody can say how they would be scored: the newest report is taken, and said.

        Raises:
            InputError: the settings cannot be used for these rows.
        """
        found = [one for one in self._of(identity) if (one.task, one.dev) == (task, dev.sha256)]
        whole = [one for one in found[::-1] if one.rows == dev.rows and not one.aside]
        if whole and not rows_path(self.workspace.memory, dev.sha256).is_file():
            self._passed[task][identity, dev.sha256] = "is shown as it was made: its rows are not kept any more"
            return whole[0]
        for weights in self._tokenizers(identity) if whole else ():
            same = [one for one in whole if self._fits(one, self._way(weights, task, dev))]
            if same:
                return same[0]
        parts = [one for one in found if one.judged and one.aside not in ("", ASKED)]
        lacking = [one for one in parts if one.metric not in AFTERWARDS]
        if lacking:
            what = f"is left out: only {lacking[-1].rows} of {dev.rows} rows have a verdict"
            self._passed[task][identity, dev.sha256] = what
        elif whole:
            how = f"by {whole[0].metric}, or with another decoding or judge than the settings say now"
            self._passed[task][identity, dev.sha256] = f"is left out: it was made {how}"
        return None

    def newest(self, identity: str, task: str) -> Report | None:
        """The newest report of a task, whatever its rows."""
        return next((one for one in self._of(identity)[::-1] if one.task == task and not one.aside), None)

    def imported(self, identity: str, task: str, anchor: Report | None) -> Report | None:
        """The newest report of a task that was scored elsewhere, if it has the anchor's rows and metric."""
        found = [one for one in self._of(identity) if one.task == task and not one.aside]
        same = [one for one in found if anchor and one.dev == anchor.dev and anchor.metric in one.scores]
        if found and not same:
            what = "is left out: the base model's has other rows or another metric, or was never imported"
            self._passed[task][identity, found[-1].dev] = what
        return same[-1] if same else None

    @property
    def notes(self) -> list[str]:
        """What was passed over, counted by task."""
        said = []
        for task, cells in self._passed.items():
            for what in dict.fromkeys(cells.values()):
                count = list(cells.values()).count(what)
                said.append(f"{task}: a score {what}" + (f" ({count} times)" if count > 1 else ""))
        return said

    def _of(self, identity: str) -> list[Report]:
        if identity not in self._reports:
            self._reports[identity] = self.workspace.ledger.reports(weights=identity, aside=True)
        return self._reports[identity]

    def _way(self, weights: Weights, task: str, dev: RowsFile) -> Way | None:
        key = (weights.identity, task, dev.sha256)
        if key not in self._ways:
            self._ways[key] = self._scorer.way(weights, task, dev)
        return self._ways[key]

    @staticmethod
    def _fits(report: Report, way: Way | None) -> bool:
        return way is not None and (report.metric, report.decoding, report.judged) == way

    def _tokenizers(self, identity: str) -> list[Weights]:
        """Weights whose tokenizer may have decided how long answers are: nearly always the base model's."""
        found, version = [self.workspace.base], self._versions.get(identity)
        if version is not None and self.workspace.store.has(version.artifact):
            try:
                found.append(self.workspace.weights(version))
            except InputError:  # an adapter on another base model: its scores cannot be made again here
                return found
        return found

    @cached_property
    def _versions(self) -> dict[str, Version]:
        return {version.artifact: version for version in self.workspace.ledger.versions()}
