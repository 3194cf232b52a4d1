"""An engine that needs no model: it can do everything, at once, and fails where a question asks for it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence

from nacre.serve.engines import (
    ChatPrompt,
    ContextTooLong,
    Delta,
    Embeddings,
    EngineError,
    Feature,
    Finish,
    Logprob,
    NotLoaded,
    Prompt,
    Sampling,
    Target,
    TextPrompt,
)
from nacre.serve.settings import Serve

CONTEXT = 4096  # characters: every character is a token
BREAK, HANG, REFUSE = "break in the middle", "never say anything", "fail at once"
TOLD_ESCAPES = "a\x1b[2Jb"


class ScriptedEngine:
    """Repeats what it was asked, with its seed before it where it was given one."""

    features: frozenset[Feature] = frozenset(("logprobs", "echo", "json", "tools", "penalties", "embeddings"))

    def __init__(self, settings: Serve) -> None:
        self._loaded: list[Target] = []
        self.seen: list[tuple[Prompt, Sampling]] = []
        self.cancelled = 0
        self.running = 0
        MADE.append(self)

    @property
    def loaded(self) -> tuple[Target, ...]:
        return tuple(self._loaded)

    @property
    def waiting(self) -> int:
        return 0

    async def load(self, target: Target) -> None:
        self._loaded.append(target)

    async def unload(self, target: Target) -> None:
        self._loaded.remove(target)

    async def generate(self, target: Target, prompt: Prompt, sampling: Sampling) -> "ScriptedGeneration":
        if target not in self._loaded:
            raise NotLoaded("not loaded")
        question = _question(prompt)
        if question == REFUSE:
            raise EngineError("the engine is broken")
        if len(question) + (sampling.max_tokens or 1) > CONTEXT:
            raise ContextTooLong(f"the context holds {CONTEXT} tokens")
        self.seen.append((prompt, sampling))
        return ScriptedGeneration(self, target, prompt, sampling)

    async def embed(self, target: Target, inputs: Sequence[TextPrompt]) -> Embeddings:
        texts = [_question(one) for one in inputs]
        return Embeddings(tuple((1.0, 0.0, -0.5) for _ in texts), sum(len(text) for text in texts))

    async def close(self) -> None:
        return None


MADE: list[ScriptedEngine] = []  # every engine a server has started, newest last


class ScriptedGeneration:
    def __init__(self, engine: ScriptedEngine, target: Target, prompt: Prompt, sampling: Sampling) -> None:
        self._engine, self.target, self._prompt, self._sampling = engine, target, prompt, sampling
        self._question = _question(prompt)
        self.prompt_tokens = len(self._question)
        self._made = 0
        self._aborted = asyncio.Event()
        self._done = False
        self._pieces = self._said()
        engine.running += 1

    async def next(self) -> Delta | Finish:
        await asyncio.sleep(0)
        if not self._aborted.is_set():
            piece = await anext(self._pieces)
            if not self._aborted.is_set():
                return self._ended(piece) if isinstance(piece, Finish) else piece
        return self._ended(Finish("aborted", self._made))

    def cancel(self) -> None:
        if not (self._done or self._aborted.is_set()):
            self._aborted.set()
            self._engine.cancelled += 1
            self._engine.running -= 1

    def _ended(self, finish: Finish) -> Finish:
        if not (self._done or self._aborted.is_set()):
            self._engine.running -= 1
        self._done = True
        return finish

    async def _said(self) -> AsyncGenerator[Delta | Finish, None]:
        sampling = self._sampling
        if self._question == HANG:
            await self._aborted.wait()
        if isinstance(self._prompt, ChatPrompt) and self._prompt.tools and self._prompt.tool_choice != "none":
            for piece in _call(self._prompt.tools[0]["function"]["name"]):
                yield Delta("", tool_calls=(piece,))
            yield Finish("tool_calls", 7)
            return
        if sampling.echo:
            yield Delta(self._question, _tokens(self._question, sampling, first=True))
        text = (
            '{"a": 1}' if sampling.format else ("" if sampling.seed is None else f"{sampling.seed} ") + self._question
        )
        most = len(text) if sampling.max_tokens is None else sampling.max_tokens
        for character in text[:most]:
            self._made += 1
            if self._question == BREAK and self._made == 3:
                self._done = True
                self._engine.running -= 1
                raise EngineError("the engine broke", fix="try again")
            yield Delta(character, _tokens(character, sampling))
        yield Finish("stop" if most >= len(text) else "length", self._made, cached_tokens=min(2, self.prompt_tokens))


def _tokens(text: str, sampling: Sampling, *, first: bool = False) -> tuple[Logprob, ...]:
    if sampling.logprobs is None:
        return ()
    top = (("x", b"x", float("-inf")), ("\ufffd", b"\xe7", -2.0))[: sampling.logprobs]
    return tuple(
        Logprob(one, one.encode(), None if first and place == 0 else -0.5, () if first and place == 0 else top)
        for place, one in enumerate(text)
    )


def _call(name: str) -> list[dict[str, object]]:
    arguments = json.dumps({"city": "上海"}, ensure_ascii=False)
    start = {"index": 0, "id": "call-1", "type": "function", "function": {"name": name, "arguments": ""}}
    return [start, *({"index": 0, "function": {"arguments": part}} for part in (arguments[:5], arguments[5:]))]


def _question(prompt: Prompt) -> str:
    if isinstance(prompt, ChatPrompt):
        return prompt.messages[-1].content
    return prompt.text if isinstance(prompt.text, str) else "".join(chr(32 + token % 90) for token in prompt.text)
