"""From a dataset's name to the exact rows an increment is trained and judged on, before anything is trained."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.data.compose.likeness import Sets, plain
from nacre.data.compose.pieces import DEMONSTRATIONS, place_of, question_of
from nacre.data.convert import Stream
from nacre.data.dataset import (
    DatasetFiles,
    Loaded,
    at_path,
    dev_file,
    load,
    load_split,
    resolve,
    split_names,
    task_name,
)
from nacre.data.pictures import with_pictures
from nacre.data.rows import forgotten_ids, read_rows, write_rows
from nacre.data.strata import choose
from nacre.records import Dropped, Example, RowsFile, Snapshot
from nacre.records.example import Kind

Stage = Literal["sft", "pt", "rm", "dpo", "kto", "clip"]

MIN_SPLIT_ROWS = 20  # fewer are all needed for training, and two dev rows would prove nothing
MIN_DEV_ROWS = 2
MAX_DEV_ROWS = 500
_SHOWN_DROPS = 3
_KIND: dict[Stage, Kind] = {
    "sft": "sft",
    "pt": "text",
    "rm": "preference",
    "dpo": "preference",
    "kto": "kto",
    "clip": "sft",
}
_SEES: frozenset[Stage] = frozenset({"sft", "clip"})  # stages that learn from pictures
_WHAT: dict[Kind, str] = {
    "sft": "a prompt with an answer",
    "preference": "a preference pair",
    "kto": "a judged answer (KTO)",
    "text": "plain text without an answer",
}


def take_snapshot(
    name: str,
    dataset_dir: Path,
    memory: Path,
    *,
    stage: Stage = "sft",
    drop_budget: float = 0.01,
    dev_share: float | str = 0.1,
    max_samples: int | None = None,
    history: Sequence[RowsFile] = (),
) -> Snapshot:
    """Read, check, split and keep the rows of one increment.

    A dataset without dev rows gives a share of its train rows to evaluation, chosen by their content, so
    that a row stays on its side when others are added. Train rows that equal a dev row are left out.

    Args:
        name: one dataset or several, see `nacre.data.dataset.load`.
        dataset_dir: the folder that datasets are looked for in.
        memory: the folder that rows are kept in.
        stage: sft trains on answers, pt on plain text, dpo and rm on preference pairs, kto on judged answers, clip on
            pictures with captions; other rows cannot be used.
        drop_budget: the largest share of rows, from 0 to 1, that may be unusable.
        dev_share: the share of train rows to split off, from 0 to 1, or their number; 0 splits none. Or the name of
            other datasets, whose train rows are dev rows here.
        max_samples: use at most so many train rows of each dataset.
        history: dev rows of earlier increments, none of which may be trained on.

    Raises:
        InputError: the data cannot be used as a whole, or more of its rows than the budget allows cannot.
    """
    task = task_name(name, dataset_dir)
    other = dev_share if isinstance(dev_share, str) else None
    train = load(name, dataset_dir, "train", max_samples=max_samples)
    dev = load(other, dataset_dir, "train", max_samples=max_samples) if other else load(name, dataset_dir, "dev")
    read = train.rows + dev.rows
    notes = list(dict.fromkeys(train.notes + dev.notes))
    sides = [_pictured(side, _trainable(side, stage, name), dataset_dir, memory) for side in (train, dev)]
    train_rows, dev_rows = sides
    dropped = train.dropped + dev.dropped
    files = [resolve(part, dataset_dir) for part in split_names(f"{name},{other or ''}")]
    notes += _set_aside(dropped, read, _write_dropped(dropped, memory, task), files, drop_budget)
    train_rows, dev_rows, found = _without_forgotten(train_rows, dev_rows, memory)
    notes += found
    if not dev_rows and not isinstance(dev_share, str):
        train_rows, dev_rows, note = split_dev(train_rows, dev_share)
        notes.append(note)
    train_rows, found = _without_dev(train_rows, dev_rows, memory, history)
    notes += found
    if not train_rows:
        fix = "give rows to train on that are not also dev rows"
        raise InputError("no rows are left to train on", where=f"dataset {name}", fix=fix)
    return Snapshot(
        task=task,
        train=write_rows(memory, train_rows),
        dev=write_rows(memory, dev_rows) if dev_rows else None,
        sources=train.sources | dev.sources,
        dropped=tuple(row.changed(original_base64="") for row in dropped),  # bytes stay in the file of dropped rows
        notes=tuple(notes),
    )


def usable_rows(
    path: Path, memory: Path, *, stage: Stage = "sft", drop_budget: float = 0.01
) -> tuple[list[Example], Loaded, list[str]]:
    """The rows of one file, or the train rows of a folder, that a stage can train: nothing of them is kept.

    Returns:
        The rows, what was read, and sentences on what was left out.

    Raises:
        InputError: see `take_snapshot`; or there is no such file or folder.
    """
    files = at_path(path)
    if files is None:
        raise InputError("there is no such data", where=str(path), fix="name a folder with train.json, or a file")
    loaded = load_split(files, "train")
    rows = _pictured(loaded, _trainable(loaded, stage, files.task), path.parent, memory)
    aside = _write_dropped(loaded.dropped, memory, files.task)
    notes = [*loaded.notes, *_set_aside(loaded.dropped, loaded.rows, aside, [files], drop_budget)]
    rows, _, found = _without_forgotten(rows, [], memory)
    return rows, loaded, notes + found


def take_dev_snapshot(
    name: str, dataset_dir: Path, memory: Path, *, stage: Stage = "sft", drop_budget: float = 0.01
) -> Snapshot:
    """Keep the dev rows of an increment whose train rows are elsewhere: there are none of these in the snapshot.

    Raises:
        InputError: there is no such increment, or it has no dev rows.
    """
    path = dev_file(dataset_dir / name)
    if path is None:
        fix = "put dev.json there: rows that are like the parties', and that none of them trains on"
        raise InputError("there are no dev rows to judge by", where=str(dataset_dir / name), fix=fix)
    rows, loaded, notes = usable_rows(path, memory, stage=stage, drop_budget=drop_budget)
    if not rows:
        raise InputError("no dev rows are left to judge by", where=str(path), fix="correct the rows")
    return Snapshot(
        task=(dataset_dir / name).resolve().name,
        train=write_rows(memory, []),
        dev=write_rows(memory, rows),
        sources=loaded.sources,
        dropped=tuple(row.changed(original_base64="") for row in loaded.dropped),
        notes=tuple(notes),
    )


def keep_share(snapshot: Snapshot, share: float, memory: Path) -> Snapshot:
    """The snapshot with the rows that may outlive its increment: of each class and kind in proportion, never more
    than `share` of all; 1 keeps all, 0 none.

    Of rows that could not be used, place and reason are kept and the text is not: it may not outlive it either.
    """
    if share >= 1:
        return snapshot
    rows = read_rows(memory, snapshot.train) if share > 0 else []
    kept = choose(rows, math.floor(share * len(rows)), floor=0, seed=0).rows
    note = f"keep.data {share:g}: {len(kept)} of {snapshot.train.rows} train rows outlive this increment"
    dropped = tuple(row.changed(original="", original_base64="") for row in snapshot.dropped)
    if dropped:
        _write_dropped(dropped, memory, snapshot.task)
    return snapshot.changed(kept=write_rows(memory, kept), dropped=dropped, notes=(*snapshot.notes, note))


def split_dev(rows: Sequence[Example], share: float) -> tuple[list[Example], list[Example], str]:
    """Split dev rows off: about `share` of the distinct rows (or, from 1 on, so many), those whose hash is lowest.

    Rows that ask the same, or that `nacre data compose` made from one row, stay on one side. Rows that are only like
    each other do not: `nacre data split` looks for them.

    Returns:
        The train rows, the dev rows, and a sentence that says what was done.

    Raises:
        InputError: as many rows are to be split off as there are, or more.
    """
    ids = [row.content_id for row in rows]
    distinct = dict(zip(ids, rows, strict=True))
    if share <= 0:
        return list(rows), [], "the dataset has no dev rows and none were split off: nothing can be proved about it"
    if distinct and share >= len(distinct):
        what = f"{int(share)} rows cannot be held out of {len(distinct)} distinct ones: none would be left to train on"
        fix = f"val_size: a share below 1, or at most {len(distinct) - 1} rows; 0 holds none out"
        raise InputError(what, where="the train rows", fix=fix)
    if len(distinct) < MIN_SPLIT_ROWS:
        reason = f"the dataset has no dev rows and too few rows to split some off ({len(distinct)} of {MIN_SPLIT_ROWS})"
        return list(rows), [], f"{reason}: nothing can be proved about it"
    below = sum(int(content[:16], 16) < share * 2**64 for content in distinct)
    count = min(max(below, MIN_DEV_ROWS), MAX_DEV_ROWS) if share < 1 else int(share)
    chosen = _whole_groups(distinct, count)
    if not chosen:
        reason = "the dataset has no dev rows, and too many of its rows ask the same to split some off"
        return list(rows), [], f"{reason}: nothing can be proved about it"
    dev = [row for content, row in distinct.items() if content in chosen]
    train = [row for content, row in zip(ids, rows, strict=True) if content not in chosen]
    said = f"the dataset has no dev rows: {len(dev)} of {len(rows)} train rows were split off for evaluation"
    if shown := sum(DEMONSTRATIONS in row.origin.extra for row in train):
        said += (
            f"; {shown} train rows show other rows in their prompts, some of them dev rows now: "
            "nacre data compose --dev-out gives dev rows that no prompt shows"
        )
    if share < 1 and below > MAX_DEV_ROWS:
        said += f", not a share of {share:g}: {MAX_DEV_ROWS} are enough to judge by"
    return train, dev, said


def _whole_groups(rows: Mapping[str, Example], count: int) -> set[str]:
    """About `count` of the hashes, the lowest first; of rows that belong together all or none."""
    order = sorted(rows)
    sets = Sets(len(order))
    sets.join_equal([None if rows[one].kind == "text" else plain(question_of(rows[one])) for one in order])
    sets.join_equal([place_of(rows[one]) for one in order])
    groups: dict[int, list[str]] = {}
    for place, content in enumerate(order):
        groups.setdefault(sets.root(place), []).append(content)
    chosen: set[str] = set()
    for group in groups.values():
        if len(chosen) + len(group) <= count:
            chosen.update(group)
    return chosen


def _trainable(loaded: Loaded, stage: Stage, name: str) -> list[Example]:
    """The rows this stage can train; the others join the dropped ones.

    Raises:
        InputError: there are rows, but none for this stage.
    """
    reasons = [_unsuited(example, stage) for example in loaded.examples]
    first = next((reason for reason in reasons if reason), None)
    if first and all(reasons):
        raise InputError(f"dataset '{name}': every row is {first[0]}", where=f"stage {stage}", fix=first[1])
    for example, reason in zip(loaded.examples, reasons, strict=True):
        if reason:
            origin = example.origin
            what, fix = f"the row is {reason[0]}", reason[1]
            aside = Dropped(file=origin.file, line=origin.line, reason=what, remedy=fix, original=example.to_json())
            loaded.dropped.append(aside)
    return [example for example, reason in zip(loaded.examples, reasons, strict=True) if not reason]


def _pictured(loaded: Loaded, rows: list[Example], dataset_dir: Path, memory: Path) -> list[Example]:
    """The rows with their pictures kept; those whose pictures cannot be used join the dropped ones."""
    found = with_pictures(rows, dataset_dir, memory)
    loaded.dropped += found.dropped
    return found.rows


def _unsuited(example: Example, stage: Stage) -> tuple[str, str] | None:
    """What the row is and what to do, where the stage cannot train it."""
    media = next((what for what in ("videos", "audios") if getattr(example, what)), None)
    if media:
        return f"an example with {media}, which are not supported", "use texts and pictures only"
    if example.images and stage not in _SEES:
        return f"an example with images, which stage {stage} does not train", "train it with --stage sft"
    if stage == "clip" and (len(example.images or ()) != 1 or example.kind != "sft"):
        remedy = "give it one picture in the column images, and its caption as the answer"
        return "not one picture with a caption", remedy
    if example.kind == _KIND[stage]:
        return None
    fix = {
        "sft": "train it with --stage sft",
        "text": 'train it with --stage pt, or name its answers: a column output, or "response" in dataset_info.json',
        "preference": "train it with --stage dpo or rm, or give one answer a row, in the column output",
        "kto": "train it with --stage kto, or delete the label and the rows with unwanted answers",
    }
    return f"{_WHAT[example.kind]}, which stage {stage} does not train", fix[example.kind]


def _set_aside(
    dropped: Sequence[Dropped], read: int, path: Path, files: Sequence[DatasetFiles], budget: float
) -> list[str]:
    """What is said of the dropped rows, which are in `path`; stop when they are too many."""
    if not dropped:
        return []
    share = len(dropped) / read
    said = f"{len(dropped)} of {read} rows cannot be used ({share:.1%})"
    if share <= budget:
        return [f"{said}; they are in {path} with their reasons"]
    first = dropped[:_SHOWN_DROPS]
    places = zip(_places(first, files), first, strict=True)
    shown = [f"{row.file}, {place}: {row.reason} ({row.remedy})" for place, row in places]
    more = [f"and {len(dropped) - _SHOWN_DROPS} more"] if len(dropped) > _SHOWN_DROPS else []
    allowed = f"drop_budget {_rounded_up(share)} (in nacre.yaml: data.drop_budget)"
    fix = f"correct the rows, all are listed in {path}; or allow more of them: {allowed}"
    raise InputError(f"{said}, the budget is {budget:.1%}", where="\n  ".join([*shown, *more]), fix=fix)


def _places(rows: Sequence[Dropped], files: Sequence[DatasetFiles]) -> list[str]:
    """Where each of these rows stands: its line and, where that line holds several rows, its number in the file."""
    held: Counter[tuple[str, int]] = Counter()
    numbers: dict[tuple[str, int, str], list[int]] = {(row.file, row.line, row.original): [] for row in rows}
    datasets = {path: one for one in files for path in (*one.train, *one.dev)}
    for path, dataset in datasets.items():
        lines = {row.line for row in rows if row.file == str(path)}
        for number, (line, original) in enumerate(_rows_of(path, dataset) if lines else (), 1):
            if line > max(lines):
                break
            if line in lines:
                held[str(path), line] += 1
                numbers.get((str(path), line, original()), []).append(number)
    places = []
    for row in rows:
        found = numbers[row.file, row.line, row.original]
        number = found.pop(0) if len(found) > 1 else sum(found)  # rows that are the same come in their order
        told = f", row {number}" if number and held[row.file, row.line] > 1 else ""
        places.append(f"line {row.line}{told}")
    return places


def _rows_of(path: Path, files: DatasetFiles) -> Iterator[tuple[int, Callable[[], str]]]:
    """Line of each row of a file, and what `Dropped.original` would hold of it."""
    last = None
    for one in Stream(path, task=files.task, entry=files.entry):
        if isinstance(one, Dropped):
            yield one.line, partial(str, one.original)
        elif one[0] is not last:  # a long text gives several examples
            last = one[0]
            yield last.line, one[1].to_json


def _write_dropped(dropped: Sequence[Dropped], memory: Path, task: str) -> Path:
    """The file of rows that could not be used; without such rows that of an earlier state of the data goes."""
    path = memory / "dropped" / (re.sub(r"[^\w.+-]", "_", task) + ".jsonl")
    if dropped:
        atomic_write(path, "".join(row.to_json() + "\n" for row in dropped))
    else:
        path.unlink(missing_ok=True)
    return path


def _rounded_up(share: float) -> float:
    return min(1.0, (int(share * 100) + 1) / 100)


def _without_forgotten(
    train: list[Example], dev: list[Example], memory: Path
) -> tuple[list[Example], list[Example], list[str]]:
    """The rows without those that somebody had removed for good, and a sentence where there were such rows."""
    gone = forgotten_ids(memory)
    if not gone:
        return train, dev, []
    sides = [[row for row in rows if row.content_id not in gone] for rows in (train, dev)]
    count = len(train) + len(dev) - sum(map(len, sides))
    note = f"{count} rows were removed for good by nacre data forget and are left out; the dataset still has them"
    return sides[0], sides[1], [note] if count else []


def _without_dev(
    train: Iterable[Example], dev: Iterable[Example], memory: Path, history: Sequence[RowsFile]
) -> tuple[list[Example], list[str]]:
    """Train rows that are nobody's dev rows, and sentences on what was found."""
    own = {row.content_id for row in dev}
    past = {row.content_id for rows in history for row in read_rows(memory, rows)}
    pairs = [(row.content_id, row) for row in train]
    kept = [(content, row) for content, row in pairs if content not in own and content not in past]
    notes = []
    if overlap := sum(content in own for content, _ in pairs):
        notes.append(f"{overlap} train rows equal dev rows of this increment and were left out of training")
    if overlap := sum(content in past and content not in own for content, _ in pairs):
        notes.append(f"{overlap} train rows equal dev rows of earlier increments and were left out of training")
    if doubles := len(kept) - len({content for content, _ in kept}):
        notes.append(
            f"{doubles} train rows repeat an earlier one exactly; they are trained on as often as they stand there"
        )
    return [row for _, row in kept], notes
