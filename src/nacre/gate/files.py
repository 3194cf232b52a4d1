"""Judge one file of scores against another; and what a command says instead of the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nacre.base.errors import InputError
from nacre.gate.budget import SET_BY_DEFAULT, SET_SOMEWHERE
from nacre.gate.judge import judge
from nacre.gate.rules import check_rules
from nacre.gate.samples import pair_samples, read_samples
from nacre.records import Keep, Verdict
from nacre.records.gating import Gate, GateTest


@dataclass(frozen=True)
class Overrides:
    """What a command says instead of `nacre.yaml`; None leaves it as it is there.

    Attributes:
        margin: of every task, instead of `keep.max_drop` and `keep.tasks`; or `auto`.
        confidence: instead of `keep.confidence`.
        test: instead of `gate.test`.
    """

    margin: float | Literal["auto"] | None = None
    confidence: float | None = None
    test: GateTest | None = None

    def applied(self, keep: Keep, gate: Gate) -> tuple[Keep, Gate]:
        """The settings with what was said.

        Raises:
            InputError: a margin or a confidence that cannot be.
        """
        if isinstance(self.margin, float | int) and not 0 <= self.margin <= 1:
            raise InputError(f"a margin of {self.margin} is no drop of a score", where="--margin", fix="give 0 to 1")
        if self.confidence is not None and not 0.5 < self.confidence < 1:
            fix = "give more than 0.5 and less than 1"
            raise InputError(f"a confidence of {self.confidence} cannot be", where="--confidence", fix=fix)
        kept: dict[str, Any] = {} if self.margin is None else {"max_drop": self.margin, "tasks": {}}
        kept |= {} if self.confidence is None else {"confidence": self.confidence}
        gated = {} if self.test is None else {"test": self.test}
        return keep.model_copy(update=kept), gate.model_copy(update=gated)

    def credited(self, verdict: Verdict) -> Verdict:
        """The verdict, where each margin that the command set is said to come from it."""
        if self.margin is None:
            return verdict
        said = [task.margin_why for task in verdict.tasks]
        for place in (SET_BY_DEFAULT, SET_SOMEWHERE):
            said = [f"set by --margin{why.removeprefix(place)}" if why.startswith(place) else why for why in said]
        tasks = [task.model_copy(update={"margin_why": why}) for task, why in zip(verdict.tasks, said, strict=True)]
        return verdict.model_copy(update={"tasks": tuple(tasks)})


def margin_of(text: str) -> float | Literal["auto"]:
    """What a command gives as a margin.

    Raises:
        InputError: neither a number nor `auto`.
    """
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        fix = "give 0 to 1, or auto"
        raise InputError(f"a margin of {text!r} is no number", where="--margin", fix=fix) from None


@dataclass(frozen=True)
class Gated:
    """A verdict, notes, and the score before and after of tasks that the old version does not know."""

    verdict: Verdict
    notes: tuple[str, ...]
    new_tasks: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def gate_files(
    old: Path | str,
    new: Path | str,
    keep: Keep,
    gate: Gate,
    overrides: Overrides | None = None,
    *,
    allow_missing: bool = False,
) -> Gated:
    """Judge one sample file against another, row by row; see `nacre.gate.samples`. ``FILE#KEY`` names the score's key.

    Args:
        old, new: the files.
        keep, gate: the settings; `overrides` what is said instead of them.
        allow_missing: judge the rows that both files have, though `new` lacks some that `old` has, or though an id
            stands for rows that contradict each other; otherwise such a task cannot pass.

    Raises:
        InputError: a file cannot be read, they have no row in common, or their scores stand under different keys.
    """
    said = overrides or Overrides()
    keep, gate = said.applied(keep, gate)
    (before, one), (after, other) = _file(old), _file(new)
    sides = read_samples(before, one, prefer=other), read_samples(after, other, prefer=one)
    pairs, notes = pair_samples(*sides, allow_missing=allow_missing)
    rules = check_rules({}, {}, gate, keep.confidence, kept=[pair.task for pair in pairs])
    return Gated(said.credited(judge(pairs, keep, gate, rules)), tuple(notes))


def _file(given: Path | str) -> tuple[Path, str | None]:
    """A file and the key of its scores, if one is named."""
    path, mark, key = str(given).rpartition("#")
    return (Path(given), None) if not mark or Path(given).exists() else (Path(path), key)
