"""``POST /v1/chat/completions`` and ``POST /v1/completions``: whole answers, or server-sent events."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, aclosing, suppress
from dataclasses import replace
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from nacre.base.errors import NacreError
from nacre.serve.api.answer import NOT_ITS_FAULT, Answer, Asked, CancelledWhenGone, keep
from nacre.serve.api.chat import parse_chat
from nacre.serve.api.defaults import defaults_of
from nacre.serve.api.grounding import grounded, passages_for
from nacre.serve.api.parts import AnswerRequest, not_served
from nacre.serve.api.shapes import ChatShape, Shape, TextShape
from nacre.serve.api.text import parse_completion
from nacre.serve.engines import ContextTooLong, Delta, Generation, NotLoaded, Sampling
from nacre.serve.gateway.body import read_object
from nacre.serve.gateway.callers import Caller
from nacre.serve.gateway.errors import ApiError, from_nacre, invalid, unavailable, unexpected
from nacre.serve.gateway.wishes import Wishes, wishes
from nacre.serve.knowledge.retrieval import Retrieved
from nacre.serve.routing import Route, user_of
from nacre.serve.service import Service

_PING_S = 15.0  # a comment this often keeps proxies from closing a stream that waits


class AnswerRoute:
    """ASGI app of a route that answers. Pure ASGI, because it is what nearly all requests are for.

    Args:
        parse: understands a request's body.
        shape: which of OpenAI's forms the answer has.
    """

    def __init__(self, parse: Callable[[dict[str, Any]], AnswerRequest], shape: Shape) -> None:
        self._parse, self._shape = parse, shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept the request and answer it. Raises ApiError where it is not accepted."""
        started_s = time.monotonic()
        service: Service = scope["app"].state.service
        settings = service.settings
        body = self._parse(await read_object(receive, settings.max_body_bytes, settings.wire.body_s))
        said = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"] if name[:8] == b"x-nacre-"]
        wanted, caller = wishes(said, settings.privacy), scope["state"]["caller"]
        answer = await accepted(service, body, self._shape, caller, wanted=wanted, started_s=started_s)
        await (StreamedAnswer(answer) if body.stream else PlainAnswer(answer))(scope, receive, send)


create_chat = AnswerRoute(parse_chat, ChatShape())
create_completion = AnswerRoute(parse_completion, TextShape())


async def accepted(
    service: Service, body: AnswerRequest, shape: Shape, caller: Caller, *, wanted: Wishes, started_s: float
) -> Answer:
    """Have the engine accept an understood request.

    Args:
        service: the server.
        body: the request.
        shape: which of OpenAI's forms the answer has.
        caller: who asks.
        wanted: whether the answer may be kept and learned from, as far as the request's headers say.
        started_s: when the request came, of `time.monotonic`.

    Raises:
        ApiError: it is not accepted.
    """
    check_strict(service, body.ignored_names())
    needs = list(body.needs())
    for feature, name in needs:
        if feature not in service.engine.features:
            raise not_served(name, "by this server's engine")
    questions = tuple(body.questions())
    _check_count(service, body.n, len(questions))
    ids = tuple(service.signer.new(shape.prefix) for _ in range(body.n * len(questions)))
    user = user_of(caller.id, body.named_user)
    if body.store is False:
        wanted = replace(wanted, keep=False)
    plain = body.n == 1 and not any(feature in ("tools", "echo") for feature, _ in needs)
    asked = Asked(body, questions, ids, caller, user, wanted, started_s, plain)
    found = await passages_for(service, questions, wanted)
    if found is not None and found.block:
        try:
            with_passages = replace(asked, questions=(grounded(questions[0], found.block),))
            return await _answer(service, with_passages, shape, found)
        except ApiError as error:
            if error.status != 400 or service.knowledge is None:
                raise
            found = service.knowledge.refused(found)  # too long with them, or no place for a system message
    return await _answer(service, asked, shape, found)


