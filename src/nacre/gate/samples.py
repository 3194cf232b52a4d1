"""Scores per row from files: JSON lines or a JSON array with `id` and `score`, or the samples that lm-eval writes."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
    """One row of a sample file: its usable scores by key, and a hash of the question, where the file has one."""

    scores: Mapping[str, float]
    line: int
    text: str = ""
    prompt: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Samples:
    """Everything usable in a file, by task and id, and what was left out, counted and named by line.

    Attributes:
        stem: what the file's name says the task is, where nothing else names one.
        named: the key of the scores that was asked for.
        clashes: tasks and ids that stand for several rows which do not say the same.
    """

    path: Path
    rows: Mapping[Key, Sample]
    notes: tuple[str, ...]
    stem: str = ""
    named: str | None = None
    clashes: frozenset[Key] = frozenset()

    def keys(self, task: str) -> list[str]:
        """Keys that rows of the task have a usable score under: those of the most rows first."""
        counted = Counter(name for (of, _), row in self.rows.items() if of == task for name in row.scores)
        return sorted(counted, key=lambda name: -counted[name])  # a stable sort: else as the file prefers them


class _BadRowError(ValueError):
    """Why a row cannot be used."""


def read_samples(path: Path, metric: str | None = None, *, prefer: str | None = None) -> Samples:
    """Read one file.

    Args:
        path: JSON lines, or one JSON array. Rows with `doc_id` and `metrics` are lm-eval's; its task is in the
            file's name. Of other rows the id stands under `id` or a usual name for it, the score (0 to 1, or true
            and false) under `score` or a usual name for it, and the task, if there is one, under `task`.
        metric: the key of the score; default: `pair_samples` chooses one for all rows of a task.
        prefer: a key that comes first in that choice.

    Raises:
        InputError: no such file, not UTF-8, or no usable row.
    """
    rows: dict[Key, Sample] = {}
    faults: dict[str, list[int]] = {}
    clashes: set[Key] = set()
    stems: set[str] = set()
    for line, entry in _entries(path, faults):
        try:
            key, sample, stem = _sample(path, line, entry, [metric] if metric else [prefer] if prefer else [], metric)
        except _BadRowError as error:
            faults.setdefault(str(error), []).append(line)
            continue
        stems.add(stem)
        if key not in rows:
            rows[key] = sample
            continue
        faults.setdefault("repeat an id; the first row of each counts", []).append(line)
        if (rows[key].scores, rows[key].text) != (sample.scores, sample.text):
            clashes.add(key)
    notes = [f"{path}: {len(lines)} rows left out, they {why}: {_lines(lines)}" for why, lines in faults.items()]
    if not rows:
        fix = "give JSON lines with id and score (0 to 1), or lm-eval's samples_*.jsonl"
        raise InputError("the file has no row with an id and a score", where="\n  ".join([str(path), *notes]), fix=fix)
    return Samples(path, rows, tuple(notes), stems.pop() if len(stems) == 1 else "", metric, frozenset(clashes))


def pair_samples(old: Samples, new: Samples, *, allow_missing: bool = False) -> tuple[list[TaskPair], list[str]]:
    """Rows of both files by task and id, and notes on those that only one of them has.

    A task of which the new file lacks rows that the old one has, or in which an id stands for rows that contradict
    each other, is a doubtful pair: it cannot pass (`TaskPair.doubt`). One that only the old file has is a pair of no
    rows.

    Args:
        old, new: both files.
        allow_missing: judge what both files have, and only note the rest.

    Raises:
        InputError: the files have no row in common, or their scores of a task stand under different keys.
    """
    notes = [*old.notes, *new.notes]
    if old.stem and new.stem and old.stem != new.stem:
        notes.append(f"by their names {old.path} holds {old.stem} and {new.path} {new.stem}: taken for one task")
        new = _renamed(new, old.stem)
    tasks: dict[str, list[Key]] = {}
    for key in old.rows:
        tasks.setdefault(key[0], []).append(key)
    pairs: list[TaskPair] = []
    read: dict[tuple[Path, str], None] = {}
    other: list[Key] = []
    for task, keys in tasks.items():
        both = [key for key in keys if key in new.rows]
        same = [key for key in both if old.rows[key].text == new.rows[key].text]
        other += [key for key in both if old.rows[key].text != new.rows[key].text]
        if same:
            names = _metric(task, old, new)
            read |= dict.fromkeys(zip((old.path, new.path), names, strict=True))
            shown = [key for key in same if names[0] in old.rows[key].scores and names[1] in new.rows[key].scores]
            if len(shown) < len(same):
                left = [new.rows[key].line for key in same if key not in shown]
                notes.append(f"{task or 'all rows'}: {len(left)} rows left out: no {names[1]} in both: {_lines(left)}")
            pairs.append(_pair(task, shown, old, new, names, "" if allow_missing else _doubt(keys, shown, old, new)))
        elif not allow_missing:
            doubt = f"{new.path} has none of its {len(keys)} rows (--allow-missing leaves it out)"
            pairs.append(TaskPair(task or "all rows", "score", (), (), doubt=doubt))
    if not any(pair.before for pair in pairs):
        fix = "the same rows must have the same id, and the same task where there is one"
        raise InputError("the two files have no row in common", where=f"{old.path} and {new.path}", fix=fix)
    notes += [f"{path}: the score is what stands under {name}" for path, name in read if name != "score"]
    return pairs, [*notes, *_alone(old, new, other)]


def _alone(old: Samples, new: Samples, other: list[Key]) -> list[str]:
    """Notes on rows that have no partner."""
    notes = []
    if other:
        named = ", ".join(f"{task or 'row'} {identity}" for task, identity in other[:NAMED])
        notes.append(f"{len(other)} rows left out: the same id stands for another question ({named})")
    for one, theirs in ((old, new), (new, old)):
        alone = [sample.line for key, sample in one.rows.items() if key not in theirs.rows]
        if alone:
            notes.append(f"{len(alone)} rows left out: only {one.path} has them: {_lines(alone)}")
    return notes


def _renamed(samples: Samples, stem: str) -> Samples:
    """The same with another name of its only task; a filter stays behind the name."""

    def key(found: Key) -> Key:
        return stem + found[0].removeprefix(samples.stem), found[1]

    rows = {key(found): sample for found, sample in samples.rows.items()}
    return replace(samples, rows=rows, stem=stem, clashes=frozenset(map(key, samples.clashes)))


def _metric(task: str, old: Samples, new: Samples) -> tuple[str, str]:
    """The key that the scores of a task stand under, one for all its rows: the same in both files if none was named."""
    mine, theirs = old.keys(task), new.keys(task)
    if old.named and new.named:
        return old.named, new.named
    shared = [name for name in mine if name in theirs]
    if shared:
        sides = [[row.scores for (of, _), row in side.rows.items() if of == task] for side in (old, new)]
        counts = {name: sum(name in scores for side in sides for scores in side) for name in shared}
        chosen = max(shared, key=lambda name: counts[name])  # the first of them where several are in all rows
        return chosen, chosen
    where = f"{task or 'all rows'}: {mine[0]} in {old.path} and {theirs[0]} in {new.path}"
    fix = f"name the keys that may be compared: {old.path}#{mine[0]} {new.path}#{theirs[0]}"
    raise InputError("the scores of the two files stand under different keys", where=where, fix=fix)


def _doubt(keys: list[Key], shown: list[Key], old: Samples, new: Samples) -> str:
    """Why the rows that both files have do not speak for all of the task's; empty where they do."""
    reasons = []
    if len(shown) < len(keys):
        reasons.append(f"{new.path} lacks {len(keys) - len(shown)} of the {len(keys)} rows that {old.path} has")
    clashes = sum(key in old.clashes or key in new.clashes for key in keys)
    if clashes:
        reasons.append(f"{clashes} ids stand for rows that contradict each other")
    return f"{' and '.join(reasons)} (--allow-missing judges what is left)" if reasons else ""


