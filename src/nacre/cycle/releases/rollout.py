"""Releasing a version step by step: look at what its answers show, and move it on, hold it or take it back.

`tick` is one look. It reads the whole rollout each time and keeps nothing between looks, so any process may do it,
as often as it likes, and a kill between two looks loses nothing.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nacre.base.clock import now
from nacre.base.errors import ConflictError, InputError
from nacre.cycle.releases.release import doubt_of
from nacre.cycle.releases.sight import sight
from nacre.cycle.workspace import Workspace
from nacre.gate.budget import WISHED
from nacre.gate.release import Decision, Sight, decide
from nacre.records import Event, Keep
from nacre.records.release import Action, Quality, Release, Rollout
from nacre.registry.observed import Opinions, Pair
from nacre.registry.releases import Reason

_TRIES = 5  # of a rollback that others race with
QUALITIES: tuple[Quality, ...] = ("shadow", "feedback", "completion")


@dataclass(frozen=True)
class Look:
    """One look at a rollout: what was seen, and what follows from it."""

    rollout: Rollout
    sight: Sight
    decision: Decision
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.rollout
        return {
            "id": found.id,
            "version": found.version,
            "champion": found.champion,
            "state": found.state,
            "weight": found.weight,
            "held": found.held,
            "since": found.since,
            "why": found.why,
            "decision": self.decision.action,
            "because": self.decision.why,
            "missing": list(self.decision.missing),
            **self.sight.as_dict(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Tick:
    """What one look led to: the look, and the rollout after it (the same one where nothing was done)."""

    look: Look
    after: Rollout

    @property
    def exit_code(self) -> int:
        """0: it went on; 3: it was stopped; 4: undecided, it waits."""
        return {"advance": 0, "abort": 3, "wait": 4}[self.look.decision.action]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"look": self.look.as_dict(), "state": self.after.state, "weight": self.after.weight}


def start(workspace: Workspace, number: int, *, actor: str, why: str, force: bool = False) -> Rollout:
    """Begin to release a version: into the shadow, or into the canary where `release.shadow_requests` is 0.

    Raises:
        InputError: the gate did not pass it against the present champion and `force` is not given, there is no
            champion to compare with, another rollout is active, or the version is champion already.
    """
    champion = workspace.ledger.slot("champion")
    if champion is None:
        raise InputError(
            "there is no champion to compare with",
            where="slot champion",
            fix=f"`nacre promote {number}` makes the first one",
        )
    doubt = doubt_of(workspace, number, overrule=f"nacre release start {number} --force --why '…'", force=force)
    settings = workspace.settings
    time = now()
    planned = Rollout(
        version=number,
        champion=champion.version,
        salt=secrets.token_hex(8),
        plan=settings.release,
        margins=margins(settings.release, settings.keep),
        confidence=settings.keep.confidence,
        created=time,
        since=time,
    )
    reason = f"{why} (gate overruled: {doubt})" if doubt else why
    verdict = workspace.ledger.verdict(number)
    evidence = {"verdict": verdict.digest, "outcome": verdict.outcome} if verdict else {}
    return workspace.ledger.releases.start(planned, Reason(actor, reason, evidence))


def margins(release: Release, keep: Keep) -> dict[str, float]:
    """What each quality may lose: `release.metrics`, else the budget, else 0.02."""
    budget = WISHED if keep.max_drop == "auto" else keep.max_drop
    return {name: release.metrics.get(name, budget) for name in QUALITIES}


def look(workspace: Workspace, rollout: Rollout | None = None) -> Look | None:
    """What the rollout's answers show now; None where no rollout is active."""
    found = rollout or workspace.ledger.releases.active()
    if found is None:
        return None
    observed = workspace.ledger.releases.observed
    pairs, opinions = observed.pairs(found), observed.opinions(found)
    seen = sight(found, pairs, observed.answers(found), opinions, time=now())
    return Look(found, seen, decide(found, seen), tuple(_notes(found, pairs, opinions)))


def tick(workspace: Workspace, *, actor: str = "release") -> Tick | None:
    """Look once and act: advance, abort, or leave it as it is. None where no rollout is active.

    Raises:
        ConflictError: somebody moved the rollout in between; nothing was done.
    """
    seen = look(workspace)
    if seen is None:
        return None
    if seen.decision.action == "wait":
        return Tick(seen, seen.rollout)
    reason = Reason(actor, seen.decision.why, seen.sight.as_dict())
    return Tick(seen, workspace.ledger.releases.move(seen.decision.action, reason, expected=seen.rollout))


