"""Garbage collection: what nothing needs is listed with its bytes, written into the history, and then deleted.

The event comes first, each artifact leaves in one rename, everything else is single files and folders that can be made
again. Killed at any moment, what is left is a little too much, and `verify` stays clean; the next run ends the work.
"""

import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from nacre.base.errors import ConflictError, NacreError
from nacre.base.files import disk_errors, file_lock
from nacre.cycle.versions.expiry import expire, expired
from nacre.cycle.versions.retention import Needed, needed
from nacre.cycle.workspace import Workspace
from nacre.data.pictures import IMAGES, needed_pictures
from nacre.registry import leases
from nacre.registry.scratch import abandoned
from nacre.registry.weigh import folder_bytes

Kind = Literal["artifact", "rows", "memory", "converted", "run", "leftover"]

_TRIES = 5  # so often somebody else may write to the history while it is decided what may go
_HOUR_S, _DAY_S = 3600.0, 86_400.0
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # how files are called while they are written
_TRASH = ".trash-"
_WEIGHTS = {"generic", "rehearsed"}  # memory whose names begin with the weights' identity
_KEYED = {"importance", "teacher", "trunk"}  # memory whose names may end in a hash over weights
_KEPT = {"dropped": "it tells which rows could not be used", "lexicon": "it tells which words a domain has"}
_IDENTITY_DIGITS = 16


