"""``POST /v1/feedback``: what somebody says about an answer this server gave."""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from nacre.base.clock import now
from nacre.base.config import Settings
from nacre.base.errors import InputError, NacreError
from nacre.records import Feedback
from nacre.registry.conversations import NoAnswer, OtherQuestion
from nacre.serve.api.parts import first_problem
from nacre.serve.gateway.body import read_json
from nacre.serve.gateway.errors import ApiError, invalid, unavailable
from nacre.serve.interactions import Writer
from nacre.serve.routing import user_of
from nacre.serve.service import Service

_LONGEST = 64 * 1024  # characters
_LONGEST_ID = 200
_WITHIN_S = 10.0
_PAUSES_S = (0.3, 0.7)  # for the answer of another gateway to arrive in the ledger


class FeedbackBody(Settings):
    """One or more opinions on one answer.

    Of one person, answer and kind the newest counts; earlier ones stay in the ledger.
    """

    response_id: str = Field(max_length=_LONGEST_ID)
    stars: int | None = Field(default=None, strict=True, ge=1, le=5)
    thumb: Literal["up", "down"] | None = None
    comment: str | None = Field(default=None, max_length=_LONGEST)
    correction: str | None = Field(
        default=None, max_length=_LONGEST, description="the answer that should have been given"
    )
    better_than: str | None = Field(
        default=None,
        max_length=_LONGEST_ID,
        description="id of another answer to the same conversation, which this one is better than",
    )
    as_good_as: str | None = Field(
        default=None, max_length=_LONGEST_ID, description="id of another answer to it, neither better nor worse"
    )
    user: str | None = Field(
        default=None,
        max_length=512,
        description="who says so, as `user` names it in a question; without it whoever asked, if the key is the same",
    )

    def others(self) -> dict[str, str]:
        """The answers it is compared with, by the parameter that names them."""
        named = {"better_than": self.better_than, "as_good_as": self.as_good_as}
        return {name: other for name, other in named.items() if other is not None}

    def opinions(self, source: str) -> list[Feedback]:
        """One record for each opinion.

        Raises:
            ApiError: 400, a comment or correction without text, two choices at a time, or no opinion at all.
        """
        told: list[dict[str, Any]] = []
        if self.stars is not None:
            told.append({"kind": "stars", "value": self.stars})
        if self.thumb is not None:
            told.append({"kind": "thumb", "value": 1 if self.thumb == "up" else 0})
        others = self.others()
        if len(others) > 1:
            raise invalid("an answer is better than another or as good: give one of the two", "as_good_as")
        for name, other in others.items():
            if other == self.response_id:
                raise invalid("an answer cannot be compared with itself", name, "invalid_value")
        told += [
            {"kind": "pair", "value": 1 if name == "better_than" else 0.5, "other": other}
            for name, other in others.items()
        ]
        texts = {"comment": self.comment, "correction": self.correction}
        told += [{"kind": kind, "text": text} for kind, text in texts.items() if text is not None]
        if not told:
            raise invalid("say something about the answer: stars, thumb, comment, correction, better_than, as_good_as")
        person = user_of(source, self.user or "")
        common = {"time": now(), "interaction": self.response_id, "source": source, "person": person}
        return [_record(common | opinion) for opinion in told]


def _record(told: dict[str, Any]) -> Feedback:
    try:
        return Feedback.model_validate(told)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise invalid(reason, told["kind"] if "text" in told else None, "invalid_value") from None


async def create_feedback(request: Request) -> JSONResponse:
    """Store opinions; when this answers 200 they are on disk."""
    service: Service = request.app.state.service
    raw = await read_json(request, service.settings.max_body_bytes)
    if service.memory is None:
        raise ApiError(
            404,
            "this server serves a folder without a ledger and keeps no answers, so there is nothing to give feedback "
            "on; serve a workspace (nacre serve) to collect feedback",
            code="feedback_not_kept",
        )
    try:
        body = FeedbackBody.model_validate(raw)
    except ValidationError as error:
        raise first_problem(error, FeedbackBody.model_fields) from None
    opinions = body.opinions(request.state.key_id or "")
    for name, identity in {"response_id": body.response_id, **body.others()}.items():
        if not service.signer.knows(identity):
            raise invalid(f"the {name} was not issued by this server", name, "invalid_response_id")
    try:
        ids = await _stored(service.memory.writer, opinions)
    except InputError as error:
        raise _refused(error, body) from None
    except TimeoutError:
        raise unavailable("the feedback was not stored: the ledger does not answer") from None
    except NacreError as error:
        raise unavailable(f"the feedback was not stored: {error.what}") from error
    return JSONResponse({"object": "feedback", "response_id": body.response_id, "ids": ids})


async def _stored(writer: Writer, opinions: Sequence[Feedback]) -> list[int]:
    """The numbers of the opinions, once they are on disk.

    The answers were issued, so one that the ledger does not have may be on its way: the gateway that gave it writes
    many together, a moment later.
    """
    for pause_s in _PAUSES_S:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(writer.say(opinions)), _WITHIN_S)
        except NoAnswer:
            await asyncio.sleep(pause_s)
    return await asyncio.wait_for(asyncio.wrap_future(writer.say(opinions)), _WITHIN_S)


def _refused(error: InputError, body: FeedbackBody) -> ApiError:
    """What the ledger says against the opinions."""
    if isinstance(error, NoAnswer):
        gone = next((name for name, other in body.others().items() if f"'{other}'" in error.what), "response_id")
        return ApiError(
            404,
            "that answer was not kept (it was asked with x-nacre-no-store, or has been deleted)",
            param=gone,
            code="response_not_found",
        )
    if isinstance(error, OtherQuestion):
        return invalid(f"{error.what}; {error.fix}", next(iter(body.others())), "different_prompts")
    return invalid(f"{error.what}; {error.fix}", "response_id", "too_many_opinions")
