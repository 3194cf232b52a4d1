"""``POST /v1/chat/completions``: the answer in one piece or as server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from nacre import __version__
from nacre.base.clock import now
from nacre.base.errors import NacreError
from nacre.records import Interaction
from nacre.serve.api.chat import ChatRequest, parse_chat
from nacre.serve.engines import ChatPrompt, Delta, Finish, Generation
from nacre.serve.gateway.body import read_json
from nacre.serve.gateway.errors import from_nacre
from nacre.serve.routing import user_of
from nacre.serve.service import Service

_PING_S = 15.0  # a comment this often keeps proxies from closing a stream that waits


async def create_completion(request: Request) -> "PlainAnswer | StreamedAnswer":
    """Accept a chat request; the answer comes as the returned ASGI app runs."""
    service: Service = request.app.state.service
    started_s = time.monotonic()
    chat = parse_chat(await read_json(request, service.settings.max_body_bytes))
    identity = service.signer.new()
    user = user_of(request.state.key_id or "", chat.user or "")
    route = service.route(chat.model, user or identity)
    prompt = ChatPrompt(chat.conversation, chat.system)
    try:
        generation = await service.engine.generate(route.target, prompt, chat.sampling)
    except NacreError as error:
        raise from_nacre(error) from error
    keep = "x-nacre-no-store" not in request.headers
    answer = _Answer(service, chat, generation, started_s, keep, identity, route.arm, user)
    return StreamedAnswer(answer) if chat.stream else PlainAnswer(answer)


@dataclass
class _Answer:
    """One answer while it comes about."""

    service: Service
    chat: ChatRequest
    generation: Generation
    started_s: float
    keep: bool
    id: str
    arm: str
    user: str
    text: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def headers(self, content_type: str) -> list[tuple[bytes, bytes]]:
        named = {
            "content-type": content_type,
            "cache-control": "no-cache",
            "x-accel-buffering": "no",  # nginx passes each event on at once
            "x-nacre-version": self.generation.target.label,
            "x-nacre-arm": self.arm,
            "x-nacre-response-id": self.id,
        }
        if self.chat.ignored:
            named["x-nacre-ignored"] = ", ".join(self.chat.ignored)
        return [(name.encode(), value.encode()) for name, value in named.items()]

    def head(self, kind: str) -> dict[str, Any]:
        """What a whole answer and each of its chunks begin with."""
        target = self.generation.target
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.service.full_name(target),
            "system_fingerprint": f"nacre-{__version__}-{self.service.settings.engine}-{target.weights.identity[:12]}",
        }

    def usage(self, finish: Finish) -> dict[str, int]:
        prompt = self.generation.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": finish.tokens,
            "total_tokens": prompt + finish.tokens,
        }

    def record(self, finish: Finish) -> None:
        """Have the interaction written, unless the client asked for it to be forgotten."""
        if self.service.memory is None or not self.keep:
            return
        interaction = Interaction(
            id=self.id,
            time=now(),
            version=self.generation.target.version,
            arm=self.arm,
            session=self.user,
            messages=self.chat.turns,
            answer=self.text,
            finish=finish.reason,
            prompt_tokens=self.generation.prompt_tokens,
            answer_tokens=finish.tokens,
            latency_s=time.monotonic() - self.started_s,
        )
        self.service.memory.writer.add(interaction)


class PlainAnswer:
    """ASGI app: the whole answer as one JSON object."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Collect the answer and send it; a client that goes away stops it."""
        answer = self._answer
        async with _cancelled_when_gone(receive, answer.generation):
            try:
                while isinstance(piece := await answer.generation.next(), Delta):
                    answer.text += piece.text
            except NacreError as error:
                raise from_nacre(error) from error
        answer.record(piece)
        if piece.reason == "aborted":
            return
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": piece.reason}
        body = answer.head("chat.completion") | {"choices": [choice], "usage": answer.usage(piece)}
        await send({"type": "http.response.start", "status": 200, "headers": answer.headers("application/json")})
        await send({"type": "http.response.body", "body": orjson.dumps(body)})


class StreamedAnswer:
    """ASGI app: role chunk, text chunks, finish chunk, the usage chunk where asked for, ``[DONE]``."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer
        options = answer.chat.stream_options
        self._with_usage = options is not None and options.include_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send each piece as it comes; a client that goes away stops the answer."""
        headers = self._answer.headers("text/event-stream; charset=utf-8")
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with _cancelled_when_gone(receive, self._answer.generation):
            async for event in self._events():
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _events(self) -> AsyncIterator[bytes]:
        answer = self._answer
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            while not isinstance(piece := await self._next(), Finish):
                if piece is None:
                    yield b": ping\n\n"
                else:
                    answer.text += piece.text
                    yield self._chunk({"content": piece.text})
        except NacreError as error:
            yield _event(from_nacre(error).body())
            return
        answer.record(piece)
        if piece.reason == "aborted":
            return
        yield self._chunk({}, piece.reason)
        if self._with_usage:
            yield _event(answer.head("chat.completion.chunk") | {"choices": [], "usage": answer.usage(piece)})
        yield b"data: [DONE]\n\n"

    async def _next(self) -> Delta | Finish | None:
        """The next piece, or None when it is time for a sign of life."""
        try:
            return await asyncio.wait_for(self._answer.generation.next(), _PING_S)
        except TimeoutError:
            return None

    def _chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = self._answer.head("chat.completion.chunk") | {"choices": [choice]}
        return _event(chunk | {"usage": None} if self._with_usage else chunk)


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


@asynccontextmanager
async def _cancelled_when_gone(receive: Receive, generation: Generation) -> AsyncIterator[None]:
    """Cancel the generation when the client disconnects, and whenever the block is left before its end."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        generation.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        generation.cancel()
