"""A key to the API: what it opens, how much it may ask for, and until when. The secret itself is nowhere written."""

from typing import Literal

from pydantic import Field

from nacre.base.config import Settings
from nacre.records.base import Record

Scope = Literal["infer", "feedback", "admin"]
SCOPES: tuple[Scope, ...] = ("infer", "feedback", "admin")
Period = Literal["day", "month", "total"]


class Limits(Settings):
    """What one key may ask for; None for as much as it likes."""

    requests: int | None = Field(None, ge=1, description="requests a minute, of each gateway")
    tokens: int | None = Field(None, ge=1, description="tokens a minute, prompts and answers, of each gateway")
    concurrency: int | None = Field(None, ge=1, description="requests at a time, of each gateway")
    budget: int | None = Field(None, ge=1, description="tokens in `budget_per`, of all gateways together")
    budget_per: Period = Field("month", description="day and month begin at midnight UTC")


class Key(Record):
    """One key as the ledger knows it.

    Attributes:
        id: the public part, by which it is named everywhere.
        name: whose it is or what for.
        scopes: what it opens: infer (answers), feedback (opinions), admin (releases, keys, metrics).
        limits: how much it may ask for.
        created: UTC, ISO 8601.
        expires: from when on it opens nothing; empty for never.
        rotated: when its secret was last replaced; empty for never.
        old_until: until when the secret before that opens too; empty where there is none.
        revoked: when it was taken back; empty while it was not.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    limits: Limits = Limits()
    created: str
    expires: str = ""
    rotated: str = ""
    old_until: str = ""
    revoked: str = ""

    def opens(self, now: str) -> bool:
        """Whether it opens anything at this time."""
        return not self.revoked and (not self.expires or now < self.expires)