async def _answer(service: Service, asked: Asked, shape: Shape, found: Retrieved | None) -> Answer:
    """The answer that has begun. Raises as `_begin` does."""
    route, sampling, generations = await _begin(service, asked)
    return Answer(service, asked, route, sampling, shape, generations, found=found)


def check_strict(service: Service, ignored: list[str]) -> None:
    """Refuse keys without effect where the operator wants that.

    Raises:
        ApiError: 400 that names them.
    """
    if ignored and service.settings.strict:
        raise invalid(f"unknown keys: {', '.join(ignored)}", ignored[0], "unknown_parameter")


def _check_count(service: Service, n: int, prompts: int) -> None:
    """Refuse more choices than could ever be accepted."""
    if n > service.settings.max_choices:
        raise invalid(f"'n' is at most {service.settings.max_choices} here", "n", "invalid_value")
    if n * prompts > service.settings.max_waiting:
        most = service.settings.max_waiting
        raise invalid(f"a request may ask for {most} answers here, this one asks for {n * prompts}", "prompt")


async def _begin(service: Service, asked: Asked) -> tuple[Route, Sampling, list[Generation]]:
    """Have the engine accept every choice, on one version.

    Raises:
        ApiError: it accepts one of them not; the others are cancelled.
    """
    tries = 2  # between the look at the routes and the engine's, a version may have been replaced
    while True:
        tries -= 1
        route = service.route(asked.body.model, asked.user or asked.ids[0])
        defaults = defaults_of(route.target.weights, service.settings.defaults)
        sampling = asked.body.sampling(defaults, tenant=asked.caller.id)
        try:
            return route, sampling, await _generate(service, asked, route, sampling)
        except NotLoaded as error:
            if not tries:
                raise from_nacre(error) from error
        except NacreError as error:
            if not isinstance(error, NOT_ITS_FAULT):
                keep(service, asked, route, sampling, 0)
            raise told(error, asked.body) from error


async def _generate(service: Service, asked: Asked, route: Route, sampling: Sampling) -> list[Generation]:
    """A generation for each choice; when one is refused the others are cancelled."""
    begun: list[Generation] = []
    with ExitStack() as undo:
        for question in asked.questions:
            for place in range(asked.body.n):
                chosen = _for_choice(sampling, place)
                try:
                    generation = await service.engine.generate(route.target, question.prompt, chosen)
                except ContextTooLong:
                    if asked.body.asks_for_length or sampling.max_tokens is None:
                        raise
                    # A default length is a wish: where it does not fit, what fits is taken.
                    chosen = replace(chosen, max_tokens=None)
                    generation = await service.engine.generate(route.target, question.prompt, chosen)
                undo.callback(generation.cancel)
                begun.append(generation)
        undo.pop_all()
    return begun


def _for_choice(sampling: Sampling, place: int) -> Sampling:
    """The n answers to a prompt differ by their seeds; the first is the one that n = 1 gives."""
    if sampling.seed is None or place == 0:
        return sampling
    drawn = hashlib.sha256(f"{sampling.seed} {place}".encode()).digest()
    return replace(sampling, seed=int.from_bytes(drawn[:8]) >> 1)


def told(error: NacreError, body: AnswerRequest) -> ApiError:
    """A refusal with the parameter it is about: what the engine names, else the prompt."""
    refusal = from_nacre(error)
    if refusal.status == 400:
        named = error.where if error.where in type(body).model_fields else ""
        refusal.param = named or ("messages" if "messages" in type(body).model_fields else "prompt")
    return refusal


class PlainAnswer:
    """ASGI app: the whole answer as one JSON object."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Collect the answer and send it; a client that goes away stops it."""
        answer = self._answer
        async with CancelledWhenGone(receive, answer):
            try:
                await answer.collect()
            except NacreError as error:
                raise told(error, answer.asked.body) from error
            except asyncio.CancelledError:
                raise stopping() from None
        if answer.aborted:
            return
        choices = [answer.shape.answer(choice, answer.with_logprobs) for choice in answer.choices]
        body = answer.head(answer.shape.whole) | {"choices": choices, "usage": answer.usage()} | answer.sources()
        data = orjson.dumps(body)
        headers = [*answer.headers("application/json"), (b"content-length", b"%d" % len(data))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})


