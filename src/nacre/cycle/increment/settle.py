"""What follows from a verdict: it is kept, and what passed becomes champion where that is wanted."""

from dataclasses import dataclass

from nacre.cycle.increment.step import Promote
from nacre.cycle.lineage import ancestry
from nacre.cycle.workspace import Workspace
from nacre.records import Rollout, Verdict, Version
from nacre.registry.slots import Slot


@dataclass(frozen=True)
class Decision:
    """Who decides, on what, and what the history is told.

    Attributes:
        against: the version that the verdict compares with; None for the base model.
        champion: the slot as it was when the work began: nothing is promoted over another one.
        promote: whether what passed becomes champion.
    """

    against: int | None
    champion: Slot | None
    promote: Promote
    actor: str
    why: str


def settle(workspace: Workspace, version: Version, verdict: Verdict, decision: Decision) -> Rollout | None:
    """Keep the verdict, and promote when the gate passes; returns the release that is under way, if there is one.

    Raises:
        ConflictError: another version became champion meanwhile; the verdict is kept.
    """
    if workspace.ledger.verdict(version.number) != verdict:
        workspace.ledger.put_verdict(version.number, decision.against, verdict)
    underway = workspace.ledger.releases.active()
    if decision.promote == "pass" and verdict.outcome == "pass" and underway is None:
        workspace.ledger.promote(
            version.number,
            expected=decision.champion.generation if decision.champion else 0,
            actor=decision.actor,
            why=decision.why,
            evidence=verdict.digest,
        )
    return underway


def waits(underway: Rollout | None) -> list[str]:
    """Why a version that passed is not promoted while another one is being released."""
    if underway is None:
        return []
    return [f"version {underway.version} is being released: nothing else is promoted before that has ended"]


def in_use(workspace: Workspace, version: Version) -> bool:
    """Whether it is the champion, or the champion comes from it."""
    champion = workspace.ledger.slot("champion")
    return champion is not None and version.number in {one.number for one in ancestry(workspace, champion.version)}
