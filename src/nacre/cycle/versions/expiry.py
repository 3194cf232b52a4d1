"""Answers and opinions that are older than `retention` lets them get."""

from datetime import UTC, datetime, timedelta

from nacre.cycle.workspace import Workspace


def expired(workspace: Workspace) -> dict[str, int]:
    """How many answers (`interactions`) and opinions (`feedback`) `expire` would delete now."""
    return workspace.ledger.usage.expired(*_before(workspace))


def expire(workspace: Workspace, *, actor: str, why: str) -> dict[str, int]:
    """Delete them; the event `expired` tells how many. Opinions go with the answers that they are about."""
    before = _before(workspace)
    if before == (None, None):
        return {"interactions": 0, "feedback": 0}
    return workspace.ledger.usage.expire(*before, actor=actor, why=why)


def _before(workspace: Workspace) -> tuple[str | None, str | None]:
    """Since when answers and opinions are kept; None: since ever."""
    settings, present = workspace.settings.retention, datetime.now(UTC)
    answers, opinions = (
        None if days is None else (present - timedelta(days=days)).isoformat(timespec="milliseconds")
        for days in (settings.interaction_days, settings.feedback_days)
    )
    return answers, opinions
