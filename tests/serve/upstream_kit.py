"""Servers that stand in for upstreams: one that answers as a script says, faults included, and one like vLLM."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Reply = Callable[["Asking"], Awaitable[None]]


@dataclass
class Asking:
    """One request that a fake server got, and the way back."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, kind: str = "text/event-stream", more: str = "") -> None:
        """A head without a length: the answer lasts until the connection closes."""
        await self.send(f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n{more}\r\n".encode())

    async def json(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        await self.send(
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode()
            + data
        )

    @property
    def model(self) -> str:
        return str(self.body["model"])


def chunk(text: str | None = None, reason: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": reason, **more}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


USAGE = (
    b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, '
    b'"prompt_tokens_details": {"cached_tokens": 3}}}\n\n'
)
DONE = b"data: [DONE]\n\n"
GOOD = chunk("") + chunk("Hel") + chunk("lo") + chunk(None, "stop") + USAGE + DONE


def streams(*parts: bytes, pause_s: float = 0.0) -> Reply:
    """A reply that sends these bytes, each part by itself."""

    async def reply(asking: Asking) -> None:
        await asking.head()
        for part in parts:
            await asking.send(part)
            await asyncio.sleep(pause_s)

    return reply


async def good(asking: Asking) -> None:
    """Answer "Hello", streamed or whole, as was asked; the connection can be used again."""
    if asking.body.get("stream"):
        await asking.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"%x\r\n" % len(GOOD)
            + GOOD
            + b"\r\n0\r\n\r\n"
        )
        return
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    message = {"role": "assistant", "content": "Hello"}
    choice = {"index": 0, "message": message, "text": "Hello", "finish_reason": "stop"}
    await asking.json({"choices": [choice], "usage": usage})


@dataclass
class Fake:
    """A server that lists `models` and answers with `reply`."""

    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "m", "object": "model"}])
    reply: Reply = good
    seen: list[Asking] = field(default_factory=list)
    connections: int = 0
    gone: int = 0  # connections that the other side closed before the answer's end
    url: str = ""

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["Fake"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in [task for task in asyncio.all_tasks() if task.get_name() == self.url]:
                task.cancel()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def asked(self) -> list[Asking]:
        """The requests for answers."""
        return [each for each in self.seen if each.path.endswith("completions")]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name(self.url)
        self.connections += 1
        try:
            while (asking := await _read(reader, writer)) is not None:
                self.seen.append(asking)
                before = writer.transport.get_write_buffer_size()
                assert before == 0
                await self.answer(asking)
                if asking.path.endswith("completions") and self.reply is not good:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone += 1
        finally:
            writer.close()

    async def answer(self, asking: Asking) -> None:
        if asking.path == "/v1/models":
            await asking.json({"object": "list", "data": self.models})
        elif asking.path.endswith("completions"):
            await self.reply(asking)
        else:
            await asking.json({"detail": "Not Found"}, 404)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asking | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    raw = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asking(method, path, headers, json.loads(raw) if raw else None, reader, writer)


class FakeVllm(Fake):
    """vLLM's endpoints for adapters. What it answers names the model that was asked.

    Attributes:
        calls: what was done about adapters, in order.
        believes_everything: says 200 for folders that do not exist and lists the adapter, as old versions did.
    """

    def __init__(self, base: str = "/models/base") -> None:
        super().__init__(models=[{"id": "base", "object": "model", "root": base, "parent": None}])
        self.calls: list[tuple[str, str]] = []
        self.believes_everything = False
        self.static = False
        self._paths: dict[str, str] = {}

    def restart(self) -> None:
        """Lose every adapter."""
        self.models, self._paths = self.models[:1], {}

    async def answer(self, asking: Asking) -> None:
        if asking.path == "/v1/load_lora_adapter" and not self.static:
            await self._load(asking, asking.body["lora_name"], asking.body["lora_path"])
        elif asking.path == "/v1/unload_lora_adapter" and not self.static:
            name = asking.body["lora_name"]
            self.calls.append(("unload", name))
            if self._paths.pop(name, None) is None:
                await asking.json({"object": "error", "message": f"{name} cannot be found.", "code": 404}, 404)
                return
            self.models = [card for card in self.models if card["id"] != name]
            await asking.json("Success: unloaded")
        elif asking.path.endswith("completions") and asking.model not in [card["id"] for card in self.models]:
            error = {"message": f"The model `{asking.model}` does not exist.", "type": "NotFoundError", "code": 404}
            await asking.json({"error": error}, 404)
        elif asking.path.endswith("completions") and not Path(self._paths.get(asking.model, "/")).is_dir():
            await asking.json({"error": {"message": "EngineCore encountered an issue", "code": 500}}, 500)
        else:
            await super().answer(asking)

    async def _load(self, asking: Asking, name: str, path: str) -> None:
        self.calls.append(("load", name))
        if name in self._paths:
            message = f"The lora adapter '{name}' has already been loaded."
            await asking.json({"object": "error", "message": message, "code": 400}, 400)
        elif not Path(path).is_dir() and not self.believes_everything:
            await asking.json({"error": {"message": f"No adapter found for '{path}'", "code": 404}}, 404)
        else:
            self._paths[name] = path
            self.models = [*self.models, {"id": name, "object": "model", "root": path, "parent": "base"}]
            await asking.json("Success: LoRA adapter added")
