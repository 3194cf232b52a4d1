"""Every row that any version was ever judged by: none of them may be trained on."""

from pathlib import Path

from nacre.cycle.lineage import versions_as_kept
from nacre.cycle.workspace import CONFIG, Workspace
from nacre.data.convert import read_examples
from nacre.data.dataset import ENDINGS
from nacre.data.rows import read_rows, rows_path
from nacre.data.suspects import text_of
from nacre.records import Example, RowsFile


def past_dev(workspace: Workspace) -> tuple[list[Example], list[str]]:
    """The dev rows of all versions in the ledger, on every branch, each once; and sentences about files that are gone.

    Raises:
        NacreError: a file of kept rows is damaged.
    """
    files: dict[str, tuple[RowsFile, int]] = {}
    for version in versions_as_kept(workspace):
        for file in (version.snapshot.dev, *(one.dev for one in version.inherited)):
            if file is not None:
                files.setdefault(file.sha256, (file, version.number))
    found: dict[str, Example] = {}
    notes = []
    for sha, (file, number) in files.items():
        if not rows_path(workspace.memory, sha).is_file():
            notes.append(f"dev rows of version {number} are not kept any more and could not be compared with")
            continue
        found |= {row.content_id: row for row in read_rows(workspace.memory, file)}
    return list(found.values()), notes


def past_dev_texts(workspace: Path) -> tuple[list[list[str]], list[str]]:
    """What `past_dev` finds, as the step `leaks` takes it: the texts of each row. Nothing where there is no ledger."""
    if not (workspace / CONFIG).is_file():
        return [], []
    with Workspace.open(workspace) as space:
        rows, notes = past_dev(space)
    return [[text_of(row)] for row in rows], notes


def gather_dev(workspace: Path, dataset_dir: Path, own: set[Path]) -> tuple[list[Example], list[str]]:
    """Dev rows to compare with: of every dev file among the datasets, and of the workspace's ledger.

    Args:
        workspace: a folder; without a nacre.yaml in it there is no ledger to look at.
        dataset_dir: where the increments are; every dev file below it counts.
        own: files that are not to be compared with, because they are made anew.

    Raises:
        InputError: a file as a whole cannot be read.
    """
    files = [path for path in sorted(dataset_dir.rglob("dev.*")) if path.name.endswith(ENDINGS)]
    found: list[Example] = []
    notes: list[str] = []
    kept = [path for path in dict.fromkeys(path.resolve() for path in files) if path not in own]
    for path in kept:
        rows = read_examples(path)
        found += rows.examples
        if rows.dropped:
            notes.append(f"{path}: {len(rows.dropped)} dev rows cannot be used and were not compared with")
    known = (workspace / CONFIG).is_file()
    if known:
        with Workspace.open(workspace) as space:
            past, said = past_dev(space)
        found += past
        notes += said
    distinct = list({row.content_id: row for row in found}.values())
    if distinct:
        ledger = " and of the ledger" if known else "; there is no workspace here, and so no ledger"
        notes.append(f"compared with {len(distinct)} dev rows of {len(kept)} files{ledger}")
    return distinct, notes
