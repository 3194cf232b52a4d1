"""Removing rows for good: which snapshots and versions they touched, and what has to be trained again.

A file of kept rows is named by the hash of its bytes, so a row cannot leave it. The whole file leaves, another one with
the rows that remain takes its place, and an event says so (docs/decisions/0013-how-a-row-leaves.md). What the event
says happens before anything is deleted; killed in between, `verify` names it and the next call ends the work.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.base.files import atomic_write, disk_errors, file_lock
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.rows.forget_general import General, clear_general, in_general, still_there, told_of
from nacre.cycle.rows.wanted import Wanted
from nacre.cycle.workspace import Workspace
from nacre.data.convert import read_examples
from nacre.data.dataset import ENDINGS
from nacre.data.pictures import forget_pictures
from nacre.data.rows import read_forgotten, read_rows, rows_path, write_forgotten, write_rows
from nacre.records import Dropped, Event, Example, RowsFile, Snapshot, Version
from nacre.records.forgotten import Forgotten

_CACHES = ("teacher", "rehearsed", "trunk")  # memory that can spell rows and is made again when it is missing


_Text = tuple[str, int, str]
"""File, line and shown text of a row that could not be used."""


class NoRow(InputError):
    """No kept row is one of those that are to be removed."""


@dataclass(frozen=True)
class Removal:
    """What was removed, or would be.

    Attributes:
        files: rows files that lose rows.
        rows: different rows that go.
        versions: version number to how its rows touched it, in sentences.
        retrain: what has to be trained again, in order; none where no weights learned from the rows.
        datasets: places in the user's own files that still hold such rows; they are not changed.
        left: sentences on what was removed beside, and on what cannot be.
        event: number in the history; None where nothing was written.
        drafts: rows that wait for review, or were decided on, and go too.
    """

    files: tuple[Forgotten, ...]
    rows: int
    versions: Mapping[int, tuple[str, ...]]
    retrain: tuple[str, ...]
    datasets: tuple[str, ...]
    left: tuple[str, ...] = ()
    event: int | None = None
    drafts: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The fields of ``--json``."""
        return {
            "rows": self.rows,
            "files": [{"was": one.sha256, "now": one.now.sha256, "rows": len(one.places)} for one in self.files],
            "versions": {str(number): list(said) for number, said in self.versions.items()},
            "retrain": list(self.retrain),
            "datasets": list(self.datasets),
            "left": list(self.left),
            "event": self.event,
            "drafts": self.drafts,
        }


@dataclass
class _Found:
    """Rows files that hold such rows, with all their rows; and kept general text that does."""

    rows: dict[str, list[Example]] = field(default_factory=dict)
    places: dict[str, tuple[int, ...]] = field(default_factory=dict)
    general: list[General] = field(default_factory=list)


def forget(
    workspace: Workspace, asked: Wanted, *, dry_run: bool = False, actor: str = "user", why: str = ""
) -> Removal:
    """Remove rows from everything nacre keeps, and say what they touched.

    Args:
        workspace: whose memory and ledger.
        asked: which rows.
        dry_run: only say what would happen.
        actor, why: for the history. Neither the rows nor what was searched for is written there.

    Raises:
        InputError: no row fits.
        NacreError: another command is at work here, or a file cannot be written.
    """
    with file_lock(workspace.hidden / "evolve.lock", wait=False):
        if not dry_run:
            finish(workspace)
        found = _search(workspace, asked)
        datasets = tuple(in_datasets(workspace, asked))
        drafts = [one.id for one in workspace.ledger.drafts.drafts() if asked.fits(one.row)]
        aside = {path: hits for path in _dropped_files(workspace) if (hits := _unusable(path, asked))}
        gone = _unusable_texts(workspace, asked, aside)
        if not (found.rows or found.general or gone or drafts):
            still = f"; your own files have it: {datasets[0]}" if datasets else ""
            raise NoRow(f"no kept row fits{still}", where="nacre data forget", fix="check id, pattern or column")
        versions, tasks, retrain = _touched(workspace, found, gone)
        files = tuple(_emptied(workspace, found, write=not dry_run))
        rows = {row for one in files for row in one.rows} | {row for one in found.general for row in one.rows}
        removal = Removal(files, len(rows), versions, retrain, datasets, drafts=len(drafts))
        if dry_run:
            return removal
        event, counts = workspace.ledger.forgetting.forget(
            files,
            tasks=tasks,
            unusable=lambda row: _text_of(row) in gone,
            detail={"why": why, "rows": len(rows), "versions": sorted(versions), "retrain": list(retrain)}
            | {"general": [one.path.stem for one in found.general]},
            actor=actor,
            drafts=drafts,
        )
        empty = [f"no row is left of {one.sha256[:12]}" for one in files if not one.now.rows]
        cleared = [*map(told_of, found.general), *_clear(workspace, aside, trained=bool(retrain))]
        left = [*empty, *_said(counts), *cleared, *finish(workspace)]
        return Removal(files, len(rows), versions, retrain, datasets, (*left, *_CANNOT), event.id, len(drafts))