def _pair(name: str, keys: list[Key], old: Samples, new: Samples, read: tuple[str, str], doubt: str) -> TaskPair:
    before, after = ([side.rows[key] for key in keys] for side in (old, new))
    return TaskPair(
        task=name or "all rows",
        metric=read[1],
        before=[sample.scores[read[0]] for sample in before],
        after=[sample.scores[read[1]] for sample in after],
        ids=[identity for _, identity in keys],
        prompts=[sample.prompt for sample in after],
        answers_before=[sample.answer for sample in before],
        answers_after=[sample.answer for sample in after],
        doubt=doubt,
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
        except (ValueError, RecursionError) as error:
            raise InputError(f"not valid JSON: {error}", where=str(path), fix="correct the file") from None
        return
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            try:
                found = json.loads(content)
            except (ValueError, RecursionError):  # the latter: brackets in brackets, thousands deep
                faults.setdefault("are not JSON", []).append(line)
                continue
            yield line, found


def _sample(path: Path, line: int, row: Any, first: list[str], only: str | None) -> tuple[Key, Sample, str]:
    """Key and content of a row, and the task if the file's name is what says it."""
    if not isinstance(row, dict):
        raise _BadRowError("are no JSON objects")
    if "doc_id" in row and ("filtered_resps" in row or "resps" in row):
        return _lm_eval(path, line, row, first, only)
    named = next((key for key in IDS if row.get(key) is not None), None)
    if named is None:
        raise _BadRowError("have no id")
    scores = _scores(row, [only] if only else [*first, *SCORES], "score")
    task = row.get("task")
    prompt = next((row[key] for key in PROMPTS if isinstance(row.get(key), str)), "")
    answer = next((row[key] for key in ANSWERS if isinstance(row.get(key), str)), "")
    return ("" if task is None else str(task), str(row[named])), Sample(scores, line, "", prompt, answer), ""


def _lm_eval(
    path: Path, line: int, row: Mapping[str, Any], first: list[str], only: str | None
) -> tuple[Key, Sample, str]:
    """A row of lm-eval's `samples_TASK_TIME.jsonl`; each of its filters is a task of its own."""
    metrics = row.get("metrics")
    named = [name for name in metrics if isinstance(name, str)] if isinstance(metrics, list) else []
    scores = _scores(row, [only] if only else [*first, *named, *SCORES], "metric")
    found = re.match(r"samples_(?P<task>.+?)_\d{4}-\d{2}-\d{2}T", path.name)
    stem = found["task"] if found else path.stem.removeprefix("samples_")
    kind = str(row.get("filter") or "none")
    answers = row.get("filtered_resps") or row.get("resps")
    sample = Sample(
        scores, line, str(row.get("doc_hash") or ""), _first_text(row.get("arguments")), _first_text(answers)
    )
    return (stem if kind == "none" else f"{stem} ({kind})", str(row["doc_id"])), sample, stem


def _scores(row: Mapping[str, Any], wanted: list[str], kind: str) -> dict[str, float]:
    """Every usable score of a row by key, in the order in which they are preferred."""
    there = [name for name in wanted if name in row]
    if not there:
        raise _BadRowError(f"have no {wanted[0] if len(wanted) == 1 else kind}")
    usable = {name: float(row[name]) for name in there if _usable(row[name])}
    if not usable:
        number = any(isinstance(row[name], bool | int | float) for name in there)
        raise _BadRowError(f"have a {there[0]} outside 0 to 1" if number else f"have a {there[0]} that is no number")
    return usable


def _first_text(value: Any) -> str:
    """The first text in nested lists and mappings."""
    while isinstance(value, list | tuple | dict) and value:
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return value if isinstance(value, str) else ""


def _usable(value: Any) -> bool:
    return isinstance(value, bool | int | float) and 0 <= value <= 1


def _lines(lines: list[int]) -> str:
    named = ", ".join(map(str, lines[:NAMED]))
    return f"line {named}" + (" …" if len(lines) > NAMED else "")
