"""Moving versions in and out of use by hand; step by step it is `rollout`."""

from dataclasses import dataclass

from nacre.base.errors import InputError, NacreError
from nacre.cycle.rows import knowledge_slots
from nacre.cycle.workspace import Workspace
from nacre.records import Event


@dataclass(frozen=True)
class Back:
    """The champion was taken back, and perhaps the documents.

    Attributes:
        event: of the champion.
        documents: number of the snapshot in use now; None without documents.
        then: of the one that this champion answered with last; None where the history tells of none.
    """

    event: Event
    documents: int | None
    then: int | None


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


def _documents_of(workspace: Workspace, to: int | None, *, needed: bool) -> int | None:
    """The snapshot that the champion answered with; a history that cannot be read holds no move up that needs none."""
    if knowledge_slots.in_use(workspace) is None:
        return None
    try:
        return knowledge_slots.with_champion(workspace, to)
    except InputError:
        raise
    except NacreError:
        if needed:
            raise
        return None


def rollback_with_documents(
    workspace: Workspace, *, to: int | None, actor: str, why: str, documents: bool = False
) -> Back:
    """Take the champion back as `rollback` does, and say which snapshot of the documents it answered with last.

    Args:
        workspace: where they are.
        to: one of the last three champions; default: the one before.
        actor: who does it.
        why: one sentence for the history.
        documents: put that snapshot to use again too. The champion goes first: a kill between leaves the documents.

    Raises:
        InputError: there is no such champion, or its documents are asked for and there were none; nothing was moved.
        NacreError: its snapshot cannot be searched any more; nothing was moved.
    """
    then = _documents_of(workspace, to, needed=documents)
    if documents and then is None:
        fix = "leave --documents out; nacre knowledge list shows the snapshots that are kept"
        raise InputError("the history tells of no documents of that champion", where="--documents", fix=fix)
    if documents and then is not None and then != knowledge_slots.in_use(workspace):
        knowledge_slots.searchable(workspace, then)
    event = rollback(workspace, to=to, actor=actor, why=why)
    if documents and then != knowledge_slots.in_use(workspace):
        knowledge_slots.rollback(workspace, to=then, actor=actor, why=why)
    return Back(event, knowledge_slots.in_use(workspace), then)
