"""Rows out of answered requests: what was asked, with the answers that opinions make of it."""

import re
from collections.abc import Sequence

from nacre.feedback.signals import LeftOut
from nacre.records import Example, Feedback, Interaction, Message, Origin
from nacre.records.example import Kind

_SIGNED = re.compile(r"((?:chatcmpl|cmpl)-[0-9a-f]{24})-[0-9a-f]{32}")
_MOST_CHARS = 64  # of a column beside what is trained on
_ROLES = {"user": "user", "assistant": "assistant"}
_SYSTEM = ("system", "developer")
FEEDBACK, INTERACTION, PERSON, CONSENT = "feedback", "interaction", "person", "consent"


def row_of(
    kind: Kind, asked: Interaction, answers: Sequence[str], said: Feedback, *, desirable: bool | None = None
) -> Example | LeftOut:
    """The row that opinions make of an answered request; they stand in its origin, so that it can be traced.

    Args:
        kind: sft, preference (answers: chosen, rejected) or kto.
        asked: the request.
        answers: what is learned.
        said: the opinion it comes from.
        desirable: of kto.
    """
    turns = [turn for turn in asked.messages if turn.role not in _SYSTEM]
    if not turns or any(turn.role not in _ROLES for turn in turns):
        return LeftOut("the conversation has turns that cannot be learned from (tools)")
    return Example(
        kind=kind,
        prompt=tuple(Message.model_validate({"role": _ROLES[turn.role], "content": turn.content}) for turn in turns),
        answers=tuple(Message(role="assistant", content=text) for text in answers),
        system="\n\n".join(turn.content for turn in asked.messages if turn.role in _SYSTEM),
        desirable=desirable,
        origin=Origin(file=asked.id, time=asked.time, extra=_origin(asked, said)),
    )


class Rows:
    """Rows that opinions made, each once, with all the opinions behind it."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Example, list[Feedback]]] = {}

    def add(self, row: Example | LeftOut, *said: Feedback) -> None:
        """One more opinion behind a row; what is no row is passed over."""
        if not isinstance(row, LeftOut):
            self._found.setdefault(row.content_id, (row, []))[1].extend(said)

    def of_task(self, task: str) -> tuple[Example, ...]:
        """The rows, each with the increment's name and the numbers of its opinions."""
        return tuple(placed(row, task, said) for row, said in self._found.values())

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of all opinions behind them."""
        return tuple(sorted({one.id for _, said in self._found.values() for one in said}))


def placed(row: Example, task: str, said: Sequence[Feedback]) -> Example:
    """The row of an increment, with the numbers of its opinions in its origin."""
    extra = row.origin.extra | {FEEDBACK: _numbers(said)}
    return row.model_copy(update={"origin": row.origin.model_copy(update={"task": task, "extra": extra})})


def unsigned(response_id: str) -> str:
    """A response id without its signature: whoever reads the rows shall not be able to rate the answer."""
    match = _SIGNED.match(response_id)
    return match[1] if match else response_id[:_MOST_CHARS]


def _origin(asked: Interaction, said: Feedback) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {
        INTERACTION: unsigned(asked.id),
        FEEDBACK: _numbers([said]),
        CONSENT: asked.consent,
    }
    return found | ({PERSON: said.person[:_MOST_CHARS]} if said.person else {})


def _numbers(said: Sequence[Feedback]) -> str:
    """Numbers of opinions, as many as a column holds; the ledger knows all."""
    text = ""
    for one in said:
        longer = f"{text},{one.id}" if text else str(one.id)
        if len(longer) > _MOST_CHARS:
            break
        text = longer
    return text
