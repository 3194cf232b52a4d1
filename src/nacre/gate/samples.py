"""Scores per row from files: JSON lines or a JSON array with `id` and `score`, or the samples that lm-eval writes."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.gate.pair import TaskPair

IDS = ("id", "doc_id", "sample_id", "question_id", "example_id", "uid", "index", "idx")
SCORES = ("score", "correct", "is_correct", "passed", "pass", "acc", "exact_match", "accuracy")
PROMPTS = ("prompt", "question", "input", "instruction")
ANSWERS = ("answer", "response", "output", "prediction", "completion")
NAMED = 5  # lines of each kind that a note names

Key = tuple[str, str]


@dataclass(frozen=True)
class Sample:
    """One row of a sample file. `text` is a hash of the question, where the file has one."""

    score: float
    line: int
    metric: str
    text: str = ""
    prompt: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Samples:
    """Everything usable in a file, by task and id, and what was left out, counted and named by line."""

    path: Path
    rows: Mapping[Key, Sample]
    notes: tuple[str, ...]


class _BadRowError(ValueError):
    """Why a row cannot be used."""


def read_samples(path: Path, metric: str | None = None) -> Samples:
    """Read one file.

    Args:
        path: JSON lines, or one JSON array. Rows with `doc_id` and `metrics` are lm-eval's; its task is in the
            file's name. Of other rows the id stands under `id` or a usual name for it, the score (0 to 1, or true
            and false) under `score` or a usual name for it, and the task, if there is one, under `task`.
        metric: the key of the score; default: for lm-eval the first metric of a row that is a number from 0 to 1.

    Raises:
        InputError: no such file, not UTF-8, or no usable row.
    """
    rows: dict[Key, Sample] = {}
    faults: dict[str, list[int]] = {}
    for line, entry in _entries(path, faults):
        try:
            key, sample = _sample(path, line, entry, metric)
        except _BadRowError as error:
            faults.setdefault(str(error), []).append(line)
            continue
        if key in rows:
            faults.setdefault("repeat an id; the first row of each counts", []).append(line)
        else:
            rows[key] = sample
    notes = [f"{path}: {len(lines)} rows left out, they {why}: {_lines(lines)}" for why, lines in faults.items()]
    if not rows:
        fix = "give JSON lines with id and score (0 to 1), or lm-eval's samples_*.jsonl"
        raise InputError("the file has no row with an id and a score", where="\n  ".join([str(path), *notes]), fix=fix)
    read = sorted({sample.metric for sample in rows.values()})
    if read != ["score"]:
        notes.append(f"{path}: the score is what stands under {', '.join(read)}")
    return Samples(path, rows, tuple(notes))


def pair_samples(old: Samples, new: Samples) -> tuple[list[TaskPair], list[str]]:
    """Rows of both files by task and id, and notes on those that only one of them has.

    Raises:
        InputError: the files have no row in common.
    """
    notes = [*old.notes, *new.notes]
    shared = [key for key in old.rows if key in new.rows]
    other = [key for key in shared if old.rows[key].text != new.rows[key].text]
    if other:
        named = ", ".join(f"{task or 'row'} {identity}" for task, identity in other[:NAMED])
        notes.append(f"{len(other)} rows left out: the same id stands for another question ({named})")
        shared = [key for key in shared if old.rows[key].text == new.rows[key].text]
    for one, theirs in ((old, new), (new, old)):
        alone = [sample.line for key, sample in one.rows.items() if key not in theirs.rows]
        if alone:
            notes.append(f"{len(alone)} rows left out: only {one.path} has them: {_lines(alone)}")
    if not shared:
        fix = "the same rows must have the same id, and the same task where there is one"
        raise InputError("the two files have no row in common", where=f"{old.path} and {new.path}", fix=fix)
    tasks: dict[str, list[Key]] = {}
    for key in shared:
        tasks.setdefault(key[0], []).append(key)
    return [_pair(name, keys, old, new) for name, keys in tasks.items()], notes


def _pair(name: str, keys: list[Key], old: Samples, new: Samples) -> TaskPair:
    before, after = ([side.rows[key] for key in keys] for side in (old, new))
    return TaskPair(
        task=name or "all rows",
        metric=after[0].metric,
        before=[sample.score for sample in before],
        after=[sample.score for sample in after],
        ids=[identity for _, identity in keys],
        prompts=[sample.prompt for sample in after],
        answers_before=[sample.answer for sample in before],
        answers_after=[sample.answer for sample in after],
    )


def _entries(path: Path, faults: dict[str, list[int]]) -> Iterator[tuple[int, Any]]:
    """The file's rows with their line (of an array: their place, from 1)."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError("the file does not exist", where=str(path), fix="check the path") from None
    except IsADirectoryError:
        raise InputError("this is a folder", where=str(path), fix="name a file of samples") from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8: byte {error.start}", where=str(path), fix="save the file as UTF-8") from None
    if text.lstrip().startswith("["):
        try:
            yield from enumerate(json.loads(text), 1)
        except ValueError as error:
            raise InputError(f"not valid JSON: {error}", where=str(path), fix="correct the file") from None
        return
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            try:
                found = json.loads(content)
            except ValueError:
                faults.setdefault("are not JSON", []).append(line)
                continue
            yield line, found


