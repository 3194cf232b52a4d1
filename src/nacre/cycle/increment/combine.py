"""Adapters put together, from several versions to one judged child: check → weigh → write → measure → gate → register.

What comes out is a version whose parents are the members. It goes the way an increment goes: it is scored on every
task that any of them knows, nothing is promoted that the gate has not passed, and a command that was killed leaves the
ledger as it was.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from nacre import __version__
from nacre.base.errors import InputError, unknown
from nacre.base.files import atomic_write, file_lock, staged_folder
from nacre.base.hashing import content_hash
from nacre.cycle.environment import environment_of
from nacre.cycle.increment.energy import Meter
from nacre.cycle.increment.evolution import Evolution
from nacre.cycle.increment.members import Members, check_members
from nacre.cycle.increment.settle import Decision, in_use, settle, waits
from nacre.cycle.increment.shares import ROWS, check_budget, search
from nacre.cycle.increment.step import Promote
from nacre.cycle.lineage import as_lineage
from nacre.cycle.reports.report import keep_report_or_say
from nacre.cycle.scores.judging import Judged, judge_version
from nacre.cycle.scores.matrix import lineage_matrix
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.scores.weighing import weigh
from nacre.cycle.workspace import Workspace
from nacre.gate.report import rule_line
from nacre.model.ensemble import Plan, write_merged
from nacre.model.load import load_model, load_tokenizer, pick_device, positions
from nacre.model.routed import with_adapters
from nacre.records import Combined, Combining, Manifest, Version
from nacre.records.combination import By, Member, Searched
from nacre.records.manifest import MANIFEST
from nacre.registry.slots import Slot

WEIGHED = ("weighted", "layers", "merge")  # ways that weights can be given for


@dataclass(frozen=True)
class Combination:
    """What `combine` did: the version as `evolve` would tell of it, and what it gained and costs."""

    evolution: Evolution
    combined: Combined

    @property
    def exit_code(self) -> int:
        """As `Evolution.exit_code`."""
        return self.evolution.exit_code

    def as_dict(self) -> dict[str, Any]:
        """The fields of ``--json``."""
        return {**self.evolution.as_dict(), "combined": self.combined.model_dump(mode="json")}


@dataclass(frozen=True)
class _Task:
    """Versions to put together, and everything that is known before they are."""

    workspace: Workspace
    members: Members
    asked: Combining
    champion: Slot | None
    promote: Promote
    actor: str

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.workspace)

    @property
    def work(self) -> Path:
        """The folder it is done in, named by what decides the result."""
        key = content_hash(["combine", self.asked.model_dump(mode="json"), self.members.artifacts])
        return self.workspace.hidden / "runs" / key[:16]

    @cached_property
    def scores(self) -> list[float | None]:
        """Of each member the mean of its dev scores, over all tasks that any of them knows."""
        tasks = self.members.devs
        reports = [self.scorer.reports(weights, tasks) for weights in self.members.weights]
        return [sum(one.mean for one in found.values()) / len(found) if found else None for found in reports]

    @property
    def ranked(self) -> list[int]:
        """The members' places, best dev score first; of equal ones in the order they were named."""
        return sorted(range(len(self.scores)), key=lambda place: -(self.scores[place] or 0.0))

    @property
    def against(self) -> int:
        """The version that the result is judged against: the champion, or where there is none the best member."""
        return self.champion.version if self.champion else self.members.versions[self.ranked[0]].number


def combine(
    workspace: Workspace,
    numbers: Sequence[int],
    by: str,
    *,
    weights: Sequence[float] = (),
    search: int = 0,
    promote: Promote | None = None,
    actor: str = "combine",
) -> Combination:
    """Put the adapters of several versions together, judge what comes of it, and register it as their child.

    Args:
        workspace: where the versions are.
        numbers: of the versions; each has a plain LoRA adapter, and all sit on one base.
        by: vote, mean, weighted, layers or merge, see `nacre.records.combination`.
        weights: one for each; default: weighted: by dev score, layers: 1, merge: equal shares of 1.
        search: merge: look for the weights on kept train rows with at most so many evaluations; 0 does not.
        promote: make it champion when the gate passes it, or never; default: as `nacre.yaml` says.
        actor: who the history says did it.

    Raises:
        InputError: no such version or way; versions that cannot stand together; nothing was made.
        NacreError: disk full, a damaged artifact, or another run in this workspace.
    """
    asked = settled(numbers, by, weights, search)
    with file_lock(workspace.hidden / "evolve.lock", wait=False):
        workspace.store.sweep()
        members = check_members(workspace, asked.members)
        champion = workspace.ledger.slot("champion")
        task = _Task(workspace, members, asked, champion, promote or workspace.settings.gate.promote, actor)
        return _known_already(task) or _make(task)


