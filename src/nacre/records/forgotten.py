"""Rows that were removed for good, and what took the place of the files they stood in."""

from nacre.records.base import Record
from nacre.records.snapshot import RowsFile


class Forgotten(Record):
    """One file of kept rows that lost some of them.

    Attributes:
        sha256: of the file that is gone.
        now: the file with the rows that remain, which takes its place.
        rows: content ids of the removed rows (a hash of what each said), so that they are not read in again.
        places: where they stood in the file, from 0.
    """

    sha256: str
    now: RowsFile
    rows: tuple[str, ...]
    places: tuple[int, ...]