_CANNOT = (
    "not looked at: what was asked and answered while serving, archives that were exported, and backups",
    "weights that learned the rows can repeat them until they are trained again and nacre gc has taken the old ones",
)


def finish(workspace: Workspace) -> list[str]:
    """Do what the history says was removed and is still there; sentences on it."""
    clear_general(workspace)
    files = workspace.ledger.forgetting.files()
    if files and read_forgotten(workspace.memory) != files:
        write_forgotten(workspace.memory, files)
    gone = 0
    for one in files:
        path = rows_path(workspace.memory, one.sha256)
        if path.exists() and one.sha256 not in _in_place(files):
            with disk_errors(path):
                path.unlink()
            gone += 1
    told = [f"{gone} files of kept rows were replaced"] if gone else []
    pictures = forget_pictures(workspace.memory) if files else 0
    return [*told, f"{pictures} pictures that no kept row has any more were removed"] if pictures else told


def unfinished(workspace: Workspace) -> Iterator[tuple[int, str]]:
    """For each removal in the history its event, and what of it was not done; empty where all was."""
    events = workspace.ledger.forgetting.events()
    files = workspace.ledger.forgetting.files()
    listed = read_forgotten(workspace.memory)
    known = {one.digest for one in listed}
    if len(listed) > len(files) or (not events and listed):
        yield 0, "the memory folder names removed rows that no event tells of; restore the ledger or that list"
    for event in events:
        faults = (_fault(workspace, one, known, files) for one in _files_of(event))
        fault = next(filter(None, (*faults, *still_there(workspace, event))), "")
        yield event.id, fault


def _files_of(event: Event) -> list[Forgotten]:
    return [Forgotten.model_validate(one) for one in event.detail["files"]]


def _fault(workspace: Workspace, one: Forgotten, known: set[str], files: Sequence[Forgotten]) -> str:
    fix = "nacre data forget finish removes it"
    if rows_path(workspace.memory, one.sha256).exists() and one.sha256 not in _in_place(files):
        return f"the file {one.sha256[:12]} with the removed rows is still there, or came back; {fix}"
    if one.digest not in known:
        return f"the memory folder does not know that rows of {one.sha256[:12]} were removed; {fix}"
    return ""


def _in_place(files: Sequence[Forgotten]) -> set[str]:
    """Files that stand for earlier ones and lost no rows themselves."""
    return {one.now.sha256 for one in files} - {one.sha256 for one in files}


def _search(workspace: Workspace, asked: Wanted) -> _Found:
    found = _Found(general=in_general(workspace, asked))
    for path in sorted((workspace.memory / "rows").glob("*.jsonl")):
        rows = read_rows(workspace.memory, path.stem)
        places = tuple(place for place, row in enumerate(rows) if asked.fits(row))
        if places:
            found.rows[path.stem], found.places[path.stem] = rows, places
    return found


def _emptied(workspace: Workspace, found: _Found, *, write: bool) -> Iterator[Forgotten]:
    """Each file without the rows; the new files are there before anything says so."""
    for sha, rows in found.rows.items():
        places = set(found.places[sha])
        remaining = [row for place, row in enumerate(rows) if place not in places]
        now = write_rows(workspace.memory, remaining) if write else RowsFile(sha256="", rows=len(remaining))
        ids = dict.fromkeys(rows[place].content_id for place in found.places[sha])
        yield Forgotten(sha256=sha, now=now, rows=tuple(ids), places=found.places[sha])


def _touched(
    workspace: Workspace, found: _Found, unusable: set[_Text]
) -> tuple[dict[int, tuple[str, ...]], list[str], tuple[str, ...]]:
    """By version how the rows touched it; the tasks that are judged by them; what has to be trained again."""
    versions = workspace.ledger.versions()
    said: dict[int, list[str]] = {version.number: [] for version in versions}
    learned: dict[int, Version] = {}
    tasks: dict[str, None] = {}
    for version in versions:
        own = version.snapshot
        said[version.number] += _in_snapshot(own, found, unusable)
        if own.train.sha256 in found.places:
            learned[version.number] = version
        for text in (one for one in found.general if version.number in one.versions):
            said[version.number].append(f"read {len(text.rows)} of them: general text {text.path.stem[:12]}")
            learned[version.number] = version
        for task in tasks_of(ancestry(workspace, version.number)).values():
            past = [file for file in task.train if file.sha256 in found.places]
            if past and version.parents and not {own.train.sha256, own.replayable.sha256} & {f.sha256 for f in past}:
                said[version.number].append(f"could replay them: rows of {task.name}")
                learned[version.number] = version
            if task.dev and task.dev.sha256 in found.places:
                tasks[task.name] = None
                if task.dev != own.dev:
                    said[version.number].append(f"judged by them: dev rows of {task.name}")
        above = [parent for parent in version.parents if parent in learned]
        if above and version.number not in learned:
            learned[version.number] = version
            said[version.number].append(f"was trained from version {above[0]}, which learned them")
    touched = {number: tuple(lines) for number, lines in said.items() if lines}
    return touched, list(tasks), tuple(_retrain(learned))


