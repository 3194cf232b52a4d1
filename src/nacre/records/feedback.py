"""What was asked and answered while serving, and what people said about it."""

from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import field_validator, model_validator

from nacre.records.base import Record

FeedbackKind = Literal["stars", "thumb", "score", "comment", "correction"]
FeedbackStatus = Literal["new", "accepted", "rejected", "exported"]

_VALUES: dict[str, tuple[float, ...]] = {"stars": (1, 2, 3, 4, 5), "thumb": (0, 1)}


class ChatTurn(Record):
    """One turn as the API received it; unlike a training `Message` the role may be `system`."""

    role: str
    content: str


class Interaction(Record):
    """One request and its answer.

    Attributes:
        id: the response id the client saw, e.g. ``chatcmpl-…``.
        time: when the answer was whole, UTC, ISO 8601 with milliseconds; another offset is converted.
        version: number of the version that answered; 0 for the bare base model.
        arm: the slot that answered, e.g. ``champion``.
        session: what the client calls the conversation; may be empty.
        messages: the request, system turn included.
        finish: OpenAI's finish reason, ``aborted`` when the client went away, or ``error`` when no answer came.
        latency_s: seconds from the request's arrival to the last token.
        twin: for an answer of the shadow the id of the champion's answer to the same request; else empty.
    """

    id: str
    time: str
    version: int
    arm: str
    session: str = ""
    messages: tuple[ChatTurn, ...]
    answer: str
    finish: str
    prompt_tokens: int = 0
    answer_tokens: int = 0
    latency_s: float = 0.0
    twin: str = ""

    @field_validator("time")
    @classmethod
    def _in_utc(cls, time: str) -> str:
        """Times are compared as texts: all of one form, or the comparison means nothing."""
        found = datetime.fromisoformat(time)
        if found.tzinfo is None:
            raise ValueError("a time needs its offset from UTC, e.g. 2026-05-01T00:00:00.000+00:00")
        return found.astimezone(UTC).isoformat(timespec="milliseconds")


class Feedback(Record):
    """One opinion on one interaction.

    Attributes:
        id: number given by the ledger; 0 before it is stored.
        interaction: id of the interaction it is about.
        value: stars 1 to 5, thumb 0 (down) or 1 (up), a judge's score from 0 to 1; None for comments and corrections.
        text: the comment, or the answer that should have been given.
        source: who said it (user, key id, importer).
    """

    id: int = 0
    time: str
    interaction: str
    kind: FeedbackKind
    value: float | None = None
    text: str = ""
    source: str = ""
    status: FeedbackStatus = "new"

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "score":
            if self.value is None or not 0 <= self.value <= 1:
                raise ValueError("a score is a number from 0 to 1")
            return self
        values = _VALUES.get(self.kind)
        if values is not None and self.value not in values:
            raise ValueError(f"{self.kind} must be one of {', '.join(f'{value:g}' for value in values)}")
        if values is None and (self.value is not None or not self.text.strip()):
            raise ValueError(f"a {self.kind} is a text that is not empty, without a value")
        return self
