"""Is everything that is kept still whole, and which versions does a fault touch?"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from nacre.base.errors import NacreError
from nacre.cycle.forget import unfinished
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.workspace import Workspace, fingerprint_anew, local_folder
from nacre.data.rows import read_rows, rows_path
from nacre.records import RowsFile, Version


@dataclass(frozen=True)
class Check:
    """One thing that was verified.

    Attributes:
        what: the thing.
        fault: what is wrong with it; empty when it is whole.
        versions: the versions that a fault touches: those that cannot be served, judged or trained from any more.
        collected: it is not there, as `nacre gc` left it.
    """

    what: str
    fault: str = ""
    versions: tuple[int, ...] = ()
    collected: bool = False


def verify(workspace: Workspace) -> list[Check]:
    """Check the event chain, the slots, every version's artifact, the base model and every rows file that is kept.

    Everything is read again, whatever was remembered of it. What `nacre gc` took away is no fault, unless a slot
    points to it. Writes nothing.
    """
    ledger = workspace.ledger
    versions = ledger.versions()
    everyone = tuple(version.number for version in versions)
    artifacts, rows = ledger.keeping.collected()
    checks = [_check("event chain and slots", ledger.verify_chain, everyone)]
    checks += _slots(workspace, versions, artifacts)
    checks += _artifacts(workspace, versions, artifacts)
    for base in {version.base_sha256 for version in versions}:
        touched = tuple(version.number for version in versions if version.base_sha256 == base)
        what = f"base model {workspace.settings.model}"
        checks.append(_check(what, partial(_verify_base, workspace, base), touched))
    for name, file, touched in _kept_rows(workspace, versions):
        if file.sha256 in rows and not rows_path(workspace.memory, file.sha256).exists():
            checks.append(Check(f"rows of {name} {file.sha256[:12]}", collected=True))
            continue
        action = partial(read_rows, workspace.memory, file)
        checks.append(_check(f"rows of {name} {file.sha256[:12]}", action, touched))
    checks += [Check(f"rows removed by event {number}", fault) for number, fault in unfinished(workspace)]
    return checks


def _slots(workspace: Workspace, versions: Iterable[Version], collected: frozenset[str]) -> Iterable[Check]:
    """Whether each slot leads to a version with weights that are here."""
    known = {version.number: version for version in versions}
    for slot in workspace.ledger.slots().values():
        version, what = known.get(slot.version), f"slot {slot.name}"
        fault = ""
        if version is None:
            fault = f"it points to version {slot.version}, which is not in the ledger; promote another one"
        elif not workspace.store.has(version.artifact):
            how = "were collected" if version.artifact in collected else "are missing"
            fault = f"it points to version {slot.version}, whose weights {how}; promote another one, or restore them"
        yield Check(what, fault, (slot.version,) if fault else ())


def _artifacts(workspace: Workspace, versions: Iterable[Version], collected: frozenset[str]) -> Iterable[Check]:
    """Every artifact that a version has or sits on, once; a fault touches all that have it or sit on it."""
    users: dict[str, list[int]] = {}
    for version in versions:
        for sha in (version.artifact, version.needs):
            if sha:
                users.setdefault(sha, []).append(version.number)
    for sha, numbers in users.items():
        what = f"version {numbers[0]}: artifact {sha[:12]}"
        if sha in collected and not workspace.store.has(sha):
            yield Check(what, collected=True)
        else:
            yield _check(what, partial(workspace.store.verify, sha), tuple(numbers))


def _kept_rows(workspace: Workspace, versions: Iterable[Version]) -> Iterable[tuple[str, RowsFile, tuple[int, ...]]]:
    """Rows files that some version still needs: those along its line that may be used again."""
    kept: dict[str, tuple[str, RowsFile]] = {}
    users: dict[str, list[int]] = {}
    for version in versions:
        for task in tasks_of(ancestry(workspace, version.number)).values():
            for file in (*task.train, *([task.dev] if task.dev else [])):
                kept.setdefault(file.sha256, (task.name, file))
                users.setdefault(file.sha256, []).append(version.number)
    return [(name, file, tuple(users[sha])) for sha, (name, file) in kept.items()]


def _verify_base(workspace: Workspace, expected: str) -> None:
    folder = local_folder(workspace.settings.model, workspace.root)
    if fingerprint_anew(folder) != expected:
        raise NacreError(
            "its files are not those that versions were trained from",
            where=str(folder),
            fix="restore the model's files; adapters cannot be served on others",
        )


def _check(what: str, action: Callable[[], object], touched: tuple[int, ...]) -> Check:
    try:
        action()
    except NacreError as error:
        return Check(what, str(error).replace("\n", "; "), touched)
    return Check(what)
