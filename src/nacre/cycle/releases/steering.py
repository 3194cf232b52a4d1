"""Every move of a release as one call with JSON in and out: what the server's admin API asks for."""

from collections.abc import Callable, Mapping
from typing import Any

from nacre.cycle.releases import release, rollout
from nacre.cycle.releases.showing import views
from nacre.cycle.rows.draft_views import draft_views
from nacre.cycle.scores.similarity import similarity
from nacre.cycle.workspace import Workspace
from nacre.records import Rollout
from nacre.records.release import commands

Action = Callable[[Mapping[str, Any], str], Any]


def actions(workspace: Workspace) -> dict[str, Action]:
    """The moves by name, what people look at (`views`), and the rows they review (`draft_views`).

    Each move takes what was sent (`version`, `why`, `force`, `to`) and who sent it.

    They raise what the functions of `rollout` and `release` raise; a workspace may be shared by threads.
    """
    moves: dict[str, Callable[..., Rollout]] = {
        "hold": rollout.hold,
        "resume": rollout.resume,
        "approve": rollout.approve,
        "abort": rollout.abort,
        "rollback": rollout.rollback,
    }
    found: dict[str, Action] = {name: _plain(workspace, move) for name, move in moves.items()}

    def start(given: Mapping[str, Any], actor: str) -> Any:
        why, force = given["why"], given["force"]
        return told(rollout.start(workspace, given["version"], actor=actor, why=why, force=force))

    def promote(given: Mapping[str, Any], actor: str) -> Any:
        return told(rollout.promote(workspace, actor=actor, why=given["why"], force=given["force"]))

    def tick(given: Mapping[str, Any], actor: str) -> Any:
        done = rollout.tick(workspace, actor=actor)
        return done.as_dict() if done else {"look": None}

    def promote_champion(given: Mapping[str, Any], actor: str) -> Any:
        why, force = given["why"], given["force"]
        return release.promote(workspace, given["version"], actor=actor, why=why, force=force).model_dump(mode="json")

    def rollback_champion(given: Mapping[str, Any], actor: str) -> Any:
        return release.rollback(workspace, to=given["to"], actor=actor, why=given["why"]).model_dump(mode="json")

    found |= views(workspace) | draft_views(workspace)
    return found | {
        "status": lambda given, actor: status(workspace),
        "start": start,
        "promote": promote,
        "tick": tick,
        "promote champion": promote_champion,
        "rollback champion": rollback_champion,
    }


def status(workspace: Workspace, seen: rollout.Look | None = None) -> dict[str, Any]:
    """Where the release is, what its answers show, which moves are possible, and what became of those before.

    Args:
        workspace: where it is.
        seen: a look that was taken already; None takes one.
    """
    seen = seen or rollout.look(workspace)
    active = None
    if seen is not None:
        alike = similarity(workspace, seen.rollout)
        active = seen.as_dict() | {"possible": list(commands(seen.rollout))}
        active["similarity"] = alike.as_dict() if alike else None
    past = workspace.ledger.releases.all()
    return {
        "active": active,
        "slots": {name: slot.version for name, slot in workspace.ledger.slots().items()},
        "releases": [{"id": one.id, "version": one.version, "state": one.state, "why": one.why} for one in past],
    }


def told(after: Rollout) -> dict[str, Any]:
    """A rollout after a move, for JSON."""
    return after.model_dump(mode="json") | {"weight": after.weight}


def _plain(workspace: Workspace, move: Callable[..., Rollout]) -> Action:
    return lambda given, actor: told(move(workspace, actor=actor, why=given["why"]))
