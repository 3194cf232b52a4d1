"""Score the champion and a candidate on every task, and let the gate judge what the champion knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nacre.base.errors import nearest
from nacre.cycle.lineage import Task, ancestry, devs, tasks_of
from nacre.cycle.scores.imported import imported_pairs
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.scores.units import Reader, in_same_units
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.gate.budget import margin_for
from nacre.gate.judge import judge
from nacre.gate.methods import stopping_test
from nacre.gate.pair import TaskPair, reading_order
from nacre.gate.rules import check_rules
from nacre.records import Report, RowsFile, Verdict, Version, Weights
from nacre.records.gating import Improvement, Length, Perplexity, Refusals, Rule, Safety
from nacre.stats.paired import paired
from nacre.stats.sequential import FIRST_LOOK, next_look

FIRST_CHUNK = FIRST_LOOK  # dev rows scored before the first look; see `next_look` for the further ones
WHOLE = (Safety, Improvement, Perplexity, Refusals, Length)  # rules that count or look once: at all rows


@dataclass(frozen=True)
class Judged:
    """The gate's verdict on the kept tasks, (before, after) of the tasks the champion does not know, and notes."""

    verdict: Verdict
    new_tasks: Mapping[str, tuple[float, float]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Sides:
    """The two versions that are compared, and who scores them."""

    workspace: Workspace
    scorer: Scorer
    champion: Weights
    candidate: Weights
    notes: list[str] = field(default_factory=list)

    def reports(self, tasks: Mapping[str, RowsFile]) -> tuple[dict[str, Report], dict[str, Report]]:
        """Every row of some tasks, before and after."""
        old, new = (self.scorer.reports(weights, tasks.items()) for weights in (self.champion, self.candidate))
        return old, self._in_same_units(tasks, old, new)

    def parts(
        self, tasks: Mapping[str, RowsFile], order: Mapping[str, list[int]], upto: int
    ) -> tuple[dict[str, Report], dict[str, Report]]:
        """The first rows of some tasks in the order of reading, one side after the other: one model at a time."""
        found: tuple[dict[str, Report], dict[str, Report]] = ({}, {})
        for weights, reports in zip((self.champion, self.candidate), found, strict=True):
            for name, dev in tasks.items():
                if upto < dev.rows:
                    reports[name] = self.scorer.rows(weights, name, dev, order[name][:upto])
                else:
                    reports |= self.scorer.reports(weights, [(name, dev)])
        return found[0], self._in_same_units(tasks, *found)

    def _in_same_units(
        self, tasks: Mapping[str, RowsFile], old: dict[str, Report], new: dict[str, Report]
    ) -> dict[str, Report]:
        """The new reports; where the two cut text into different tokens, with losses per token of the champion's."""
        readers = self._readers
        if len(readers[0].tokenizer) == len(readers[1].tokenizer):
            return new
        found = {}
        for name, dev in tasks.items():
            examples = read_rows(self.workspace.memory, dev)
            found[name], note = in_same_units(old[name], new[name], examples, readers)
            self.notes.extend([note] if note and note not in self.notes else [])
        return found

    @cached_property
    def _readers(self) -> tuple[Reader, Reader]:
        return self.scorer.reader(self.champion), self.scorer.reader(self.candidate)

    def pair(self, name: str, dev: RowsFile, old: Report, new: Report, order: list[int]) -> TaskPair:
        """The pairs of one task, in the order of reading."""
        examples = read_rows(self.workspace.memory, dev)
        sides = [dict(zip(one.places, one.scores[one.metric], strict=True)) for one in (old, new)]
        said = [dict(zip(one.places, one.answers, strict=False)) for one in (old, new)]
        places = [place for place in order if place in sides[0] and place in sides[1]]
        return TaskPair(
            task=name,
            metric=new.metric,
            before=[sides[0][place] for place in places],
            after=[sides[1][place] for place in places],
            ids=[str(place) for place in places],
            prompts=[examples[place].prompt[-1].content if examples[place].prompt else "" for place in places],
            answers_before=[said[0].get(place, "") for place in places],
            answers_after=[said[1].get(place, "") for place in places],
            rows_of=dev.rows,
            read_in_order=True,
            first=FIRST_CHUNK if stops_early(self.workspace, name, dev) else None,
        )


def judge_version(workspace: Workspace, scorer: Scorer, made: Version | None, against: int | None) -> Judged:
    """Judge `made`, which need not be registered yet, against the champion `against`; None is the base model.

    Every task that the champion knows is kept, whether or not `made` descends from the champion.
    """
    settings = workspace.settings
    champion_line = ancestry(workspace, against)
    known = tasks_of(champion_line)
    line = [*ancestry(workspace, made.parents[0] if made.parents else None), made] if made else []
    mine = tasks_of(line)
    brought = _brought(champion_line, line, known, mine)
    tasks = dict(devs({**known, **mine, **brought}))
    notes = [
        f"{name} has no dev rows: it cannot be proved that it is {'kept' if name in known else 'learned'}"
        for name in {**known, **mine}
        if name not in tasks
    ]
    notes += [f"{name}: judged by the champion's dev rows, not by those that an archive brought" for name in brought]
    notes += unknown_settings(workspace, [*known, *mine])
    if not tasks:
        nothing = check_rules({}, {}, settings.gate, settings.keep.confidence, kept=[])
        return Judged(judge([], settings.keep, settings.gate, nothing), {}, tuple(notes))
    champion = workspace.weights(champion_line[-1]) if champion_line else workspace.base
    sides = _Sides(workspace, scorer, champion, workspace.weights(made) if made else workspace.base)
    kept = {name: dev for name, dev in tasks.items() if name in known}
    fresh = {name: dev for name, dev in tasks.items() if name not in known}
    early = {name: dev for name, dev in kept.items() if stops_early(workspace, name, dev)}
    old, new = sides.reports({name: dev for name, dev in tasks.items() if name not in early})
    elsewhere, told = imported_pairs(workspace, champion, sides.candidate)
    for name, reports in _until_decided(sides, early, len(kept) + len(elsewhere)).items():
        old[name], new[name] = reports
    pairs = [sides.pair(name, dev, old[name], new[name], _order(dev)) for name, dev in kept.items()]
    pairs += elsewhere
    notes += told
    rules = check_rules(old, new, settings.gate, settings.keep.confidence, kept=list(kept), fresh=list(fresh))
    notes += [
        f"{name}: {new[name].rows} of {dev.rows} dev rows were scored, which decided it; a rule that reads the task, "
        "or gate.stop_early: null, has all of them scored"
        for name, dev in early.items()
        if new[name].at
    ]
    return Judged(
        judge(pairs, settings.keep, settings.gate, rules),
        {name: (old[name].mean, new[name].mean) for name in fresh},
        (*notes, *sides.notes, *grouped_notes(new)),
    )


def _brought(
    champion_line: Sequence[Version], line: Sequence[Version], known: Mapping[str, Task], mine: Mapping[str, Task]
) -> dict[str, Task]:
    """Kept tasks as the champion knows them, where another archive's dev rows would stand in for its own.

    Who makes an archive chooses the rows that come with it, and may choose rows that show no loss.
    """
    if not {one.number for one in line if one.origin} - {one.number for one in champion_line}:
        return {}
    return {name: task for name, task in known.items() if task.dev and name in mine and mine[name].dev != task.dev}


def stops_early(workspace: Workspace, name: str, dev: RowsFile) -> bool:
    """Whether a kept task is scored in chunks: it has many rows, and no rule reads it.

    A rule looks once. At a number of rows that the sequential test chose, because there the drop looked small or large,
    its bounds would not hold.
    """
    gate = workspace.settings.gate
    many = gate.stop_early is not None and dev.rows > max(gate.stop_early, FIRST_CHUNK)
    return many and gate.test == "sequential" and not any(_reads(rule, name) for rule in gate.rules)


def _reads(rule: Rule, kept: str) -> bool:
    """Whether a rule needs all rows of a kept task. Without names `improvement` reads new tasks, others all kept."""
    if not isinstance(rule, WHOLE):
        return False
    return kept in rule.tasks or (not rule.tasks and not isinstance(rule, Improvement))


def _until_decided(sides: _Sides, tasks: Mapping[str, RowsFile], count: int) -> dict[str, tuple[Report, Report]]:
    """Reports of as many rows of each task as its test needed, at most all; `count` tasks are judged together."""
    settings = sides.workspace.settings
    keep, gate = settings.keep, settings.gate
    order = {name: _order(dev) for name, dev in tasks.items()}
    left, found, upto = dict(tasks), {}, FIRST_CHUNK
    while left:
        old, new = sides.parts(left, order, upto)
        for name, dev in list(left.items()):
            pair = sides.pair(name, dev, old[name], new[name], order[name])
            first = paired(pair.before[:FIRST_CHUNK], pair.after[:FIRST_CHUNK])
            margin = margin_for(name, first, keep, gate, rows=dev.rows, tasks=count).value
            test = stopping_test(margin, gate, confidence=keep.confidence, tasks=count)
            if test.feed(pair.differences()) or upto >= dev.rows:
                found[name] = (old[name], new[name])
                del left[name]
        upto = max(next_look(upto, dev.rows) for dev in left.values()) if left else upto
    return found


def _order(dev: RowsFile) -> list[int]:
    return reading_order([str(place) for place in range(dev.rows)])


def grouped_notes(reports: Mapping[str, Report]) -> list[str]:
    """How each task was scored and what was cut; what holds for several tasks is said once."""
    found: dict[str, list[str]] = {}
    for name, report in reports.items():
        for note in (f"scored by {report.why}", *report.notes):
            found.setdefault(note, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in found.items()]


def unknown_settings(workspace: Workspace, tasks: list[str]) -> list[str]:
    """Notes on evaluation settings for tasks that nobody knows; the gate says so of its margins itself."""
    notes = []
    for name in sorted(set(workspace.settings.evaluate.tasks) - set(tasks)):
        close = nearest(name, tasks)
        hint = f"; did you mean '{close}'?" if close else ""
        notes.append(f"evaluate.tasks names '{name}', which is no task of this version: ignored{hint}")
    return notes
