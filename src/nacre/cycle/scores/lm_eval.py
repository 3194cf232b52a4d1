"""lm-evaluation-harness and a workspace: its tasks run on a version, its samples become reports, our rows its tasks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.base.clock import now
from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.base.hashing import content_hash
from nacre.cycle.environment import refuse_another
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.scores.general import IMPORTED
from nacre.cycle.scores.imported import imported_reports
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows, write_rows
from nacre.evaluate.lm_eval.export import DevTask, Exported, export
from nacre.evaluate.lm_eval.harness import Request, installed, run, sample_lines
from nacre.evaluate.lm_eval.samples import Sampled, read_samples, sampled
from nacre.evaluate.plan import plan
from nacre.model.load import judges, load_model, load_tokenizer, positions
from nacre.records import Report, TaskSettings, Weights


@dataclass(frozen=True)
class Imported:
    """Reports that came into the ledger, by their task there, and sentences on what was chosen or left out."""

    version: int
    reports: dict[str, Report]
    notes: tuple[str, ...]


def run_tasks(workspace: Workspace, number: int, request: Request) -> Imported:
    """Run the harness's tasks on version `number` (0: the base model), and keep the scores as reports.

    The samples files lie below `.nacre/lm-eval/`, as the harness would have written them.

    Raises:
        InputError: the harness is not installed, a task is unknown, or its data are not on this machine; there is no
            such version, it is a reward model, which does not answer, or it has several adapters.
    """
    weights = weights_of(workspace, number)
    if weights.routed:
        # it asks for the likelihood of question and answer in one piece, so the router would read the answer
        what = "lm-eval does not say where a question ends, so no router can choose an adapter by it"
        fix = "run it on a version with one adapter, or export the dev rows and score this one with nacre evaluate"
        raise InputError(what, where=f"version {number}, several adapters behind a router", fix=fix)
    if weights.ensemble:
        what = "lm-eval asks one model, and this one is several adapters that answer together"
        fix = "run it on its members, or score this one with nacre evaluate"
        raise InputError(what, where=f"version {number}", fix=fix)
    refuse_another(workspace, weights)
    version = installed().version
    model, tokenizer, max_length = load_model(weights), load_tokenizer(weights), _max_length(workspace, weights)
    if judges(model):
        fix = "run it on a version that answers"
        raise InputError("a reward model answers no questions", where=f"version {number}", fix=fix)
    found = run(request, model, tokenizer, max_length)
    folder = workspace.hidden / "lm-eval" / f"v{number}"
    reports, notes = {}, [f"lm-eval {version}; its samples are in {folder}"]
    if request.limit:
        notes.append(f"at most {request.limit} rows of each task: scores compare with runs of the same limit only")
    for task, samples in found.items():
        lines = sample_lines(samples)
        text = "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines)
        atomic_write(folder / f"samples_{task}_{_stamp()}.jsonl", text)
        try:
            one = sampled(task, lines, max_length=max_length)
        except InputError as error:
            notes.append(f"{task} has no report: {error.what}")
            continue
        reports[IMPORTED + task] = _keep(workspace, weights, one)
        notes += [f"{task}: {note}" for note in one.notes]
    return Imported(number, reports, tuple(notes))


def import_samples(
    workspace: Workspace,
    number: int,
    files: Sequence[Path],
    *,
    metric: str | None = None,
    filtered: str | None = None,
) -> Imported:
    """Keep samples files of the harness as reports on version `number` (0: the base model).

    Args:
        workspace: its ledger gets the reports, its memory what was asked, with the harness's hashes.
        number: the version that answered.
        files: `samples_TASK_DATE.jsonl`, one a task.
        metric: the metric to read, of those in the files.
        filtered: the filter to read, where a task has several.

    Raises:
        InputError: no such version, or a file that cannot be used; then nothing was kept.
    """
    weights = weights_of(workspace, number)
    max_length = _max_length(workspace, weights)
    read: dict[str, Sampled] = {}
    for path in files:
        task, lines = read_samples(path)
        if task in read:
            fix = "give one samples file a task"
            raise InputError(f"two of the files are of the task {task}", where=str(path), fix=fix)
        read[task] = sampled(task, lines, metric=metric, filtered=filtered, max_length=max_length, where=str(path))
    reports = {IMPORTED + task: _keep(workspace, weights, one) for task, one in read.items()}
    return Imported(number, reports, tuple(f"{task}: {note}" for task, one in read.items() for note in one.notes))


def export_tasks(workspace: Workspace, number: int, folder: Path) -> Exported:
    """Write the dev rows of every task that version `number` knows as tasks of the harness.

    Raises:
        InputError: there is no such version, or it has no task with dev rows.
        NacreError: the disk is full or cannot be written.
    """
    line = ancestry(workspace, number)
    weights = weights_of(workspace, number)
    tokenizer, max_length = load_tokenizer(weights), _max_length(workspace, weights)
    found = []
    for name, dev in devs(tasks_of(line)):
        rows = read_rows(workspace.memory, dev)
        settings = workspace.settings.evaluate.tasks.get(name, TaskSettings())
        found.append(DevTask(name, rows, plan(rows, settings, tokenizer, max_length).decoding))
    if not found:
        fix = "bring dev.json beside train.json"
        raise InputError("there is nothing to export: no task has dev rows", where=f"version {number}", fix=fix)
    return export(folder, found, tokenizer)


def weights_of(workspace: Workspace, number: int) -> Weights:
    """Weights of a version; 0 is the base model.

    Raises:
        InputError: there is no such version.
    """
    return workspace.weights(workspace.ledger.version(number)) if number else workspace.base


def _keep(workspace: Workspace, weights: Weights, one: Sampled) -> Report:
    """The scores as a report; its dev rows are what the harness asked, so equal rows and prompts give equal ones.

    Other scores than the newest ones are a report of their own, which is the newest from then on.
    """
    rows = write_rows(workspace.memory, one.rows)
    report = Report(
        weights=weights.identity,
        task=IMPORTED + one.task,
        dev=rows.sha256,
        rows=rows.rows,
        metric=one.metric,
        why=one.notes[0],
        decoding=one.decoding,
        scores=one.scores,
        totals={},
        answers=one.answers,
        notes=one.notes[1:],
    )
    earlier = imported_reports(workspace, weights).get(report.task)
    if earlier is not None and earlier.changed(judged="", notes=report.notes, why=report.why) == report:
        return earlier
    before = earlier.key if earlier else ""  # so that a file that is imported once more counts again
    report = report.changed(judged=content_hash([before, one.scores, one.answers]))
    workspace.ledger.put_report(report)
    return report


def _max_length(workspace: Workspace, weights: Weights) -> int:
    wanted = workspace.settings.evaluate.max_length
    return min(wanted, positions(weights) or wanted)


def _stamp() -> str:
    """The time as the harness writes it into file names."""
    return now()[:19].replace(":", "-")


def described(found: Imported) -> dict[str, Any]:
    """For ``--json``: per task the metric, its mean, the rows, and what identifies them."""
    return {
        "version": found.version,
        "tasks": {
            task: {"metric": report.metric, "mean": report.mean, "rows": report.rows, "dev": report.dev}
            for task, report in found.reports.items()
        },
        "notes": list(found.notes),
    }