class StreamedAnswer:
    """ASGI app: role chunks, text chunks, finish chunks, the usage chunk where asked for, ``[DONE]``."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        options = answer.asked.body.stream_options
        self._with_usage = options is not None and options.include_usage
        head = orjson.dumps(answer.head(answer.shape.chunk))[:-1]
        self._before, self._after = b"data: " + head + b',"choices":[', b"]}\n\n"
        if self._with_usage:
            self._after = b'],"usage":null}\n\n'
        sources = answer.sources()
        self._end = b"]," + orjson.dumps(sources)[1:-1] + self._after[1:] if sources else self._after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send each piece as it comes; a client that goes away stops the answer."""
        headers = self._answer.headers("text/event-stream; charset=utf-8")
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        request_id: str = scope["state"]["request_id"]
        async with CancelledWhenGone(receive, self._answer), _Pinged(send) as say, _LastWords(say, request_id):
            await self._tell(say)
        await send({"type": "http.response.body", "body": b""})

    async def _tell(self, say: Callable[[bytes], Awaitable[None]]) -> None:
        answer, shape = self._answer, self._answer.shape
        openings = [opening for choice in answer.choices if (opening := shape.opening(choice))]
        if openings:
            await say(b"".join(self._chunk(opening) for opening in openings))
        try:
            async with aclosing(answer.pieces()) as pieces:
                async for choice, piece in pieces:
                    if isinstance(piece, Delta):
                        await say(self._chunk(shape.piece(choice, piece, answer.with_logprobs)))
                    elif piece.reason != "aborted":
                        await say(self._before + orjson.dumps(shape.ending(choice)) + self._end)
        except NacreError as error:
            await say(_event(told(error, answer.asked.body).body()))
            return
        if answer.aborted:
            return
        usage = answer.head(shape.chunk) | {"choices": [], "usage": answer.usage()} if self._with_usage else None
        await say((_event(usage) if usage else b"") + b"data: [DONE]\n\n")

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return self._before + orjson.dumps(choice) + self._after


def stopping() -> ApiError:
    """What is told where `drain_s` was not enough: nobody but the server's end cancels a request from without."""
    return unavailable("the server is stopping: ask again", "stopping")


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


class _LastWords:
    """Says why a stream ends where its block is left by an error: a client takes one that just ends for whole."""

    def __init__(self, say: Callable[[bytes], Awaitable[None]], request_id: str) -> None:
        self._say, self._id = say, request_id

    async def __aenter__(self) -> None:
        """Nothing yet."""

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Whether that was all; after what nobody expected the connection is cut, too."""
        if isinstance(error, asyncio.CancelledError):
            await self._say(_event(stopping().body()))
            return True
        if isinstance(error, Exception):
            await self._say(_event(unexpected(self._id, error).body()))
        return False


class _Pinged:
    """Sends a stream's events, and something whenever nothing was said for a while. Its block is given what sends."""

    def __init__(self, send: Send) -> None:
        self._send, self._loop = send, asyncio.get_running_loop()
        self._spoke_s = self._loop.time()
        self._ping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Callable[[bytes], Awaitable[None]]:
        self._timer = self._loop.call_later(_PING_S, self._look)
        return self._say

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._ping is not None:
            self._ping.cancel()
            with suppress(asyncio.CancelledError):
                await self._ping

    async def _say(self, event: bytes) -> None:
        self._spoke_s = self._loop.time()
        await self._send({"type": "http.response.body", "body": event, "more_body": True})

    def _look(self) -> None:
        quiet_s = self._loop.time() - self._spoke_s
        if quiet_s >= _PING_S and (self._ping is None or self._ping.done()):
            self._ping = self._loop.create_task(self._say(b": ping\n\n"))
            quiet_s = 0.0
        self._timer = self._loop.call_later(max(0.01, _PING_S - quiet_s), self._look)