def hold(workspace: Workspace, *, actor: str, why: str) -> Rollout:
    """Let it go no further until `resume`; users keep the arm they have. What shows harm still stops it.

    As `abort` and `rollback` it asks for no look and no state of the rollout: whatever the evidence is, it works.
    """
    return workspace.ledger.releases.move("hold", Reason(actor, why))


def resume(workspace: Workspace, *, actor: str, why: str) -> Rollout:
    """Let a held rollout go on."""
    return _move(workspace, "resume", actor, why)


def approve(workspace: Workspace, *, actor: str, why: str) -> Rollout:
    """Allow what follows the present stage; it goes on as soon as the stage's other conditions are met."""
    return _move(workspace, "approve", actor, why)


def abort(workspace: Workspace, *, actor: str, why: str) -> Rollout:
    """End it: the champion answers everybody again. At once: nothing is looked at before."""
    return workspace.ledger.releases.move("abort", Reason(actor, why))


def promote(workspace: Workspace, *, actor: str, why: str, force: bool = False) -> Rollout:
    """Skip what is left and make the version champion now.

    Raises:
        InputError: its answers show harm, and `force` is not given; or no rollout is active.
    """
    seen = look(workspace)
    if seen is not None and seen.decision.action == "abort" and not force:
        raise InputError(
            f"version {seen.rollout.version} does harm: {seen.decision.why}",
            where=f"release {seen.rollout.id}",
            fix="`nacre release abort` ends it; `nacre release promote --force --why '…'` overrules the evidence",
        )
    return _move(workspace, "promote", actor, why, seen)


def rollback(workspace: Workspace, *, actor: str, why: str) -> Rollout:
    """Take the latest release back, wherever it stands: abort it, or make the champion before it champion again.

    Raises:
        InputError: there is nothing to take back.
    """
    for _ in range(_TRIES - 1):
        try:
            return _take_back(workspace, actor, why)
        except ConflictError:  # somebody moved the champion while its artifact was verified: look where it is now
            continue
    return _take_back(workspace, actor, why)


def _take_back(workspace: Workspace, actor: str, why: str) -> Rollout:
    releases = workspace.ledger.releases
    if releases.active() is not None:
        try:
            return abort(workspace, actor=actor, why=why)
        except InputError:  # it has ended meanwhile
            if releases.active() is not None:
                raise
    champion = workspace.ledger.slot("champion")
    last = next((one for one in reversed(releases.all()) if one.state == "champion"), None)
    if last is None or champion is None or last.version != champion.version:
        raise InputError(
            "no release stands to be taken back: none is active, and none made the present champion",
            where="release",
            fix="`nacre rollback` takes the champion itself back",
        )
    workspace.ledger.rollback(actor=actor, why=why)
    return releases.get(last.id)


def history(workspace: Workspace, identity: int) -> list[Event]:
    """The events of one rollout, oldest first: its moves, and later ones by which its version came and went."""

    def of(event: Event) -> bool:
        named = [event.detail.get("release", {}), *event.detail.get("settled", ())]
        return any(one.get("id") == identity for one in named)

    return [event for event in workspace.ledger.events() if of(event)]


def _notes(rollout: Rollout, pairs: Sequence[Pair], opinions: Opinions) -> list[str]:
    """What is not known, in plain words."""
    notes = []
    unscored = sum(pair.scores is None for pair in pairs)
    if unscored:
        notes.append(f"{unscored} of {len(pairs)} shadow pairs are not scored: their quality is not judged")
    if rollout.state == "canary" and not opinions:
        notes.append("no user has said anything of the answers: feedback is not judged")
    for count, cap in ((opinions.beyond_person, "release.per_person"), (opinions.beyond_key, "release.per_key")):
        if count:
            notes.append(f"{count} opinions do not count: they are beyond {cap}")
    return notes


def _move(workspace: Workspace, action: Action, actor: str, why: str, seen: Look | None = None) -> Rollout:
    found = seen or look(workspace)
    evidence = found.sight.as_dict() if found else {}
    return workspace.ledger.releases.move(
        action, Reason(actor, why, evidence), expected=found.rollout if found else None
    )
