"""The versions that are put together: whether they can stand beside each other, and what they know between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nacre.base.errors import InputError
from nacre.cycle.lineage import Task, ancestry, devs, rows_of, tasks_of
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.model.ensemble import check_member
from nacre.model.quantised import answers_quantised
from nacre.records import Environment, Example, Lineage, RowsFile, Version, Weights

LEARNED = "sft"  # kind of rows that have answers to be scored on


@dataclass(frozen=True)
class Members:
    """Versions with one plain adapter each, on one base."""

    workspace: Workspace
    versions: tuple[Version, ...]

    @cached_property
    def weights(self) -> tuple[Weights, ...]:
        """Where each member's weights lie."""
        return tuple(map(self.workspace.weights, self.versions))

    @property
    def adapters(self) -> list[Path]:
        """The folder of each member's adapter."""
        return [weights.adapter for weights in self.weights if weights.adapter is not None]

    @property
    def artifacts(self) -> list[str]:
        """The hash of each member's artifact."""
        return [version.artifact for version in self.versions]

    @cached_property
    def known(self) -> list[dict[str, Task]]:
        """What each member knows."""
        return [tasks_of(ancestry(self.workspace, version.number)) for version in self.versions]

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """What any of them knows; of a task that several know, the first one's dev rows."""
        first, *others = self.known
        found = dict(first)
        for one in (task for tasks in others for task in tasks.values()):
            have = found.get(one.name)
            if have is None:
                found[one.name] = one
                continue
            train = (*have.train, *(file for file in one.train if file not in have.train))
            found[one.name] = Task(one.name, train, have.dev or one.dev, have.learned_in)
        return found

    @property
    def others(self) -> tuple[Lineage, ...]:
        """What the first one does not know: the rows of the others, with the dev rows that count here."""
        first = {file for task in self.known[0].values() for file in task.train}
        return tuple(
            Lineage(task=task.name, train=file, dev=task.dev)
            for task in self.tasks.values()
            for file in task.train
            if file not in first
        )

    @property
    def devs(self) -> list[tuple[str, RowsFile]]:
        """The tasks that can be scored, with their dev rows."""
        return devs(self.tasks)

    def train_rows(self, most: int) -> dict[str, list[Example]]:
        """Of each task at most so many kept train rows with answers, no dev row among them; always the same ones."""
        held_out = {row.content_id for _, dev in self.devs for row in read_rows(self.workspace.memory, dev)}
        found = {}
        for name, task in self.tasks.items():
            rows = [row for row in rows_of(self.workspace, task) if row.kind == LEARNED]
            rows = sorted((row for row in rows if row.content_id not in held_out), key=lambda row: row.content_id)
            if rows:
                found[name] = rows[:most]
        return found


def check_members(workspace: Workspace, numbers: Sequence[int]) -> Members:
    """The versions of these numbers, if their adapters can answer together and be judged.

    Raises:
        InputError: there is no such version; one has no adapter, or several, or one that is more than LoRA; they sit on
            different bases, or read texts differently; one has learned dev rows that all are judged by.
    """
    members = Members(workspace, tuple(ancestry(workspace, number)[-1] for number in map(_trained, numbers)))
    for version in members.versions:
        if version.kind != "adapter":
            what = f"version {version.number} has no adapter: it is {version.kind}"
            raise InputError(what, where=f"version {version.number}", fix="train with tune: lora, then combine")
    for version, weights in zip(members.versions, members.weights, strict=True):
        where = f"version {version.number}"
        if weights.several:
            raise InputError(f"{where} is {weights.several}", where=where, fix="name the versions that it was made of")
        assert weights.adapter is not None
        check_member(weights.adapter, where)
    _check_alike(members)
    _check_apart(members)
    return members


def _trained(number: int) -> int:
    if not number:
        raise InputError("version 0 is the base model, which has no adapter", where="nacre combine", fix="leave it out")
    return number


def _check_alike(members: Members) -> None:
    """Refuse adapters that do not sit on the very same base.

    Raises:
        InputError: they do not.
    """
    first, *others = zip(members.versions, members.weights, strict=True)
    version, weights = first
    for other, held in others:
        both = f"versions {version.number} and {other.number}"
        if held.model != weights.model:
            start = version.parents[0] if version.parents else 0
            fix = f"train them from the same version, e.g. nacre evolve NAME --from {start} with tune: lora"
            raise InputError(f"the adapters of {both} sit on different bases", where=both, fix=fix)
        if answers_quantised(held.adapter) != answers_quantised(weights.adapter):
            fix = "combine adapters that are answered on the same base: tune.answers must be the same"
            raise InputError(f"the bases of {both} are not held in as many bits", where=both, fix=fix)
        here, there = version.environment, other.environment
        if any(one and two and one != two for one, two in _reading(here, there)):
            fix = "train them with the same tokenizer and template"
            raise InputError(f"{both} do not turn the same text into the same tokens", where=both, fix=fix)


def _reading(here: Environment, there: Environment) -> list[tuple[str, str]]:
    return [(here.tokenizer, there.tokenizer), (here.template, there.template)]


def _check_apart(members: Members) -> None:
    """Refuse a member that has learned rows which all of them are judged by: the gate would see its memory.

    Raises:
        InputError: one has.
    """
    memory = members.workspace.memory
    judged = {row.content_id: name for name, dev in members.devs for row in read_rows(memory, dev)}
    for version, known in zip(members.versions, members.known, strict=True):
        learned = {row.content_id for task in known.values() for row in rows_of(members.workspace, task)}
        seen = sorted({judged[row] for row in learned & judged.keys()})
        if seen:
            count = len(learned & judged.keys())
            where = f"version {version.number}"
            what = f"{where} has learned {count} of the dev rows that all are judged by ({', '.join(seen)})"
            fix = "keep one dev.json apart from the train rows of all of them, and train that version anew"
            raise InputError(what, where=where, fix=fix)
