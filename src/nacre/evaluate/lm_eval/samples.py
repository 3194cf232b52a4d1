"""Samples of lm-evaluation-harness as reports: scores per row, so that the gate can pair two versions.

A samples file (`samples_TASK_DATE.jsonl`) has one JSON object a row and filter, with `doc_id`, `doc`, `target`,
`arguments`, `filter`, `metrics`, `doc_hash`, `prompt_hash` and one value per metric.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError, unknown
from nacre.records import Decoding, Example, Message, Origin

_DATE = re.compile(r"_\d{4}-\d\d-\d\dT[\d.:-]+$")
_NEEDED = ("doc_id", "doc_hash", "arguments", "target", "metrics")
_USUAL = ("acc_norm", "acc", "exact_match", "f1")  # what is read where several metrics fit, in this order
_MAX_NEW_TOKENS = 256  # what the harness allows where a task does not say


@dataclass(frozen=True)
class Sampled:
    """One task's scores as the harness made them.

    Attributes:
        task: the harness's name for it.
        metric: the one that is read, its filter behind a comma where that is not `none`.
        scores: metric to one score per row, all of them from 0 to 1.
        rows: what was asked, in order of `doc_id`, with the harness's hashes; equal for equal rows and prompts.
        answers: what the model said, per row; empty where nothing was generated.
        decoding: how answers were made.
        notes: what was chosen or left out, in sentences.
    """

    task: str
    metric: str
    scores: dict[str, tuple[float, ...]]
    rows: tuple[Example, ...]
    answers: tuple[str, ...]
    decoding: Decoding
    notes: tuple[str, ...]


def read_samples(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The task's name, from the file's name, and the samples in it.

    Raises:
        InputError: no such file, one that cannot be read, a line that is no sample, or no samples.
    """
    if not path.is_file():
        raise InputError("there is no such file", where=str(path), fix="lm_eval --log_samples writes samples_*.jsonl")
    found = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"it cannot be read: {error}", where=str(path), fix="restore the file; it is UTF-8") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"no JSON: {error}", where=f"{path}, line {number}", fix="restore the file") from None
        lacking = [key for key in _NEEDED if not isinstance(row, dict) or key not in row]
        if lacking:
            fix = "give a samples file of lm-eval 0.4 (--log_samples)"
            raise InputError(f"the row has no {', '.join(lacking)}", where=f"{path}, line {number}", fix=fix)
        wrong = _wrong(row)
        if wrong:
            fix = "give a samples file of lm-eval 0.4 (--log_samples)"
            raise InputError(wrong, where=f"{path}, line {number}", fix=fix)
        found.append(row)
    if not found:
        raise InputError("the file has no samples", where=str(path), fix="run lm_eval with --log_samples")
    return _DATE.sub("", path.stem.removeprefix("samples_")), found


def _wrong(row: Mapping[str, Any]) -> str:
    """What is not as the harness writes it; empty where all is."""
    if not isinstance(row["doc_id"], int) or isinstance(row["doc_id"], bool):
        return f"doc_id is {row['doc_id']!r}, and no whole number"
    if not isinstance(row["metrics"], list) or not all(isinstance(name, str) for name in row["metrics"]):
        return "metrics is no list of names"
    if not isinstance(row["arguments"], dict | list):
        return "arguments holds no requests"
    return ""