@dataclass(frozen=True)
class Item:
    """One thing: what it is, its name, where it lies, how many bytes it takes, and why it goes or stays."""

    kind: Kind
    name: str
    path: Path
    bytes: int
    why: str
    versions: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For ``--json`` and the history."""
        return asdict(self) | {"path": str(self.path), "versions": list(self.versions)}


@dataclass(frozen=True)
class Plan:
    """What would go, what stays and why, and the newest event when this was decided.

    Attributes:
        expired: how many answers and opinions are older than `retention` lets them get.
    """

    goes: tuple[Item, ...]
    stays: tuple[Item, ...]
    seen: int
    expired: Mapping[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes that are freed."""
        return sum(item.bytes for item in self.goes)

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions whose weights go; their records stay."""
        return tuple(sorted({number for item in self.goes for number in item.versions}))


def plan(workspace: Workspace) -> Plan:
    """Decide what `collect` would delete now. Changes nothing.

    Raises:
        NacreError: a running server does not say what it holds.
        InputError: the base model is not there.
    """
    seen = workspace.ledger.keeping.last_event()  # before anything is looked at
    found = needed(workspace)
    caches = [*_memory(workspace, found), *_converted(workspace), *_runs(workspace)]
    sorted_out = [*_artifacts(workspace, found), *caches, *_leftovers(workspace)]
    goes = tuple(item for item, stays in sorted_out if not stays)
    return Plan(goes, tuple(item for item, stays in sorted_out if stays), seen, expired(workspace))


def collect(workspace: Workspace, *, actor: str = "gc", why: str = "collected by hand") -> Plan:
    """Delete what nothing needs; the event `collected` tells what went, why, and by which rules, `expired` how many
    answers and opinions.

    Raises:
        NacreError: another command is at work in this workspace, or a file cannot be deleted.
        ConflictError: others kept writing to the history; nothing was deleted.
    """
    with file_lock(workspace.hidden / "evolve.lock", wait=False):
        found = _agreed(workspace, actor, why)
        for item in found.goes:
            with disk_errors(item.path):
                _delete(workspace, item)
        return replace(found, expired=expire(workspace, actor=actor, why=why))


def _agreed(workspace: Workspace, actor: str, why: str) -> Plan:
    """A plan that was written into the history while nothing else was."""
    for _ in range(_TRIES):
        found = plan(workspace)
        if not found.goes:
            return found
        detail = {
            "artifacts": [item.name for item in found.goes if item.kind == "artifact"],
            "rows": [item.name for item in found.goes if item.kind == "rows"],
            "versions": list(found.versions),
            "bytes": found.bytes,
            "why": why,
            "retention": workspace.settings.retention.model_dump(mode="json"),
            "evidence": [{"kind": item.kind, "name": item.name, "why": item.why} for item in found.goes],
            "kept": {item.name: item.why for item in found.stays if item.kind == "artifact"},
        }
        try:
            workspace.ledger.keeping.collect(detail, actor=actor, seen=found.seen)
        except ConflictError:
            continue
        return found
    raise ConflictError(
        "others kept writing to the history; nothing was deleted", where="nacre gc", fix="try again in a quieter moment"
    )


def _delete(workspace: Workspace, item: Item) -> None:
    if item.kind == "artifact":
        workspace.store.remove(item.name)
    elif item.path.is_dir():
        if not item.path.name.startswith("."):
            away = Path(tempfile.mkdtemp(dir=item.path.parent, prefix=_TRASH))
            item.path.rename(away)
        else:
            away = item.path
        shutil.rmtree(away, ignore_errors=True)
    elif item.path.parent == workspace.serving:
        leases.discard(item.path)
    else:
        item.path.unlink(missing_ok=True)


def _artifacts(workspace: Workspace, found: Needed) -> Iterator[tuple[Item, bool]]:
    versions = workspace.ledger.versions()
    for sha in workspace.store.names():
        using = tuple(one.number for one in versions if one.artifact == sha)
        sitting = tuple(one.number for one in versions if one.needs == sha)
        why, path = found.artifacts.get(sha), workspace.store.root / sha
        if why is None:
            told = f"nothing needs version {', '.join(map(str, using))} any more" if using else "no version has it"
        yield Item("artifact", sha, path, folder_bytes(path), why or told, using or sitting), why is not None


def _memory(workspace: Workspace, found: Needed) -> Iterator[tuple[Item, bool]]:
    pictures = needed_pictures(workspace.memory)
    general = {one.general: one.number for one in workspace.ledger.versions() if one.artifact in found.artifacts}
    for path in sorted(workspace.memory.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        kind = path.relative_to(workspace.memory).parts[0]
        if kind == "rows" and path.suffix == ".jsonl":
            why = found.rows.get(path.stem)
            if why is None and time.time() - path.stat().st_mtime < _HOUR_S:
                why = "written within the hour: a version or a report that needs them may be under way"
            told = why or "no version that stays learned from them or is judged by them"
            yield Item("rows", path.stem, path, path.stat().st_size, told), why is not None
            continue
        if kind == IMAGES:
            stays, told = _why_picture(path, pictures)
        elif kind == "general":
            stays, told = _why_general(path, general)
        else:
            stays, told = _why_memory(workspace, found, kind, path)
        name = str(path.relative_to(workspace.memory))
        yield Item("memory", name, path, path.stat().st_size, told), stays


def _why_picture(path: Path, needed: Collection[str]) -> tuple[bool, str]:
    """Whether a picture stays: a kept row has it, or is about to."""
    if path.name in needed:
        return True, "kept rows have it"
    young = time.time() - path.stat().st_mtime < _HOUR_S
    return young, "written within the hour: rows that have it may be under way" if young else "no kept row has it"


def _why_general(path: Path, used: Mapping[str, int]) -> tuple[bool, str]:
    """Whether general text stays: a version whose weights stay read it, or is about to."""
    if path.stem in used:
        return True, f"version {used[path.stem]} read it, and stays"
    young = time.time() - path.stat().st_mtime < _HOUR_S
    return young, "written within the hour: a version that reads it may be under way" if young else "no version has it"


def _why_memory(workspace: Workspace, found: Needed, kind: str, path: Path) -> tuple[bool, str]:
    """Whether a memory file stays, and why: its name says which weights it is about, or that it is a mere cache."""
    if kind in _WEIGHTS:
        owner = next((why for sha, why in found.weights.items() if path.name.startswith(sha[:_IDENTITY_DIGITS])), None)
        return owner is not None, f"it is about weights that stay: {owner}" if owner else "its weights are not kept"
    if kind not in _KEYED:
        return True, _KEPT.get(kind, "it is not of nacre's making")
    key = path.stem.rsplit("-", 1)[-1]
    if key in found.keys:
        return True, f"it is about weights that stay: {found.keys[key]}"
    if not path.stem.startswith("pilot-") and "-" in path.stem:
        return False, "its weights are not kept"
    days = workspace.settings.retention.cache_days
    young = time.time() - path.stat().st_mtime < days * _DAY_S
    age = f"{'younger' if young else 'older'} than {days:g} days"
    return young, f"it can be computed again, and is {age}"


def _converted(workspace: Workspace) -> Iterator[tuple[Item, bool]]:
    """Versions as the engine `ctranslate2` holds them; it touches what it loads, and makes anew what it misses."""
    days = workspace.settings.retention.cache_days
    for folder in sorted(path for path in workspace.converted.glob("*") if path.is_dir()):
        stays = time.time() - folder.stat().st_mtime < days * _DAY_S
        why = f"loaded {'within' if stays else 'not within'} {days:g} days"
        yield Item("converted", folder.name, folder, folder_bytes(folder), why), stays


def _runs(workspace: Workspace) -> Iterator[tuple[Item, bool]]:
    folder, days = workspace.hidden / "runs", workspace.settings.retention.run_days
    for run in sorted(folder.iterdir()) if folder.is_dir() else []:
        if run.name.startswith(".") or not run.is_dir():
            continue
        touched = max((path.stat().st_mtime for path in (run, *run.rglob("*"))), default=0.0)
        stays = time.time() - touched < days * _DAY_S
        why = f"touched {'within' if stays else 'not within'} {days:g} days"
        yield Item("run", run.name, run, folder_bytes(run), why), stays


def _leftovers(workspace: Workspace) -> Iterator[tuple[Item, bool]]:
    """What killed processes left: nobody reads it."""
    told: list[tuple[Path, str]] = [(path, "a process was killed at it") for path in workspace.store.leftovers()]
    told += [(path, "a process was killed at it") for path in abandoned(workspace.hidden)]
    told += [(path, "damaged; a good copy took its place") for path in workspace.store.damaged()]
    told += [(path, "its server has ended") for path in leases.held(workspace.serving)[1]]
    told += [
        (path, "a process was killed while deleting it") for path in (workspace.hidden / "runs").glob(f"{_TRASH}*")
    ]
    told += [(path, "a process was killed while writing it") for path in _temporary(workspace)]
    for path, why in told:
        yield Item("leftover", path.name, path, folder_bytes(path), why), False


def _temporary(workspace: Workspace) -> Iterable[Path]:
    """Temporary files whose writers must be dead: no single file takes an hour."""
    places = (workspace.hidden, workspace.store.root, workspace.memory, *workspace.memory.glob("*/"))
    for folder in places:
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.is_file() and _TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime > _HOUR_S:
                yield path


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def pin(workspace: Workspace, number: int, *, actor: str, why: str, wanted: bool = True) -> None:
    """Pin a version's weights, or with `wanted` False take the pin away.

    Raises:
        InputError: no such version, it is pinned already, or it is not pinned.
        NacreError: its weights were collected or are missing.
    """
    workspace.ledger.version(number)
    if not wanted:
        workspace.ledger.keeping.unpin(number, actor=actor, why=why)
        return
    if not workspace.store.has(workspace.ledger.version(number).artifact):
        raise NacreError(f"the weights of version {number} are missing", where="pin", fix="see nacre verify")
    workspace.ledger.keeping.pin(number, actor=actor, why=why)