def settled(numbers: Sequence[int], by: str, weights: Sequence[float], budget: int) -> Combining:
    """What is asked for, looked at before anything is opened.

    Raises:
        InputError: an unknown way, too few versions or one twice, weights or a search that the way does not have.
    """
    if by not in get_args(By):
        raise unknown("way to combine", by, get_args(By), where="--by")
    twice = next((number for number in numbers if list(numbers).count(number) > 1), None)
    if twice is not None or len(numbers) < 2:
        what = f"version {twice} is named twice" if twice is not None else "there is nothing to put together"
        raise InputError(what, where="nacre combine", fix="name two versions or more, each once")
    if by == "vote" and len(numbers) == 2:
        what = "a vote of two says what the better one says: where they differ, nobody has more votes"
        raise InputError(what, where="--by vote", fix="name three versions or more, or combine two by mean")
    if weights and by not in WEIGHED:
        raise InputError(
            f"{by} has no weights", where="--weights", fix=f"leave them out, or --by {' or '.join(WEIGHED)}"
        )
    if weights and len(weights) != len(numbers):
        what = f"{len(weights)} weights for {len(numbers)} versions"
        raise InputError(what, where="--weights", fix="give one for each, with commas between them")
    if weights and by == "weighted" and (min(weights) < 0 or sum(weights) <= 0):
        raise InputError("a probability has no negative weight", where="--weights", fix="give weights of 0 or more")
    if budget:
        if by != "merge" or weights:
            what = "weights are given" if weights else f"{by} is not searched for weights"
            raise InputError(what, where="--search", fix="use it with --by merge, without --weights")
        check_budget(budget, len(numbers))
    return Combining(by=by, members=tuple(numbers), weights=tuple(map(float, weights)), search=budget)


def _known_already(task: _Task) -> Combination | None:
    """A version that was put together in exactly this way, if its weights are here: judged anew, not made."""
    workspace = task.workspace
    for version in workspace.ledger.versions()[::-1]:
        told = version.combined
        if told and told.how == task.asked and not version.origin and workspace.store.has(version.artifact):
            notes = [f"nothing to make: version {version.number} was put together in exactly this way"]
            if any(one.kind == "promoted" and one.detail["to"] == version.number for one in workspace.ledger.events()):
                task = replace(task, promote="never")
                if not in_use(workspace, version):
                    notes.append(f"it was champion once: nacre promote {version.number} makes it that again")
            judged = judge_version(workspace, task.scorer, version, task.against)
            found = _settled(task, version, judged, [*notes, *sentences(told)])
            return Combination(replace(found, trained=False, evaluate_seconds=task.scorer.seconds), told)
    return None


def _make(task: _Task) -> Combination:
    """Write, measure, judge, and only then register: what cannot be judged never gets a number."""
    workspace, members = task.workspace, task.members
    task.scorer.check(members.weights[0], members.devs)
    with Meter(gpu=pick_device().type == "cuda") as meter:
        shares, searched = _shares(task)
        folder, notes = _written(task, shares)
    atomic_write(folder / MANIFEST, _manifest(task, folder).model_dump_json(indent=1))
    artifact = workspace.store.publish_folder(folder)
    after = members.weights[0].changed(identity=artifact, adapter=workspace.store.path(artifact))
    best = members.weights[task.ranked[0]]
    pair = weigh(workspace, task.scorer, best, after, members.devs)
    made = _version(task, folder, artifact, meter)
    passes = 1 if task.asked.by in ("layers", "merge") else len(shares)
    ranked = tuple(_member(task, place, shares[place]) for place in task.ranked)
    combined = Combined(how=task.asked, members=ranked, passes=passes, searched=searched, **pair._asdict())
    made = made.changed(combined=combined)
    judged = judge_version(workspace, task.scorer, made, task.against)
    fields = made.model_dump(exclude={"number", "created", "schema_version"})
    version = workspace.ledger.add_version(actor=task.actor, **fields)
    assert version.combined is not None
    found = _settled(task, version, judged, [*notes, *sentences(version.combined)])
    shutil.rmtree(task.work, ignore_errors=True)
    return Combination(replace(found, evaluate_seconds=task.scorer.seconds), version.combined)


def _shares(task: _Task) -> tuple[tuple[float, ...], Searched | None]:
    """The weight of each member, in the order they were named."""
    asked, count = task.asked, len(task.asked.members)
    if asked.by == "vote" or (asked.by == "layers" and not asked.weights):
        return (1.0,) * count, None
    if asked.search:
        return _searched(task)
    given = asked.weights
    if asked.by == "weighted" and not given:
        given = tuple(score or 0.0 for score in task.scores)
        if not sum(given):
            what = "no member has a dev score above 0 that it could be weighted by"
            raise InputError(what, where="--by weighted", fix="give --weights, or combine by mean")
    if asked.by in ("layers", "merge") and given:
        return given, None
    total = sum(given) if given else float(count)
    return tuple(share / total for share in given or (1.0,) * count), None


