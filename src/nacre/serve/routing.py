"""Which version answers a request: by the name the client gave, and by the slots of the ledger. No waiting, no disk."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from nacre.records.release import Rollout
from nacre.serve.engines import Target

CHAMPION, CHALLENGER, SHADOW = "champion", "challenger", "shadow"
DIRECT = "direct"  # the arm of requests that named their version: no part of any comparison


@dataclass(frozen=True)
class Route:
    """The version that answers, and as which arm it counts."""

    target: Target
    arm: str


@dataclass(frozen=True)
class Live:
    """What is served at one moment; replaced as a whole, so that a request sees one moment only.

    Attributes:
        slots: the loaded version of each slot that has one.
        rollout: the release under way, if there is one.
        leaving: versions of no slot that answer to their numbers for a moment longer.
    """

    slots: Mapping[str, Target] = field(default_factory=dict)
    rollout: Rollout | None = None
    leaving: tuple[Target, ...] = ()

    @property
    def champion(self) -> Target | None:
        """The version that answers where nothing else is said."""
        return self.slots.get(CHAMPION)

    def route(self, user: str) -> Route | None:
        """The version that answers this user: the canary's for its share of the users, else the champion."""
        tried = self._tried("canary", CHALLENGER)
        if tried is not None and self.rollout is not None and self.rollout.takes(user):
            return Route(tried, CHALLENGER)
        return Route(self.champion, CHAMPION) if self.champion else None

    def named(self, name: str) -> Route | None:
        """The version that a client asked for by slot (``challenger``) or by number (``7``), if it is loaded."""
        for slot, target in self.slots.items():
            if name in (slot, str(target.version)):
                return Route(target, DIRECT)
        return next((Route(target, DIRECT) for target in self.leaving if name == str(target.version)), None)

    @property
    def shadow(self) -> Target | None:
        """The version that answers unseen beside the champion, while the rollout is in the shadow."""
        return self._tried("shadow", SHADOW)

    def _tried(self, state: str, slot: str) -> Target | None:
        """The rollout's version, if it is in this state and loaded."""
        target = self.slots.get(slot)
        if self.rollout is None or self.rollout.state != state or target is None:
            return None
        return target if target.version == self.rollout.version else None


def user_of(key_id: str, user: str) -> str:
    """The name by which a user is assigned and kept: of one key's users only, and not the client's own text.

    Empty where the client names no user: then each request is assigned by its own id.
    """
    return hashlib.sha256(f"{key_id}\n{user}".encode("utf-8", "surrogatepass")).hexdigest()[:32] if user else ""