def _in_snapshot(own: Snapshot, found: _Found, unusable: set[_Text]) -> Iterator[str]:
    snapshot = f"snapshot {own.digest[:12]} ({own.task})"
    for file, how in ((own.train, "trained on"), (own.dev, "judged by"), (own.kept, "keeps")):
        if file and file.sha256 in found.places:
            yield f"{how} {len(found.places[file.sha256])} of them: {snapshot}"
    if texts := sum(_text_of(row) in unusable for row in own.dropped):
        yield f"has the text of {texts} of them, which could not be used: {snapshot}"


def _retrain(learned: Mapping[int, Version]) -> Iterator[str]:
    for number, version in learned.items():
        above = next((parent for parent in version.parents if parent in learned), None)
        start = f"the version that takes the place of {above}" if above else (version.parents or (0,))[0]
        yield f"version {number}: nacre evolve {version.snapshot.task} --from {start}"


def _said(counts: Mapping[str, int]) -> list[str]:
    words = {
        "reports": "reports were removed; scores on those dev rows are made again when they are needed",
        "review items": "review items about the rows were removed",
        "drafts": "rows in review queues were removed",
        "verdicts": "verdicts lost the texts of single rows; their numbers stay",
        "unusable rows": "texts of rows that could not be used were taken out of version records",
    }
    return [f"{counts[what]} {sentence}" for what, sentence in words.items() if counts[what]]


def _clear(workspace: Workspace, aside: Mapping[Path, Sequence[Dropped]], *, trained: bool) -> list[str]:
    """Remove what repeats the rows outside of rows files."""
    notes = []
    count = sum(map(len, aside.values()))
    for path, gone in aside.items():
        kept = [one for one in _read(path) if one not in gone]
        if kept:
            atomic_write(path, "".join(one.to_json() + "\n" for one in kept))
        else:
            path.unlink()
    if count:
        notes.append(f"{count} rows that could not be used were removed from memory/dropped")
    if trained:
        caches = [path for name in _CACHES for path in (workspace.memory / name).glob("*") if path.is_file()]
        runs = [path for path in (workspace.hidden / "runs").glob("*") if path.is_dir()]
        for path in caches:
            path.unlink(missing_ok=True)
        for path in runs:
            shutil.rmtree(path, ignore_errors=True)
        if caches or runs:
            notes.append(f"{len(caches)} caches and {len(runs)} unfinished trainings that may hold them were removed")
    if reports := [path for path in (workspace.hidden / "reports").glob("*") if path.is_dir()]:
        for path in reports:
            shutil.rmtree(path)
        notes.append(f"{len(reports)} kept reports that may quote them were removed: nacre report V writes one again")
    return notes


def _dropped_files(workspace: Workspace) -> list[Path]:
    return sorted((workspace.memory / "dropped").glob("*.jsonl"))


def _text_of(row: Dropped) -> _Text:
    return row.file, row.line, row.original


def _unusable_texts(workspace: Workspace, asked: Wanted, aside: Mapping[Path, Sequence[Dropped]]) -> set[_Text]:
    """The rows that could not be used, in the memory folder (with their bytes) and in version records (without)."""
    found = {_text_of(row) for rows in aside.values() for row in rows}
    for version in workspace.ledger.versions():
        found |= {_text_of(row) for row in version.snapshot.dropped if row.original and asked.fits_unusable(row)}
    return found


def _unusable(path: Path, asked: Wanted) -> list[Dropped]:
    return [one for one in _read(path) if asked.fits_unusable(one)]


def _read(path: Path) -> list[Dropped]:
    lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would also cut at U+2028, which stands in texts
    return [Dropped.from_json(line) for line in lines if line]


def in_datasets(workspace: Workspace, asked: Wanted) -> Iterator[str]:
    """Where files of the datasets hold such rows."""
    folder, general = workspace.dataset_dir, workspace.settings.data.general
    paths = sorted(folder.rglob("*")) if folder.is_dir() else []
    beside = workspace.root / general if general else None
    for path in [*paths, *([beside] if beside and beside not in paths else [])]:
        if not path.is_file() or not path.name.endswith(ENDINGS) or path.name == "dataset_info.json":
            continue
        try:
            rows = read_examples(path)
        except InputError:
            continue
        found = [row.origin.line for row in rows.examples if asked.fits(row)]
        found += [one.line for one in rows.dropped if asked.fits_unusable(one)]
        if found:
            lines = ", ".join(map(str, sorted(set(found))[:10])) + (" …" if len(set(found)) > 10 else "")
            shown = path.relative_to(workspace.root) if path.is_relative_to(workspace.root) else path
            yield f"{shown}: line {lines}"
