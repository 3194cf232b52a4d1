"""Which snapshot of the documents is in use. A snapshot never changes; another one takes its place in one rename."""

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from nacre.base.errors import NacreError
from nacre.base.files import atomic_write
from nacre.records.base import Record
from nacre.serve.knowledge.settings import Knowledge

_POINTER = "current.json"


@dataclass(frozen=True)
class Where:
    """Where the store of a workspace is.

    Attributes:
        root: folder of the workspace, to which paths in its settings are relative.
        folder: what nacre keeps of the store: the pointer, a record for each snapshot, and the chunks without a URL.
        settings: of the store.
    """

    root: Path
    folder: Path
    settings: Knowledge

    @property
    def url(self) -> str:
        """Where LanceDB has the chunks."""
        return self.settings.url or str(self.folder)


class Source(Record):
    """A file or folder that was added; `orders`: sentences that speak to a model are left in."""

    path: str
    orders: bool = False


class Document(Record):
    """A file that was read.

    Attributes:
        source: the name that citations give it.
        orders: sentences that speak to a model; left out unless the source is allowed to have them.
        shown: the first of them.
        hidden: parts and characters that readers do not see, left out.
    """

    sha256: str
    source: str
    allowed: bool
    chunks: int
    orders: int = 0
    shown: tuple[str, ...] = ()
    hidden: int = 0


class Problem(Record):
    """A file that could not be read, as it was then."""

    sha256: str
    why: str


class Snapshot(Record):
    """What the store held at one time.

    Attributes:
        number: counts up.
        made_with: hash of all that decides how a file becomes chunks.
        model: folder of the embedding model, and the fingerprint of its files; empty without one.
        dimensions: of its vectors.
        size: of a chunk, in tokens of the model or in characters.
        documents: by path: relative to the workspace, or absolute outside it.
        skipped: files that were left out, by reason.
    """

    number: int
    created: str
    made_with: str
    model: str = ""
    identity: str = ""
    dimensions: int = 0
    size: int
    sources: tuple[Source, ...]
    documents: dict[str, Document]
    problems: dict[str, Problem] = Field(default_factory=dict)
    skipped: dict[str, int] = Field(default_factory=dict)
    chunks: int


class Snapshots:
    """The records of the snapshots, and which is in use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def mark(self) -> tuple[int, int] | None:
        """Changes whenever another snapshot is put to use; None while there is none."""
        try:
            found = os.stat(self._folder / _POINTER)
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino

    def order(self) -> list[int]:
        """The number of the one in use, then of those before it; empty while there is none.

        Raises:
            NacreError: the pointer cannot be read.
        """
        return self._pointed()[0]

    def aside(self) -> list[int]:
        """Numbers of those that are kept and lead nowhere: left by going back, or refused. Raises as `order` does."""
        return self._pointed()[1]

    def newest(self) -> int:
        """The highest number there ever was."""
        found = [int(path.stem) for path in self._folder.glob("*.json") if path.stem.isdigit()]
        return max(found, default=0)

    def read(self, number: int) -> Snapshot:
        """The record of a snapshot.

        Raises:
            NacreError: it is missing or damaged.
        """
        path = self._folder / f"{number}.json"
        try:
            return Snapshot.from_json(path.read_bytes())
        except (OSError, ValueError):
            fix = "run nacre knowledge rollback, or refresh"
            raise NacreError(f"the record of snapshot {number} cannot be read", where=str(path), fix=fix) from None

    def present(self) -> Snapshot | None:
        """The one in use. Raises as `order` and `read` do."""
        order = self.order()
        return self.read(order[0]) if order else None

    def frequencies(self, number: int) -> Path:
        """The file that says how rare words are in a snapshot."""
        return self._folder / f"{number}.npy"

    def save(self, snapshot: Snapshot) -> None:
        """Write the record of a finished snapshot, whose frequencies are there; it is not in use yet."""
        atomic_write(self._folder / f"{snapshot.number}.json", snapshot.to_json())

    def use(self, number: int) -> None:
        """Put a snapshot to use, in one rename.

        One from before leaves those after it aside. Any other one comes before those there were.
        """
        order, aside = self._pointed()
        if number in order:
            place = order.index(number)
            self._point(order[place:], [*order[:place], *aside])
        else:
            self._point([number, *order], [one for one in aside if one != number])

    def set_aside(self, number: int) -> None:
        """Keep a snapshot that is not put to use."""
        order, aside = self._pointed()
        self._point(order, [number, *aside])

    def drop_others(self, made: int, keep: int, pinned: Collection[int]) -> list[int]:
        """Keep the snapshot in use, those before it, the one just made and pinned ones; returns the numbers that go.

        What a command that was killed left behind is among them.

        Args:
            made: number of the newest one, in use or aside.
            keep: how many of the one in use and those before it.
            pinned: numbers that are kept beside them.
        """
        order, aside = self._pointed()
        order = [one for place, one in enumerate(order) if place < keep or one in pinned]
        self._point(order, [one for one in aside if one == made or one in pinned])
        kept = {*order, *self.aside()}
        return sorted({int(path.stem) for path in self._folder.glob("*.json") if path.stem.isdigit()} - kept)

    def forget(self, number: int) -> None:
        """Delete the record of one that is no longer kept; the newest number stays known."""
        self.frequencies(number).unlink(missing_ok=True)
        if number != self.newest():
            (self._folder / f"{number}.json").unlink(missing_ok=True)

    def _pointed(self) -> tuple[list[int], list[int]]:
        path = self._folder / _POINTER
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            order, aside = said["snapshots"], said.get("aside", [])
            return [int(number) for number in order], [int(number) for number in aside]
        except FileNotFoundError:
            return [], []
        except (ValueError, KeyError, TypeError, AttributeError):
            fix = "restore it, or delete .nacre/knowledge and add the documents again"
            raise NacreError("the pointer to the documents is damaged", where=str(path), fix=fix) from None

    def _point(self, order: list[int], aside: list[int]) -> None:
        if (order, aside) != self._pointed():
            atomic_write(self._folder / _POINTER, json.dumps({"snapshots": order, "aside": aside}))
