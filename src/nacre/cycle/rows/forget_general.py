"""General text that was kept with a version, when rows of it are to leave.

Its file is named by its hash, and versions name it so; there is none that could take its place, because a training that
read fewer rows is another one. So the whole file leaves, and the versions that read it can no longer be repeated
to the letter: `reproduce` says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nacre.base.files import disk_errors
from nacre.cycle.rows.wanted import Wanted
from nacre.cycle.workspace import Workspace
from nacre.data.convert import read_examples
from nacre.data.rows import general_path
from nacre.records import Event


@dataclass(frozen=True)
class General:
    """A kept file of general text with rows that are to leave.

    Attributes:
        path: the file, named by its hash.
        rows: their content ids.
        versions: that read it.
    """

    path: Path
    rows: tuple[str, ...]
    versions: tuple[int, ...]


def in_general(workspace: Workspace, asked: Wanted) -> list[General]:
    """The kept files of general text that have such rows."""
    found = []
    for path in sorted((workspace.memory / "general").glob("*.jsonl")):
        ids = dict.fromkeys(row.content_id for row in read_examples(path).examples if asked.fits(row))
        if ids:
            versions = (one.number for one in workspace.ledger.versions() if one.general == path.stem)
            found.append(General(path, tuple(ids), tuple(versions)))
    return found


def told_of(one: General) -> str:
    """A sentence on its removal."""
    read = f"version {', '.join(map(str, one.versions))}" if one.versions else "no version"
    return f"general text {one.path.stem[:12]} was removed, which had {len(one.rows)} of them and was read by {read}"


def clear_general(workspace: Workspace) -> None:
    """Delete the files that the history says were removed."""
    for event in workspace.ledger.forgetting.events():
        for path in _removed(workspace, event):
            with disk_errors(path):
                path.unlink(missing_ok=True)


def still_there(workspace: Workspace, event: Event) -> Iterator[str]:
    """What of one removal was not done."""
    for path in _removed(workspace, event):
        if path.exists():
            fix = "nacre data forget finish removes it"
            yield f"the general text {path.stem[:12]} with the removed rows is still there, or came back; {fix}"


def _removed(workspace: Workspace, event: Event) -> list[Path]:
    return [general_path(workspace.memory, sha) for sha in event.detail.get("general", ())]
