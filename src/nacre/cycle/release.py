"""Moving versions in and out of use, and checking that everything kept is still whole."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from nacre.base.errors import InputError, NacreError
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.workspace import Workspace, fingerprint_anew, local_folder
from nacre.data.rows import read_rows
from nacre.records import Event


def promote(workspace: Workspace, number: int, *, actor: str, why: str, force: bool = False) -> Event:
    """Make version `number` the champion.

    Raises:
        InputError: the gate did not pass it against the present champion and `force` is not given, or there is no
            such version.
        ConflictError: somebody promoted in the meantime.
    """
    made = workspace.ledger.version(number)
    champion = workspace.ledger.slot("champion")
    verdict = workspace.ledger.verdict(number)
    against, now = workspace.ledger.judged_against(number), champion.version if champion else None
    outcome = verdict.outcome if verdict else "never judged"
    doubt: str = "" if outcome == "pass" else outcome
    what, way_out = f"the gate did not pass version {number}: {outcome}", f"see nacre versions show {number}"
    if not doubt and now not in (against, number):
        doubt = f"judged against {f'version {against}' if against else 'the base model'}, not version {now}"
        what = f"version {number} was {doubt}, which is champion"
        way_out = f"nacre evolve {made.snapshot.task} --from {made.parents[0] if made.parents else 0} judges it anew"
    if doubt and not force:
        overrule = f"nacre promote {number} --force --why '…' overrules the gate"
        raise InputError(what, where=f"version {number}", fix=f"{way_out}; {overrule}")
    reason = f"{why} (gate overruled: {doubt})" if doubt else why
    return workspace.ledger.promote(
        number,
        expected=champion.generation if champion else 0,
        actor=actor,
        why=reason,
        evidence=verdict.digest if verdict else "",
    )


def rollback(workspace: Workspace, *, to: int | None, actor: str, why: str) -> Event:
    """Take the champion back: to the one before, or to version `to` among the last three."""
    return workspace.ledger.rollback(to=to, actor=actor, why=why)


@dataclass(frozen=True)
class Check:
    """One thing that was verified: what, and what is wrong with it (empty when it is whole)."""

    what: str
    fault: str = ""


def verify(workspace: Workspace) -> list[Check]:
    """Check the event chain, the slots, every version's artifact, the base model and every rows file that is kept.

    Everything is read again, whatever was remembered of it.
    """
    checks = [_check("event chain and slots", workspace.ledger.verify_chain)]
    versions = workspace.ledger.versions()
    for number, sha in {sha: (v.number, sha) for v in versions for sha in (v.artifact, v.needs) if sha}.values():
        checks.append(_check(f"version {number}: artifact {sha[:12]}", partial(workspace.store.verify, sha)))
    for base in {version.base_sha256 for version in versions}:
        checks.append(_check(f"base model {workspace.settings.model}", partial(_verify_base, workspace, base)))
    kept = {
        file.sha256: (task.name, file)
        for version in versions
        for task in tasks_of(ancestry(workspace, version.number)).values()
        for file in (*task.train, *([task.dev] if task.dev else []))
    }
    for name, file in kept.values():
        checks.append(_check(f"rows of {name} {file.sha256[:12]}", partial(read_rows, workspace.memory, file)))
    return checks


def _verify_base(workspace: Workspace, expected: str) -> None:
    folder = local_folder(workspace.settings.model, workspace.root)
    if fingerprint_anew(folder) != expected:
        raise NacreError(
            "its files are not those that versions were trained from",
            where=str(folder),
            fix="restore the model's files; adapters cannot be served on others",
        )


def _check(what: str, action: Callable[[], object]) -> Check:
    try:
        action()
    except NacreError as error:
        return Check(what, str(error).replace("\n", "; "))
    return Check(what)
