"""Errors as OpenAI clients expect them: ``{"error": {message, type, param, code}}``. Never a traceback."""

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from nacre.base.errors import NacreError
from nacre.serve.engines import ContextTooLong, Overloaded, Refused

_log = logging.getLogger("nacre.serve")

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: HTTP status.
        param: the request's field it is about, e.g. ``messages[0].role``.
        code: OpenAI's short name for the reason.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    def body(self) -> dict[str, Any]:
        """The error object."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request is wrong."""
    return ApiError(400, message, param=param, code=code)


def model_not_found(name: str, known: list[str]) -> ApiError:
    """404: no such model here, or not the version that is loaded."""
    return ApiError(
        404,
        f"the model '{name[:80]}' does not exist; known: {', '.join(known) or 'none is loaded'}",
        param="model",
        code="model_not_found",
    )


def unavailable(message: str, code: str = "unavailable", retry_s: int = 1) -> ApiError:
    """503, to be tried again in so many seconds."""
    return ApiError(503, message, code=code, headers={"retry-after": str(retry_s)})


def from_nacre(error: NacreError) -> ApiError:
    """What a client is told about an error of ours: what happened and the way out, no place on our disk."""
    message = f"{error.what}; {error.fix}" if error.fix else error.what
    if isinstance(error, ContextTooLong):
        return invalid(message, "messages", "context_length_exceeded")
    if isinstance(error, Overloaded):
        return unavailable(message, "overloaded", error.retry_s)
    if error.exit_code == 2:
        return invalid(message, "messages", error.code if isinstance(error, Refused) else None)
    return unavailable(message)


def sent_aside(error: NacreError) -> str:
    """What is wrong with a body of ours, without the value that was sent: error bodies end up in others' logs."""
    return f"{error.what}; {error.fix.partition('; got ')[0]}"


async def reply_to(request: Request, error: Exception) -> JSONResponse:
    """What a client is told of an error."""
    if isinstance(error, HTTPException):
        error = _of_router(request, error)
    elif not isinstance(error, ApiError):
        error = unexpected(request.state.request_id, error)
    return JSONResponse(error.body(), error.status, headers=error.headers)


def unexpected(request_id: str, error: Exception) -> ApiError:
    """500 for what nobody expected: the log gets the traceback, the client the id."""
    _log.error("request %s failed", request_id, exc_info=error)
    message = f"internal error; the server's log has it under request {request_id}"
    return ApiError(500, message, code="internal_error")


def _of_router(request: Request, error: HTTPException) -> ApiError:
    """Unknown paths and methods."""
    message = f"{error.detail}: {request.method} {request.url.path[:200]}"
    code = "not_found" if error.status_code == 404 else "method_not_allowed" if error.status_code == 405 else None
    return ApiError(error.status_code, message, code=code, headers=dict(error.headers or {}))
