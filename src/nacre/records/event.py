"""The append-only history."""

from typing import Any

from nacre.base.hashing import content_hash
from nacre.records.base import Record


class Event(Record):
    """Who did what to which slot or version, why, on what evidence. Each event carries the hash of the one before."""

    id: int
    time: str
    actor: str
    kind: str
    detail: dict[str, Any]
    previous: str

    @property
    def hash(self) -> str:
        """Hash over everything above, so that a change of any past event shows."""
        return content_hash(self.model_dump(mode="json"))
