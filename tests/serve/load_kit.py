"""Many clients that stream at once, and what they saw."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp


@dataclass
class Child:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def child(url: str, store: Path, secret: Path, **settings: Any) -> Iterator[Child]:
    """Start it, and end it with the block."""
    told = {"port": 0, "name": "bot", "log": "off"} | settings
    given = json.dumps({"url": url, "store": str(store), "secret": str(secret), "settings": told})
    command = [sys.executable, str(Path(__file__).with_name("gateway_child.py")), given]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = process.stdout.readline().strip()
        assert line.startswith("http"), "the server did not start"
        yield Child(process, line)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextmanager
def lateness() -> Iterator[list[float]]:
    """How late this machine wakes a thread that sleeps: seconds, all that were seen in the block."""
    late, over = [0.0], threading.Event()

    def sleep() -> None:
        while not over.is_set():
            began_s = time.monotonic()
            time.sleep(0.05)
            late.append(time.monotonic() - began_s - 0.05)

    thread = threading.Thread(target=sleep)
    thread.start()
    yield late
    over.set()
    thread.join()


@dataclass(frozen=True)
class Seen:
    """One answer: when it was asked and whole, from which version, and what was wrong with it."""

    begun_s: float
    ended_s: float
    version: str
    problem: str = ""


@dataclass
class Load:
    """Clients in a thread of their own, each of which asks again as soon as it is answered.

    Args:
        expected: what each version says.
    """

    url: str
    clients: int
    expected: Mapping[str, str]
    question: str = "hello"
    seen: list[Seen] = field(default_factory=list)
    rated: list[int] = field(default_factory=list)  # numbers of the opinions that were acknowledged
    rate: bool = False

    def __enter__(self) -> "Load":
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def problems(self) -> list[str]:
        return [one.problem for one in self.seen if one.problem]

    def wait_for(self, version: str, since_s: float) -> float:
        """Wait until every request is answered by a version; seconds from `since_s` to the start of the last other."""
        while True:
            after = [one for one in list(self.seen) if one.begun_s > since_s]
            others = [one.begun_s for one in after if one.version != version]
            last = max(others, default=since_s)
            if sum(one.begun_s > last for one in after) >= self.clients:
                return last - since_s
            assert time.monotonic() - since_s < 60, "the version did not come"
            time.sleep(0.02)

    async def _all(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(self._client(session) for _ in range(self.clients)))

    async def _client(self, session: aiohttp.ClientSession) -> None:
        while not self._over.is_set():
            begun_s = time.monotonic()
            version, problem = "", ""
            try:
                version, identity = await self._ask(session)
                if self.rate:
                    await self._opine(session, identity)
            except (aiohttp.ClientError, ConnectionError, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
                await asyncio.sleep(0.05)
            self.seen.append(Seen(begun_s, time.monotonic(), version, problem))

    async def _ask(self, session: aiohttp.ClientSession) -> tuple[str, str]:
        body = {"model": "bot", "messages": [{"role": "user", "content": self.question}], "stream": True}
        models, text, reasons, identity = set(), "", [], ""
        async with session.post(f"{self.url}/v1/chat/completions", json=body | {"temperature": 0}) as reply:
            raw = await reply.read()
            if reply.status != 200:
                raise ValueError(f"{reply.status} {raw[:200]!r}")
            version = reply.headers["x-nacre-version"]
        events = [line[6:] for line in raw.decode().split("\n\n") if line.startswith("data: ")]
        if not events or events[-1] != "[DONE]":
            raise ValueError(f"the stream was cut: {raw[-200:]!r}")
        for event in map(json.loads, events[:-1]):
            if "error" in event:
                raise ValueError(event["error"]["message"])
            identity = event["id"]
            models.add(event["model"])
            text += event["choices"][0]["delta"].get("content") or ""
            reasons.append(event["choices"][0]["finish_reason"])
        if models != {f"bot@{version}"} or text != self.expected[version] or reasons[-1] != "stop":
            raise ValueError(f"mixed: {models}, {text!r}, {reasons[-1]}")
        return version, identity

    async def _opine(self, session: aiohttp.ClientSession, identity: str) -> None:
        async with session.post(f"{self.url}/v1/feedback", json={"response_id": identity, "stars": 5}) as reply:
            told = await reply.json()
            if reply.status != 200:
                raise ValueError(f"{reply.status} {told}")
            self.rated.extend(told["ids"])
