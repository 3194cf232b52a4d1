"""The admin API's queues of rows that wait for a person before they count. What is done comes in as callables."""

from typing import Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from nacre.base.config import Settings
from nacre.serve.admin import Number, act, either, number_of, read_body

_MOST = 100  # drafts in one answer
_LONGEST = 20_000  # characters


class DraftJudgement(Settings):
    """What a person says of rows: they may be learned, or not."""

    ids: tuple[Number, ...] = Field(min_length=1, max_length=1000, description="numbers of open drafts")
    status: Literal["accepted", "rejected"] = Field(description="whether they may be learned")


class DraftEdit(Settings):
    """A row as a person wrote it anew; it is accepted."""

    question: str = Field(min_length=1, max_length=_LONGEST, description="what is asked last")
    answer: str = Field(min_length=1, max_length=_LONGEST, description="what is to be answered")


class DraftWriting(Settings):
    """Accepted rows become an increment."""

    queue: str = Field(min_length=1, max_length=64, description="whose rows")
    increment: str | None = Field(
        None, min_length=1, max_length=64, description="its name; None: the queue's, which rows of feedback must keep"
    )


async def list_drafts(request: Request) -> JSONResponse:
    """Every queue with its counts, and the oldest open drafts of `queue`."""
    queue = request.query_params.get("queue")
    return JSONResponse(await act(request, "drafts", {"queue": queue, "most": _MOST}))


async def judge_drafts(request: Request) -> JSONResponse:
    """Accept open drafts, or reject them: all or none."""
    wanted = await read_body(request, DraftJudgement)
    return JSONResponse(await act(request, "judge drafts", wanted.model_dump()))


async def edit_draft(request: Request) -> JSONResponse:
    """Accept an open draft with another question or answer."""
    wanted = await read_body(request, DraftEdit)
    return JSONResponse(await act(request, "edit draft", {"id": number_of(request), **wanted.model_dump()}))


async def write_drafts(request: Request) -> JSONResponse:
    """Make the accepted drafts of a queue an increment."""
    wanted = await read_body(request, DraftWriting)
    return JSONResponse(await act(request, "write drafts", wanted.model_dump()))


DRAFT_ROUTES = [
    Route("/admin/drafts", either(list_drafts, judge_drafts), methods=["GET", "POST"]),
    Route("/admin/drafts/write", write_drafts, methods=["POST"]),
    Route("/admin/drafts/{number}", edit_draft, methods=["POST"]),
]
