"""The gate outside `evolve`: any two versions; and what the dev rows can show, told before training."""

from dataclasses import replace
from itertools import pairwise

from nacre.base.errors import InputError
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.scores.judging import judge_version
from nacre.cycle.scores.known import KnownReports
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.gate.budget import ASSUMED_PSI, Ability
from nacre.gate.files import Gated, Overrides
from nacre.records import Report, RowsFile
from nacre.records.report import paired_scores
from nacre.stats.paired import paired


def gate_versions(
    workspace: Workspace, old: int, new: int, overrides: Overrides | None = None, *, keep_as: str = ""
) -> Gated:
    """Judge version `new` against version `old`; 0 is the base model. Reports of what was scored are written.

    Args:
        keep_as: who keeps the verdict in the ledger, as if `evolve` had judged so; empty: nobody, it is only told.

    Raises:
        InputError: there is no such version, or a verdict by other rules than those of the settings is to be kept.
    """
    if keep_as and overrides not in (None, Overrides()):
        raise InputError(
            "a verdict by other rules than those of nacre.yaml is not kept",
            where="keep_as",
            fix="give no overrides, or change keep and gate in nacre.yaml",
        )
    if keep_as and not new:
        raise InputError("the base model has no verdicts", where="version 0", fix="name a version")
    said = overrides or Overrides()
    keep, gate = said.applied(workspace.settings.keep, workspace.settings.gate)
    settings = workspace.settings.model_copy(update={"keep": keep, "gate": gate})
    made = workspace.ledger.version(new) if new else None
    if old:
        workspace.ledger.version(old)
    with replace(workspace, settings=settings) as space:
        judged = judge_version(space, Scorer(space), made, old or None)
    if keep_as:
        workspace.ledger.put_verdict(new, old or None, judged.verdict, actor=keep_as)
    return Gated(said.credited(judged.verdict), judged.notes, judged.new_tasks)


def power_notes(workspace: Workspace, against: int | None) -> list[str]:
    """What the dev rows of each kept task can show, told before anything is trained.

    How many answers a training changes is not known yet: it is taken from the last two versions that knew the task and
    were scored on it, else from `ASSUMED_PSI`.
    """
    settings = workspace.settings
    line = ancestry(workspace, against)
    tasks = tasks_of(line)
    notes, known = [], KnownReports(workspace)
    for name, dev in devs(tasks):
        # before a task was learned its answers changed for another reason
        identities = [version.artifact for version in line if version.number >= tasks[name].learned_in]
        psi, binary, source = _last_change(known, identities, name, dev)
        able = Ability(dev.rows, psi, binary, settings.gate, len(tasks))
        if dev.rows < 2:
            notes.append(f"{name}: {dev.rows} dev rows cannot show anything")
            continue
        shown, asked = able.smallest, settings.keep.tasks.get(name, settings.keep.max_drop)
        told = f"{name}: with {dev.rows} dev rows a drop below {shown:.3f} cannot be seen ({source})"
        if asked != "auto" and 0 < asked < shown:
            told += f"; the margin of {asked:.3f} would take about {able.rows_for(asked)}"
        notes.append(told)
    return notes


def _last_change(known: KnownReports, identities: list[str], task: str, dev: RowsFile) -> tuple[float, bool, str]:
    """Mean squared difference of the newest two versions with reports, whether scores are right/wrong, and a reason."""
    newest: list[Report] = []
    for identity in reversed(identities):
        found = known.find(identity, task, dev)  # both by the metric, decoding and judge of the settings
        newest += [found] if found else []
    for new, old in pairwise(newest):
        before, after = paired_scores(old, new)
        if len(before) >= 2:
            scores = paired(before, after)
            what = f"{scores.psi:.1%} of the answers changed last time"
            if not scores.binary:
                what = f"the mean squared difference was {scores.psi:.4f} last time"
            return scores.psi, scores.binary, what
    binary = all(score in (0, 1) for report in newest[:1] for score in report.scores[report.metric])
    return ASSUMED_PSI, binary, f"if {ASSUMED_PSI:.0%} of the answers change, which nothing tells yet"