def sampled(
    task: str,
    samples: Sequence[Mapping[str, Any]],
    *,
    metric: str | None = None,
    filtered: str | None = None,
    max_length: int = 1024,
    where: str = "",
) -> Sampled:
    """Scores of one task from its samples.

    Args:
        task: the harness's name for it.
        samples: rows of a samples file.
        metric: the metric to read, a filter behind a comma if wanted; default: the first of acc_norm, acc, exact_match,
            f1, or else the first that fits.
        filtered: the filter to read, where the samples have several; default: the first.
        max_length: tokens of question and answer together, for the record.
        where: the file, for messages.

    Raises:
        InputError: a metric or filter that is not there, two filters, no metric whose scores lie in [0, 1], or the same
            row twice.
    """
    place = where or f"task {task}"
    named, _, behind = (metric or "").partition(",")
    if behind and filtered not in (None, behind):
        fix = f"name the filter once: --metric {named} --filter {filtered}"
        raise InputError(f"the metric names the filter {behind}, and --filter {filtered}", where=place, fix=fix)
    filtered = filtered or behind or None
    filters = list(dict.fromkeys(str(row.get("filter", "none")) for row in samples))
    if filtered is not None and filtered not in filters:
        raise unknown("filter", filtered, filters, where=place)
    chosen = filtered or filters[0]
    rows = sorted(
        (row for row in samples if str(row.get("filter", "none")) == chosen), key=lambda row: int(row["doc_id"])
    )
    if len({row["doc_id"] for row in rows}) < len(rows):
        raise InputError("a row is there twice", where=place, fix="give one samples file of one run")
    scores, left_out = _scores(rows)
    if named and named not in scores:
        raise unknown("metric", named, scores, where=place)
    if not scores:
        fix = f"run a task with a metric that gives each row a score from 0 to 1; these have {', '.join(left_out)}"
        raise InputError("no metric gives each row a score from 0 to 1", where=place, fix=fix)
    read = named or next((name for name in _USUAL if name in scores), next(iter(scores)))
    suffix = "" if chosen == "none" else f",{chosen}"
    notes = [f"scored by {read}{suffix} of lm-eval"]
    if len(filters) > 1:
        notes.append(f"filter {chosen} of {', '.join(filters)}")
    notes += [f"{name} was left out: it gives rows no score from 0 to 1" for name in left_out]
    return Sampled(
        task=task,
        metric=f"{read}{suffix}",
        scores={f"{name}{suffix}": values for name, values in scores.items()},
        rows=tuple(_row(task, row) for row in rows),
        answers=tuple(_answer(row) for row in rows) if _generated(rows) else (),
        decoding=Decoding(max_new_tokens=_new_tokens(rows), max_length=max_length),
        notes=tuple(notes),
    )


def _scores(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, tuple[float, ...]], list[str]]:
    """The metrics that give every row a number from 0 to 1, and the names of the others."""
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    found: dict[str, tuple[float, ...]] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
            found[name] = tuple(float(value) for value in values if value is not None)
    return found, [name for name in names if name not in found]


def _row(task: str, row: Mapping[str, Any]) -> Example:
    """The row as it was asked: the prompt belongs to it, since other examples before it ask something else."""
    extra = {key: str(row[key]) for key in ("doc_hash", "prompt_hash", "target_hash") if key in row}
    return Example(
        prompt=(Message(role="user", content=_prompt(row)),),
        answers=(Message(role="assistant", content=str(row["target"])),),
        origin=Origin(line=int(row["doc_id"]), task=task, extra=extra),
    )


def _arguments(row: Mapping[str, Any]) -> list[Any]:
    """The first request's arguments; files have them by name, a run as a tuple."""
    first = row["arguments"]
    first = first.get("gen_args_0", {}) if isinstance(first, Mapping) else (first[0] if first else ())
    return list(first.values()) if isinstance(first, Mapping) else list(first)


def _prompt(row: Mapping[str, Any]) -> str:
    given = _arguments(row)
    return str(given[0]) if given else ""


def _generated(rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(isinstance(each, Mapping) for each in _arguments(rows[0])[1:])


def _new_tokens(rows: Sequence[Mapping[str, Any]]) -> int:
    if not _generated(rows):
        return 1
    settings = next(each for each in _arguments(rows[0])[1:] if isinstance(each, Mapping))
    return int(settings.get("max_gen_toks", settings.get("max_new_tokens", _MAX_NEW_TOKENS)))


def _answer(row: Mapping[str, Any]) -> str:
    found = row.get("filtered_resps") or row.get("resps") or [""]
    while isinstance(found, list | tuple) and found:
        found = found[0]
    return str(found)
