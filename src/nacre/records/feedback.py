"""What was asked and answered while serving, and what people said about it."""

import re
from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from nacre.records.base import Record

FeedbackKind = Literal["stars", "thumb", "score", "comment", "correction", "pair"]
FeedbackStatus = Literal["new", "quarantined", "accepted", "rejected", "exported"]
Consent = Literal["assumed", "given", "refused"]

_VALUES: dict[str, tuple[float, ...]] = {"stars": (1, 2, 3, 4, 5), "thumb": (0, 1), "pair": (0, 0.5, 1)}


_WRITTEN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}\+00:00")


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
        session: hash of the user the client names; may be empty.
        messages: the request, system turn included.
        finish: OpenAI's finish reason, ``aborted`` when the client went away, or ``error`` when no answer came.
        latency_s: seconds from the request's arrival to the last token.
        twin: for an answer of the shadow the id of the champion's answer to the same request; else empty.
        first_token_s: seconds from the request's arrival to the first token; None where it is not known.
        consent: whether it may be learned from: the client said yes (`given`), said nothing (`assumed`), or said no
            (`refused`), as nothing counts where `serve.privacy.consent` is `asked`.
        removed: what was taken out of the texts before they were written: kind (EMAIL, PHONE …) to count.
        prompt: hash of what was asked, as it is kept: the same question has the same one.
        key: id of the key that it was asked with; empty where none was needed, and for an answer of the shadow.
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
    first_token_s: float | None = None
    consent: Consent = "assumed"
    removed: dict[str, int] = Field(default_factory=dict)
    prompt: str = ""
    key: str = ""

    @field_validator("time")
    @classmethod
    def _in_utc(cls, time: str) -> str:
        """Times are compared as texts: all of one form, or the comparison means nothing."""
        found = datetime.fromisoformat(time)
        if found.tzinfo is None:
            raise ValueError("a time needs its offset from UTC, e.g. 2026-05-01T00:00:00.000+00:00")
        if _WRITTEN.fullmatch(time):  # as nearly all are made
            return time
        return found.astimezone(UTC).isoformat(timespec="milliseconds")


class Feedback(Record):
    """One opinion on one interaction.

    Attributes:
        id: number given by the ledger; 0 before it is stored.
        interaction: id of the interaction it is about.
        value: stars 1 to 5, thumb 0 (down) or 1 (up), a judge's score from 0 to 1, of a pair 1 where this answer is
            the better one, 0 where the other is, 0.5 where neither; None for comments and corrections.
        text: the comment, or the answer that should have been given.
        source: through what it came (key id, importer).
        person: hash of who said it, as far as the client names its users; empty where it does not.
        other: of a pair: id of the interaction whose answer it was compared with; else empty.
        why: the reason why it is quarantined or rejected.
        increment: the increment that was made of it.
    """

    id: int = 0
    time: str
    interaction: str
    kind: FeedbackKind
    value: float | None = None
    text: str = ""
    source: str = ""
    person: str = ""
    other: str = ""
    status: FeedbackStatus = "new"
    why: str = ""
    increment: str = ""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "score":
            if self.value is None or not 0 <= self.value <= 1:
                raise ValueError("a score is a number from 0 to 1")
            return self
        if (self.kind == "pair") != bool(self.other) or self.other == self.interaction:
            raise ValueError("a pair names the other answer, and nothing else does")
        values = _VALUES.get(self.kind)
        if values is not None and self.value not in values:
            raise ValueError(f"{self.kind} must be one of {', '.join(f'{value:g}' for value in values)}")
        if values is None and (self.value is not None or not self.text.strip()):
            raise ValueError(f"a {self.kind} is a text that is not empty, without a value")
        return self