def _sample(path: Path, line: int, row: Any, metric: str | None) -> tuple[Key, Sample]:
    if not isinstance(row, dict):
        raise _BadRowError("are no JSON objects")
    if "doc_id" in row and ("filtered_resps" in row or "resps" in row):
        return _lm_eval(path, line, row, metric)
    named = next((key for key in IDS if row.get(key) is not None), None)
    if named is None:
        raise _BadRowError("have no id")
    chosen = metric or next((key for key in SCORES if key in row), None)
    if chosen is None or chosen not in row:
        raise _BadRowError(f"have no {metric or 'score'}")
    task = row.get("task")
    prompt = next((row[key] for key in PROMPTS if isinstance(row.get(key), str)), "")
    answer = next((row[key] for key in ANSWERS if isinstance(row.get(key), str)), "")
    sample = Sample(_score(row[chosen], chosen), line, chosen, prompt=prompt, answer=answer)
    return ("" if task is None else str(task), str(row[named])), sample


def _lm_eval(path: Path, line: int, row: Mapping[str, Any], metric: str | None) -> tuple[Key, Sample]:
    """A row of lm-eval's `samples_TASK_TIME.jsonl`; each of its filters is a task of its own."""
    wanted = [metric] if metric else [*(row.get("metrics") or ()), *SCORES]
    chosen = next((name for name in wanted if name in row and _usable(row[name])), None)
    if chosen is None:
        raise _BadRowError(f"have no {metric or 'metric'} between 0 and 1")
    found = re.match(r"samples_(?P<task>.+?)_\d{4}-\d{2}-\d{2}T", path.name)
    stem = found["task"] if found else path.stem.removeprefix("samples_")
    kind = str(row.get("filter") or "none")
    arguments, answers = row.get("arguments"), row.get("filtered_resps") or row.get("resps")
    sample = Sample(
        _score(row[chosen], chosen),
        line,
        chosen,
        text=str(row.get("doc_hash") or ""),
        prompt=_first_text(arguments),
        answer=_first_text(answers),
    )
    return (stem if kind == "none" else f"{stem} ({kind})", str(row["doc_id"])), sample


def _first_text(value: Any) -> str:
    """The first text in nested lists and mappings."""
    while isinstance(value, list | tuple | dict) and value:
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return value if isinstance(value, str) else ""


def _usable(value: Any) -> bool:
    return isinstance(value, bool | int | float) and math.isfinite(value) and 0 <= value <= 1


def _score(value: Any, name: str) -> float:
    if not isinstance(value, bool | int | float):
        raise _BadRowError(f"have a {name} that is no number")
    if not _usable(value):
        raise _BadRowError(f"have a {name} outside 0 to 1")
    return float(value)


def _lines(lines: list[int]) -> str:
    named = ", ".join(map(str, lines[:NAMED]))
    return f"line {named}" + (" …" if len(lines) > NAMED else "")
