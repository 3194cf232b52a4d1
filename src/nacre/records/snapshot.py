"""What an increment was trained on, byte for byte."""

from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from nacre.records.base import Record


class Dropped(Record):
    """A row that could not be used: where it stands, why, what would mend it, and its original text.

    `original_base64` has the row's bytes where they are not the UTF-8 of `original` (another encoding, bytes that are
    no text, a row too long to be shown); it is written only there.
    """

    file: str
    line: int
    reason: str
    remedy: str = ""
    original: str = ""
    original_base64: str = ""

    @model_serializer(mode="wrap")
    def _without_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        if not self.original_base64:
            written.pop("original_base64", None)
        return written


class RowsFile(Record):
    """Rows kept in the memory folder as ``rows/<sha256>.jsonl``, one canonical Example a line."""

    sha256: str
    rows: int


class Snapshot(Record):
    """The rows of one increment.

    Attributes:
        task: the increment's name, and the name of the skill that must be kept from then on.
        train, dev: the usable rows; `dev` is None when the increment has too few to prove anything.
        kept: where only a share of `train` may outlive the increment: that share; its rows may be none at all.
        sources: file path to SHA-256 of the bytes read.
        dropped: rows left out, line by line.
        notes: what was decided on the way, in sentences (e.g. that dev rows were split off train).
    """

    task: str
    train: RowsFile
    dev: RowsFile | None
    sources: dict[str, str]
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    kept: RowsFile | None = None

    @property
    def replayable(self) -> RowsFile:
        """The rows that later increments may use."""
        return self.kept or self.train

    @property
    def data_hash(self) -> str:
        """Identity of the data alone: the same rows give the same hash, wherever the files lie."""
        return f"{self.train.sha256}:{self.dev.sha256 if self.dev else ''}"
