"""Moving versions in and out of use, and checking that everything kept is still whole."""

from dataclasses import dataclass

from nacre.base.errors import InputError, NacreError
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.records import Event


def promote(workspace: Workspace, number: int, *, actor: str, why: str, force: bool = False) -> Event:
    """Make version `number` the champion.

    Raises:
        InputError: the gate did not pass it and `force` is not given, or there is no such version.
        ConflictError: somebody promoted in the meantime.
    """
    workspace.ledger.version(number)
    verdict = workspace.ledger.verdict(number)
    outcome = verdict.outcome if verdict else "never judged"
    if outcome != "pass" and not force:
        raise InputError(
            f"the gate did not pass version {number}: {outcome}",
            where=f"version {number}",
            fix=f"see nacre versions show {number}; nacre promote {number} --force --why '…' overrules the gate",
        )
    champion = workspace.ledger.slot("champion")
    reason = why if outcome == "pass" else f"{why} (gate overruled: {outcome})"
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
    """Check the event chain, every version's artifact, the base model and every rows file that is kept."""
    checks = [_check("event chain", workspace.ledger.verify_chain)]
    for version in workspace.ledger.versions():
        name = f"version {version.number}"
        for sha in filter(None, (version.artifact, version.needs)):
            checks.append(_check(f"{name}: artifact {sha[:12]}", lambda sha=sha: workspace.store.verify(sha)))
        if version.base_sha256 != workspace.base.identity:
            checks.append(Check(f"{name}: base model", "the base model's files are not those it was trained on"))
        for task in tasks_of(ancestry(workspace, version.number)).values():
            files = {file.sha256: file for file in (*task.train, *([task.dev] if task.dev else []))}
            for sha, file in files.items():
                checks.append(
                    _check(
                        f"{name}: rows of {task.name} {sha[:12]}", lambda file=file: read_rows(workspace.memory, file)
                    )
                )
    return list({(check.what, check.fault): check for check in checks}.values())


def _check(what: str, action: object) -> Check:
    assert callable(action)
    try:
        action()
    except NacreError as error:
        return Check(what, str(error).replace("\n", "; "))
    return Check(what)
