"""``POST /v1/feedback``: what somebody says about an answer this server gave."""

import asyncio
from functools import partial
from typing import Any, Literal

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from nacre.base.clock import now
from nacre.base.config import Settings, parse
from nacre.base.errors import InputError, NacreError
from nacre.records import Feedback
from nacre.serve.gateway.body import read_json
from nacre.serve.gateway.errors import ApiError, invalid, sent_aside, unavailable
from nacre.serve.service import Memory, Service

_LONGEST = 64 * 1024  # characters


class FeedbackBody(Settings):
    """One or more opinions on one answer."""

    response_id: str = Field(max_length=200)
    stars: int | None = Field(default=None, strict=True, ge=1, le=5)
    thumb: Literal["up", "down"] | None = None
    comment: str | None = Field(default=None, max_length=_LONGEST)
    correction: str | None = Field(
        default=None, max_length=_LONGEST, description="the answer that should have been given"
    )

    def opinions(self, source: str) -> list[Feedback]:
        """One record for each opinion.

        Raises:
            ApiError: 400, a comment or correction without text, or no opinion at all.
        """
        told: list[dict[str, Any]] = []
        if self.stars is not None:
            told.append({"kind": "stars", "value": self.stars})
        if self.thumb is not None:
            told.append({"kind": "thumb", "value": 1 if self.thumb == "up" else 0})
        texts = {"comment": self.comment, "correction": self.correction}
        told += [{"kind": kind, "text": text} for kind, text in texts.items() if text is not None]
        if not told:
            raise invalid("say something about the answer: stars, thumb, comment or correction")
        common = {"time": now(), "interaction": self.response_id, "source": source}
        try:
            return [Feedback.model_validate(common | opinion) for opinion in told]
        except ValidationError as error:
            raise invalid(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


async def create_feedback(request: Request) -> JSONResponse:
    """Store opinions; when this answers 200 they are in the ledger."""
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
        body = parse(FeedbackBody, raw, where="the request")
    except InputError as error:
        raise invalid(sent_aside(error)) from None
    opinions = body.opinions(request.state.key_id or "")
    if not service.signer.knows(body.response_id):
        raise invalid("the response_id was not issued by this server", "response_id", "invalid_response_id")
    try:
        work = partial(_store, service.memory, body.response_id, opinions)
        ids = await asyncio.get_running_loop().run_in_executor(service.memory.waiting, work)
    except InputError as error:
        raise invalid(f"{error.what}; {error.fix}", "response_id", "too_many_opinions") from None
    except NacreError as error:
        raise unavailable(f"the feedback was not stored: {error.what}") from error
    return JSONResponse({"object": "feedback", "response_id": body.response_id, "ids": ids})


def _store(memory: Memory, response_id: str, opinions: list[Feedback]) -> list[int]:
    memory.writer.flush()
    if memory.ledger.interaction(response_id) is None:
        raise ApiError(
            404,
            "that answer was not kept (it was asked with x-nacre-no-store, or has been deleted)",
            param="response_id",
            code="response_not_found",
        )
    return [memory.ledger.add_feedback(opinion) for opinion in opinions]
