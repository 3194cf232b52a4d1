"""What makes a schedule due beside its time: enough feedback, or questions that drift away from what was taught."""

from datetime import datetime, timedelta
from typing import Any

from nacre.cycle.lineage import ancestry, rows_of, tasks_of
from nacre.cycle.releases.spending import Memo, Seen
from nacre.cycle.rows import harvest as harvesting
from nacre.cycle.workspace import Workspace
from nacre.data.report.drift import MIN_ROWS, measure
from nacre.data.report.sample import SAMPLE_CHARS, Kept
from nacre.records import Event
from nacre.records.schedule import When

LATEST = 1_000  # questions, and rows, that are compared
_FRESH = timedelta(seconds=20)  # so long what was seen of the feedback is taken for what is there


class Look:
    """Reads feedback and questions, once for however many schedules ask.

    Args:
        workspace: whose.
        memo: of earlier looks.
    """

    def __init__(self, workspace: Workspace, memo: Memo) -> None:
        self._workspace = workspace
        self._memo = memo

    def seen(self, when: When, last: Event | None, present: datetime) -> list[Seen]:
        """What each trigger of a schedule sees; only that it rests, for some hours after its last run."""
        if last is not None:
            until = datetime.fromisoformat(last.time) + timedelta(hours=when.rest)
            if present < until:
                return [Seen(False, f"it rests until {until.isoformat(timespec='minutes')}")]
        found = []
        if when.feedback is not None:
            found.append(self._feedback(when.feedback, present))
        if when.drift is not None:
            found.append(self._drift(when.drift, last))
        return found

    def _feedback(self, wanted: int | str, present: datetime) -> Seen:
        looked, rows, enough = self._memo.get("feedback", (None, 0, False))
        if looked is None or not timedelta() <= present - looked < _FRESH:  # who says a plan and then acts looks once
            found = harvesting.look(self._workspace)
            rows, enough = max(found.rows.values(), default=0), found.enough  # one opinion may be a row of two stages
            self._memo["feedback"] = present, rows, enough
        if isinstance(wanted, int):
            return Seen(rows >= wanted, f"feedback: {rows} rows to harvest, {wanted} are wanted")
        return Seen(enough, f"feedback: {rows} rows to harvest, {'enough' if enough else 'not enough'} for the gate")

    def _drift(self, bound: float, last: Event | None) -> Seen:
        since = str(last.detail.get("began", last.time)) if last else ""
        champion = self._workspace.ledger.slot("champion")
        served = self._workspace.ledger.releases.observed.latest(LATEST)
        asked = {one.id: turns[-1] for one in served if one.time > since and (turns := _questions(one.messages))}
        if champion is None or len(asked) < MIN_ROWS:
            return Seen(False, f"drift: {len(asked)} questions since its last run, {MIN_ROWS} are needed")
        key = f"{champion.version} {since} {len(asked)} {next(iter(asked))}"
        if self._memo.get("key") != key:
            self._memo.update(key=key, drift=self._measured(list(asked.values()), champion.version))
        found = self._memo["drift"]
        if found.auc is None or found.interval is None:
            return Seen(False, "drift: too few of the champion's rows are kept to compare with")
        low, high = found.interval
        said = f"drift: {len(asked)} questions are told from the champion's rows with AUC {found.auc:.2f}"
        return Seen(low >= bound, f"{said} [{low:.2f}, {high:.2f}]; {bound:g} asks for a run")

    def _measured(self, asked: list[str], champion: int) -> Any:
        tasks = tasks_of(ancestry(self._workspace, champion)).values()
        rows = {
            row.content_id: row.prompt[-1].content
            for task in tasks
            for row in rows_of(self._workspace, task)
            if row.prompt
        }
        taught = [rows[name] for name in sorted(rows)[:LATEST]]  # by hash: a sample that is the same each time
        return measure(
            [Kept(text[:SAMPLE_CHARS], "") for text in asked], [Kept(text[:SAMPLE_CHARS], "") for text in taught]
        )


def _questions(turns: Any) -> list[str]:
    return [turn.content for turn in turns if turn.role == "user" and turn.content.strip()]
