"""`nacre data split`: the rows of a dataset into `train.jsonl` and `dev.jsonl`, and beside them those of neither."""

from collections.abc import Sequence
from pathlib import Path

from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.data.compose.pieces import as_record, dropped_note, read_pieces, write_pieces, write_records
from nacre.data.compose.split import NEAR, split
from nacre.records import Example
from nacre.records.base import Record

TRAIN, DEV, LEFT_OUT, REPORT = "train.jsonl", "dev.jsonl", "left_out.jsonl", "split.json"


class SplitReport(Record):
    """What a split made: rows read, on either side and on none; see `Split` for the rest."""

    out: str
    rows: int
    train: int
    dev: int
    left_out: int
    together: dict[str, int]
    classes: dict[str, tuple[int, int]]
    notes: tuple[str, ...]


def split_files(
    name: str,
    dataset_dir: Path,
    out: Path,
    dev: float,
    *,
    near: float = NEAR,
    columns: tuple[str | None, str | None] = (None, None),
    past: Sequence[Example] = (),
    seed: int = 0,
) -> SplitReport:
    """Split a dataset's rows into a folder that is an increment; see `split`.

    Args:
        name: a dataset, or a file.
        dataset_dir: where datasets are looked for.
        out: the folder; files of an earlier split in it are replaced.
        dev: share of the rows, or their number from 1 on.
        near: Jaccard coefficient from which rows are near duplicates.
        columns: the column whose values stay on one side, and the one that both sides show in proportion.
        past: dev rows of earlier data.
        seed: of the choice.

    Raises:
        InputError: a dataset or column that is not there, or rows that cannot be divided.
        NacreError: the disk is full or cannot be written.
    """
    read = read_pieces(name, dataset_dir)
    if (out / "train.json").exists() or (out / "dev.json").exists():
        fix = "name another folder with --out"
        raise InputError("the folder has a train or dev file that no split wrote", where=str(out), fix=fix)
    found = split(read.rows, dev, near=near, group=columns[0], by=columns[1], past=past, seed=seed)
    write_pieces(out / TRAIN, (read.rows[place] for place in found.train))
    write_pieces(out / DEV, (read.rows[place] for place in found.dev))
    reasons = sorted(found.left_out.items())
    write_records(out / LEFT_OUT, (as_record(read.rows[place]) | {"reason": reason} for place, reason in reasons))
    report = SplitReport(
        out=str(out),
        rows=len(read.rows),
        train=len(found.train),
        dev=len(found.dev),
        left_out=len(found.left_out),
        together=found.together,
        classes=found.classes,
        notes=(*read.notes, *dropped_note(read.dropped), *found.notes),
    )
    atomic_write(out / REPORT, report.model_dump_json(indent=1) + "\n")
    return report
