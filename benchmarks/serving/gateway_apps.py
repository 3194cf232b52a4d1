"""The stub and the bare proxy of `gateway.py`, for uvicorn. STUB is where the proxy finds the stub."""

import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

EVENTS = 64


def _chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    head = {"id": "chatcmpl-stub", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps(head | {"choices": [choice]}).encode() + b"\n\n"


_USAGE = {"prompt_tokens": 20, "completion_tokens": EVENTS, "total_tokens": 20 + EVENTS}
_CHUNKS = [_chunk({"content": f"word{place} "}) for place in range(EVENTS)]
_LAST = _chunk({}, "stop")
_TOLD = b"data: " + json.dumps({"choices": [], "usage": _USAGE}).encode() + b"\n\n"
_WHOLE = json.dumps(
    {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * EVENTS},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
).encode()
_MODELS = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode()


async def stub(scope: Any, receive: Any, send: Any) -> None:
    """Pure ASGI: answers at once, streams as separate writes."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if b'"stream": true' not in body and b'"stream":true' not in body:
        answer = _WHOLE if scope["method"] == "POST" else _MODELS
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        return
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for chunk in _CHUNKS:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    end = _TOLD if b'"include_usage":true' in body else b""
    await send({"type": "http.response.body", "body": _LAST + end + b"data: [DONE]\n\n"})


@contextlib.asynccontextmanager
async def _session(app: Starlette) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1024), auto_decompress=False) as session:
        app.state.session = session
        yield


async def _pass(request: Request) -> Response:
    """What a proxy cannot do with less: the bytes there, the bytes back."""
    session: aiohttp.ClientSession = request.app.state.session
    url = os.environ["STUB"] + request.url.path
    body = await request.body()
    answer = await session.request(request.method, url, data=body, headers={"Content-Type": "application/json"})
    kind = answer.headers["Content-Type"]
    if not kind.startswith("text/event-stream"):
        return Response(await answer.read(), answer.status, media_type=kind)
    return StreamingResponse(answer.content.iter_any(), answer.status, media_type=kind)


bare = Starlette(
    routes=[Route("/v1/chat/completions", _pass, methods=["POST"]), Route("/v1/models", _pass, methods=["GET"])],
    lifespan=_session,
)
