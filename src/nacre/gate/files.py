"""Judge one file of scores against another; and what a command says instead of the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.gate.judge import judge
from nacre.gate.rules import check_rules
from nacre.gate.samples import pair_samples, read_samples
from nacre.records import Keep, Verdict
from nacre.records.gating import Gate, GateTest


@dataclass(frozen=True)
class Overrides:
    """What a command says instead of `nacre.yaml`; None leaves it as it is there.

    Attributes:
        margin: of every task, instead of `keep.max_drop` and `keep.tasks`.
        confidence: instead of `keep.confidence`.
        test: instead of `gate.test`.
    """

    margin: float | None = None
    confidence: float | None = None
    test: GateTest | None = None

    def applied(self, keep: Keep, gate: Gate) -> tuple[Keep, Gate]:
        """The settings with what was said.

        Raises:
            InputError: a margin or a confidence that cannot be.
        """
        if self.margin is not None and not 0 <= self.margin <= 1:
            raise InputError(f"a margin of {self.margin} is no drop of a score", where="--margin", fix="give 0 to 1")
        if self.confidence is not None and not 0.5 < self.confidence < 1:
            fix = "give more than 0.5 and less than 1"
            raise InputError(f"a confidence of {self.confidence} cannot be", where="--confidence", fix=fix)
        kept: dict[str, Any] = {} if self.margin is None else {"max_drop": self.margin, "tasks": {}}
        kept |= {} if self.confidence is None else {"confidence": self.confidence}
        gated = {} if self.test is None else {"test": self.test}
        return keep.model_copy(update=kept), gate.model_copy(update=gated)


@dataclass(frozen=True)
class Gated:
    """A verdict, notes, and the score before and after of tasks that the old version does not know."""

    verdict: Verdict
    notes: tuple[str, ...]
    new_tasks: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def gate_files(old: Path | str, new: Path | str, keep: Keep, gate: Gate, overrides: Overrides | None = None) -> Gated:
    """Judge one sample file against another, row by row; see `nacre.gate.samples`. ``FILE#KEY`` names the score's key.

    Raises:
        InputError: a file cannot be read, or they have no row in common.
    """
    keep, gate = (overrides or Overrides()).applied(keep, gate)
    pairs, notes = pair_samples(read_samples(*_file(old)), read_samples(*_file(new)))
    rules = check_rules({}, {}, gate, keep.confidence, kept=[pair.task for pair in pairs])
    return Gated(judge(pairs, keep, gate, rules), tuple(notes))


def _file(given: Path | str) -> tuple[Path, str | None]:
    """A file and the key of its scores, if one is named."""
    path, mark, key = str(given).rpartition("#")
    return (Path(given), None) if not mark or Path(given).exists() else (Path(path), key)
