"""The admin API's views: what came of versions, what people said, how data is, how a training goes.

What they tell is known above this floor and comes in as callables, as the moves of releases do.
"""

from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nacre.base.config import Settings
from nacre.serve.admin import Number, act, either, number_of, read_body
from nacre.serve.gateway.errors import ApiError

STATUSES = ("new", "quarantined", "accepted", "rejected", "exported")
_LANGUAGES = ("en", "zh")
_MOST = 200  # opinions in one answer
_MOST_PAIRS = 20
_APART = {"content-security-policy": "sandbox", "cache-control": "no-store"}  # a page out of data: no scripts


class Judgement(Settings):
    """What a person says of opinions: they may be learned from, or not."""

    ids: tuple[Number, ...] = Field(min_length=1, max_length=1000, description="numbers of opinions")
    status: Literal["accepted", "rejected"] = Field(description="whether they may be learned from")
    why: str = Field("by the admin API", max_length=500, description="one sentence for the history")


async def show_matrix(request: Request) -> JSONResponse:
    """Scores of every version on every task; with `version` of the line that led to it."""
    return await _view(request, "matrix", version=_number(request))


async def show_lineage(request: Request) -> JSONResponse:
    """Which version came from which."""
    return await _view(request, "lineage")


async def show_flips(request: Request) -> JSONResponse:
    """What a version lost and gained, row by row."""
    return await _view(request, "flips", version=number_of(request))


async def show_curves(request: Request) -> JSONResponse:
    """The log of a version's training."""
    return await _view(request, "curves", version=number_of(request))


async def list_trainings(request: Request) -> JSONResponse:
    """The logs of trainings under way."""
    return await _view(request, "trainings")


async def list_pairs(request: Request) -> JSONResponse:
    """What champion and shadow answered to the same requests, the newest first."""
    return await _view(request, "pairs", most=_MOST_PAIRS)


async def list_feedback(request: Request) -> JSONResponse:
    """The newest opinions with what they are about; with `status` those of one."""
    status = request.query_params.get("status")
    if status is not None and status not in STATUSES:
        raise ApiError(400, f"there is no such status; known: {', '.join(STATUSES)}", code="invalid_value")
    return await _view(request, "opinions", status=status, most=_MOST)


async def judge_feedback(request: Request) -> JSONResponse:
    """Accept opinions, or reject them."""
    wanted = await read_body(request, Judgement)
    return await _view(request, "judge opinions", **wanted.model_dump())


async def list_increments(request: Request) -> JSONResponse:
    """Names of the workspace's datasets."""
    return await _view(request, "increments")


async def show_data_report(request: Request) -> Response:
    """The data report of one of them, as a page."""
    return await _page(request, "data report", name=request.path_params["name"])


async def show_report(request: Request) -> Response:
    """The evolution report of a version, as a page."""
    return await _page(request, "evolution report", version=number_of(request))


EVOLUTION_ROUTES = [
    Route("/admin/matrix", show_matrix, methods=["GET"]),
    Route("/admin/lineage", show_lineage, methods=["GET"]),
    Route("/admin/versions/{number}/flips", show_flips, methods=["GET"]),
    Route("/admin/versions/{number}/report", show_report, methods=["GET"]),
    Route("/admin/versions/{number}/curves", show_curves, methods=["GET"]),
    Route("/admin/pairs", list_pairs, methods=["GET"]),
    Route("/admin/trainings", list_trainings, methods=["GET"]),
    Route("/admin/feedback", either(list_feedback, judge_feedback), methods=["GET", "POST"]),
    Route("/admin/increments", list_increments, methods=["GET"]),
    Route("/admin/increments/{name}/report", show_data_report, methods=["GET"]),
]


async def _page(request: Request, name: str, /, **asked: Any) -> Response:
    lang = request.query_params.get("lang", "en")
    if lang not in _LANGUAGES:
        raise ApiError(400, f"there is no such language; known: {', '.join(_LANGUAGES)}", code="invalid_value")
    page = await act(request, name, {**asked, "lang": lang})
    return Response(page, media_type="text/html; charset=utf-8", headers=_APART)


async def _view(request: Request, name: str, /, **asked: Any) -> JSONResponse:
    return JSONResponse(await act(request, name, asked))


def _number(request: Request) -> int | None:
    """The query's `version`."""
    told = request.query_params.get("version")
    if told is None:
        return None
    if not told.isascii() or not told.isdigit() or len(told) > 9:
        raise ApiError(400, "version must be a number", code="invalid_value")
    return int(told)
