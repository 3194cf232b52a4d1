"""Moving versions in and out of use by hand; step by step it is `rollout`."""

from nacre.base.errors import InputError
from nacre.cycle.workspace import Workspace
from nacre.records import Event


def promote(workspace: Workspace, number: int, *, actor: str, why: str, force: bool = False) -> Event:
    """Make version `number` the champion, at once and for everybody. With `force` an active rollout ends.

    Raises:
        InputError: the gate did not pass it against the present champion, or a rollout is active, and `force` is not
            given; or there is no such version.
        ConflictError: somebody promoted in the meantime.
    """
    champion = workspace.ledger.slot("champion")
    verdict = workspace.ledger.verdict(number)
    doubt = doubt_of(workspace, number, overrule=f"nacre promote {number} --force --why '…'", force=force)
    return workspace.ledger.promote(
        number,
        expected=champion.generation if champion else 0,
        actor=actor,
        why=f"{why} (gate overruled: {doubt})" if doubt else why,
        evidence=verdict.digest if verdict else "",
        over_release=force,
    )


def doubt_of(workspace: Workspace, number: int, *, overrule: str, force: bool) -> str:
    """Why the gate's word does not allow to release a version; empty when it does.

    Args:
        workspace: where it is.
        number: the version.
        overrule: the command that does it all the same.
        force: answer with the doubt instead of raising.

    Raises:
        InputError: there is a doubt and `force` is not given, or there is no such version.
    """
    workspace.ledger.version(number)
    champion = workspace.ledger.slot("champion")
    verdict = workspace.ledger.verdict(number)
    against, now = workspace.ledger.judged_against(number), champion.version if champion else None
    outcome = verdict.outcome if verdict else "never judged"
    judges = f"nacre versions judge {number} judges it"
    doubt: str = "" if outcome == "pass" else outcome
    what = f"the gate did not pass version {number}: {outcome}"
    way_out = f"see nacre versions show {number}" if verdict else judges
    if not doubt and now not in (against, number):
        doubt = f"judged against {f'version {against}' if against else 'the base model'}, not version {now}"
        what = f"version {number} was {doubt}, which is champion"
        way_out = f"{judges} anew"
    if doubt and not force:
        raise InputError(what, where=f"version {number}", fix=f"{way_out}; {overrule} overrules the gate")
    return doubt


def rollback(workspace: Workspace, *, to: int | None, actor: str, why: str) -> Event:
    """Take the champion back: to the one before, or to version `to` among the last three. An active rollout ends."""
    return workspace.ledger.rollback(to=to, actor=actor, why=why)