def _searched(task: _Task) -> tuple[tuple[float, ...], Searched]:
    """Shares looked for on a few kept train rows of every task; no dev row is among them."""
    rows = task.members.train_rows(ROWS)
    if not rows:
        what = "no rows with answers are kept that the weights could be looked for on"
        raise InputError(what, where="--search", fix="give --weights, or keep some rows (keep.data)")
    first = task.members.weights[0]
    tokenizer = load_tokenizer(first)
    limit = task.workspace.settings.evaluate.max_length
    names = [f"member_{place}" for place, _ in enumerate(task.members.adapters, 1)]
    model = load_model(first.changed(adapter=None))
    peft = with_adapters(model, dict(zip(names, task.members.adapters, strict=True))).eval()
    return search(peft, names, rows, tokenizer, min(limit, positions(first) or limit), task.asked.search)


def _written(task: _Task, shares: Sequence[float]) -> tuple[Path, list[str]]:
    """The folder with the adapters and the tokenizer; made anew, whatever a killed command left there."""
    members, by = task.members, task.asked.by
    notes: list[str] = []
    folder = task.work / "together"
    shutil.rmtree(folder, ignore_errors=True)
    with staged_folder(folder) as staging:
        if by == "merge":
            model = load_model(members.weights[0].changed(adapter=None))
            rank = write_merged(model, members.adapters, shares, staging)
            notes.append(f"one adapter of rank {rank}, the sum of theirs: nothing is lost by merging")
        else:
            names = tuple(f"member_{place}" for place in range(1, len(shares) + 1))
            plan = Plan(by, names, tuple(shares[place] for place in task.ranked))
            plan.save(staging, [members.adapters[place] for place in task.ranked])
        load_tokenizer(members.weights[0]).save_pretrained(str(staging))
    return folder, notes


def _member(task: _Task, place: int, share: float) -> Member:
    version = task.members.versions[place]
    return Member(version=version.number, artifact=version.artifact, weight=share, score=task.scores[place])


def _manifest(task: _Task, folder: Path) -> Manifest:
    first = task.members.versions[0]
    return Manifest(
        kind="adapter",
        base=first.base,
        base_sha256=first.base_sha256,
        parent=first.artifact,
        needs=first.needs,
        recipe=first.recipe,
        environment=environment_of(folder),
        lineage=as_lineage(task.members.tasks),
        nacre=__version__,
        combined=task.asked,
    )


def _version(task: _Task, folder: Path, artifact: str, meter: Meter) -> Version:
    """The record but for what is measured: the first member's, with what the others know as well."""
    first = task.members.versions[0]
    return Version(
        number=0,
        parents=task.asked.members,
        base=first.base,
        base_sha256=first.base_sha256,
        kind="adapter",
        artifact=artifact,
        needs=first.needs,
        recipe=first.recipe,
        environment=environment_of(folder),
        snapshot=first.snapshot,
        tasks=tuple(task.members.tasks),
        share=task.workspace.settings.keep.data,
        energy=meter.energy,
        cpu_seconds=round(meter.cpu_seconds, 3),
        inherited=task.members.others,
    )


def _settled(task: _Task, version: Version, judged: Judged, notes: Sequence[str]) -> Evolution:
    """Keep the verdict and its report, and promote when the gate passes."""
    workspace, verdict = task.workspace, judged.verdict
    why = f"the gate passed {', '.join(map(str, task.asked.members))} together ({task.asked.by})"
    underway = settle(workspace, version, verdict, Decision(task.against, task.champion, task.promote, task.actor, why))
    gate = (*verdict.notes, *map(rule_line, verdict.rules), *waits(underway))
    told = {"together": tuple(notes), "scoring": judged.notes, "gate": gate}
    return Evolution(
        version=version,
        parent=task.asked.members[0],
        verdict=verdict,
        promoted=in_use(workspace, version),
        trained=True,
        matrix=lineage_matrix(workspace, version.number),
        new_tasks=judged.new_tasks,
        notes={**told, "report": keep_report_or_say(workspace, version.number, told)},
    )


def sentences(told: Combined) -> list[str]:
    """What was gained and what it costs, for the notes and the report."""
    before, after = told.before, told.after
    whose = ", ".join(
        f"version {one.version} × {one.weight:.3g}" + (f" (dev score {one.score:.3f})" if one.score is not None else "")
        for one in told.members
    )
    passes = "one forward pass" if told.passes == 1 else f"{told.passes} forward passes"
    said = [f"{told.how.by} of {whose}", f"a token takes {passes} of the base"]
    if told.searched:
        found = told.searched
        said.append(
            f"weights looked for in {found.evaluations} evaluations on {found.rows} kept train rows, none of them a "
            f"dev row: loss {found.before:.4f} with equal shares → {found.after:.4f}"
        )
    best = f"the best of them alone (version {told.members[0].version})"
    said.append(f"size {before.size_bytes:,} bytes of {best} → {after.size_bytes:,}")
    if before.tokens_s and after.tokens_s:
        pace = f"{before.tokens_s:,.0f} → {after.tokens_s:,.0f} tokens a second"
        said.append(f"decodes {pace}, {after.tokens_s / before.tokens_s:.2f} times as fast as {best}")
    if told.how.by == "vote":
        said.append("the members' answers are counted when all have ended: nothing of an answer is there before")
    if before.perplexity and after.perplexity:
        said.append(f"perplexity on the dev rows {before.perplexity:.3f} → {after.perplexity:.3f}")
    return said
