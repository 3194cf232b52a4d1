"""Is everything that is kept still whole, and which versions does a fault touch?"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from nacre.base.errors import NacreError
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.rows.forget import unfinished
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
    """Check the event chain, slots, records and what verdicts rest on, every artifact, the base model, and kept rows.

    Everything is read again, whatever was remembered of it. What `nacre gc` took away is no fault, unless a slot
    points to it; what it takes away meanwhile is none either. Writes nothing.
    """
    ledger = workspace.ledger
    versions = ledger.evidence.readable()
    everyone = tuple(version.number for version in versions)
    checks = [_check("event chain and slots", ledger.verify_chain, everyone)]
    artifacts, rows = _collected(workspace)
    wrong, records = ledger.evidence.faults()
    checks += [Check(one.what, one.fault, one.versions) for one in wrong]
    checks += [Check("record") for _ in range(records - len(wrong))]
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
        what, action = f"rows of {name} {file.sha256[:12]}", partial(read_rows, workspace.memory, file)
        checks.append(_check(what, action, touched))
        if checks[-1].fault and file.sha256 in _collected(workspace)[1]:
            checks[-1] = Check(what, collected=True)  # meanwhile
    try:
        checks += [Check(f"rows removed by event {number}", fault) for number, fault in unfinished(workspace)]
    except (NacreError, ValueError) as error:
        checks.append(Check("rows that were removed", str(error).replace("\n", "; ")))
    return checks


def _collected(workspace: Workspace) -> tuple[frozenset[str], frozenset[str]]:
    """What gc took; nothing where the history cannot be read, which is told with the chain."""
    try:
        return workspace.ledger.keeping.collected()
    except NacreError:
        return frozenset(), frozenset()


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
            continue
        found = _check(what, partial(workspace.store.verify, sha, listed=True), tuple(numbers))
        if found.fault and not workspace.store.has(sha) and sha in _collected(workspace)[0]:
            found = Check(what, collected=True)  # meanwhile
        yield found


def _kept_rows(workspace: Workspace, versions: Iterable[Version]) -> Iterable[tuple[str, RowsFile, tuple[int, ...]]]:
    """Rows files that some version still needs: those along its line that may be used again."""
    kept: dict[str, tuple[str, RowsFile]] = {}
    users: dict[str, list[int]] = {}
    for version in versions:
        try:
            line = ancestry(workspace, version.number)
        except NacreError:  # a damaged record along its line: told with the records
            continue
        for task in tasks_of(line).values():
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
    except (NacreError, ValueError) as error:  # a ValueError: a record of the ledger that cannot be read
        return Check(what, str(error).replace("\n", "; "), touched)
    return Check(what)
