"""The API asked in process: whole answers, streams, refusals, and a reader who leaves."""

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from nacre.ui.client import Api, Refused

LEFT: list[str] = []


async def echo(request: Request) -> JSONResponse:
    asked = (await request.body()).decode()
    return JSONResponse(
        {"key": request.headers.get("authorization"), "body": asked, "query": dict(request.query_params)}
    )


async def text(request: Request) -> PlainTextResponse:
    return PlainTextResponse("<p>页面</p>")


async def refuse(request: Request) -> JSONResponse:
    return JSONResponse({"error": {"message": "not with this key"}}, 403)


async def broken(request: Request) -> PlainTextResponse:
    return PlainTextResponse("?", 502)


async def stream(request: Request) -> StreamingResponse:
    asked = await request.json()

    async def events() -> Any:
        try:
            yield 'data: {"text": "珠'.encode()  # an event in two pieces
            yield b'"}\n\ndata: {"text": "b"}\n\n'
            if asked.get("break"):
                yield b'data: {"error": {"message": "it broke off"}}\n\n'
            if asked.get("endless"):
                await asyncio.sleep(60)
            yield b"data: [DONE]\n\n"
        finally:
            LEFT.append("gone")

    return StreamingResponse(events(), media_type="text/event-stream")


APP = Starlette(
    routes=[
        Route("/echo", echo, methods=["GET", "POST"]),
        Route("/text", text),
        Route("/refuse", refuse),
        Route("/broken", broken),
        Route("/stream", stream, methods=["POST"]),
    ]
)
API = Api(APP, "the-key")


def test_what_is_sent_and_told() -> None:
    async def ask() -> None:
        told = await API.get("/echo", version=3, nothing=None)
        assert told == {"key": "Bearer the-key", "body": "", "query": {"version": "3"}}
        assert (await API.post("/echo", {"a": "珠"}))["body"] == '{"a": "\\u73e0"}'
        assert (await Api(APP, "").get("/echo"))["key"] is None
        assert await API.get("/text") == "<p>页面</p>"

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [("/refuse", 403, "not with this key"), ("/broken", 502, "without a reason"), ("/nowhere", 404, "")],
)
def test_a_refusal_has_status_and_message(path: str, status: int, told: str) -> None:
    with pytest.raises(Refused) as refused:
        asyncio.run(API.get(path))
    assert (refused.value.status, told in refused.value.told) == (status, True)


def test_a_stream_is_read_event_by_event() -> None:
    async def read(body: dict[str, Any]) -> list[str]:
        return [event["text"] async for event in API.stream("/stream", body)]

    assert asyncio.run(read({})) == ["珠", "b"]
    with pytest.raises(Refused, match="it broke off"):
        asyncio.run(read({"break": True}))


def test_who_leaves_a_stream_ends_it() -> None:
    async def leave() -> None:
        events = API.stream("/stream", {"endless": True})
        assert (await anext(events))["text"] == "珠"
        await asyncio.wait_for(events.aclose(), 20)

    LEFT.clear()
    asyncio.run(leave())
    assert LEFT == ["gone"]
