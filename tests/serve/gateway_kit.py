"""Ledgers and engines for the gateway's tests: no model is loaded, and every answer says which version gave it."""

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from scripted_engine import BREAK, HANG, REFUSE, ScriptedEngine, ScriptedGeneration

from nacre.base.errors import NacreError
from nacre.cycle.releases.steering import actions
from nacre.cycle.workspace import Workspace
from nacre.records import Message, RowsFile, Snapshot, Version, Weights
from nacre.records.recipe import Recipe
from nacre.records.release import Release, Rollout
from nacre.records.version import Environment
from nacre.registry.ledger import Ledger
from nacre.registry.releases import Reason
from nacre.serve.engines import ENGINES, ChatPrompt, Delta, Finish, Prompt, Sampling, Target
from nacre.serve.run import ApiServer, LedgerSource
from nacre.serve.settings import Serve

WHY = Reason("test", "test")


class NamedEngine(ScriptedEngine):
    """Says ``<version>: <question>``. What is slow or fails is set by version number, for one test."""

    load_s: ClassVar[dict[int, float]] = {}
    broken: ClassVar[set[int]] = set()  # cannot be loaded
    failing: ClassVar[set[int]] = set()  # fail at every answer
    piece_s: ClassVar[dict[int, float]] = {}
    begun: ClassVar[list[int]] = []  # whose loading has begun, in that order

    @classmethod
    def forget(cls) -> None:
        """As it was."""
        for one in (cls.load_s, cls.broken, cls.failing, cls.piece_s, cls.begun):
            one.clear()

    async def load(self, target: Target) -> None:
        self.begun.append(target.version)
        await asyncio.sleep(self.load_s.get(target.version, 0))
        if target.version in self.broken:
            raise NacreError(f"the weights of {target.version} are torn", where="/secret/place", fix="none")
        await super().load(target)

    async def generate(self, target: Target, prompt: Prompt, sampling: Sampling) -> ScriptedGeneration:
        assert isinstance(prompt, ChatPrompt)
        if target.version in self.failing:
            raise NacreError("this version always fails")
        asked = prompt.messages[-1].content
        said = asked if asked in (BREAK, HANG, REFUSE) else f"{target.version}: {asked}"
        named = ChatPrompt((*prompt.messages[:-1], Message(role="user", content=said)), prompt.system)
        made = await super().generate(target, named, sampling)
        pause_s = self.piece_s.get(target.version, 0.0)
        if pause_s:
            give = made.next

            async def slowly() -> Delta | Finish:
                await asyncio.sleep(pause_s)
                return await give()

            made.next = slowly  # type: ignore[method-assign] # of this one object
        return made


@dataclass
class Hall:
    """A workspace whose ledger has four versions, the first of them champion."""

    space: Workspace
    url: str = ""
    resolving: Callable[[Version], None] = field(default=lambda version: None)

    @property
    def ledger(self) -> Ledger:
        return self.space.ledger

    def resolve(self, version: Version) -> Weights:
        self.resolving(version)
        return Weights(identity=version.artifact, model="/nowhere")

    @property
    def source(self) -> LedgerSource:
        return LedgerSource(self.ledger, self.resolve, self.space.hidden / "secret", None, actions(self.space))

    def release(self, version: int, **plan: Any) -> Rollout:
        """Begin a rollout without asking the gate; by default straight into a canary of 50 %."""
        planned = Rollout(
            version=version,
            champion=self.ledger.slots()["champion"].version,
            salt=f"salt {version}",
            plan=Release(**({"shadow_requests": 0, "steps": [50, 100]} | plan)),
            margins={"shadow": 0.02, "feedback": 0.02, "completion": 0.02},
            created="2026-01-01T00:00:00.000+00:00",
            since="2026-01-01T00:00:00.000+00:00",
        )
        return self.ledger.releases.start(planned, WHY)


def make_hall(root: Path, url: str = "") -> Hall:
    """Four versions of nothing."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "nacre.yaml").write_text(json.dumps({"model": "nothing", "ledger": {"url": url or None}}))
    space = Workspace.open(root)
    for number in range(1, 5):
        space.ledger.add_version(
            base="base",
            base_sha256="0" * 64,
            kind="full",
            artifact=space.store.publish(lambda folder, number=number: _fill(folder, number)),
            recipe=Recipe(),
            environment=Environment(python="3", packages={}, machine="here", device="cpu"),
            snapshot=Snapshot(task="t", train=RowsFile(sha256=f"{number}" * 64, rows=1), dev=None, sources={}),
            tasks=("t",),
        )
    space.ledger.promote(1, actor="test", why="start")
    return Hall(space)


def _fill(folder: Path, number: int) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(str(number))


@contextmanager
def serving(hall: Hall | Weights, **settings: Any) -> Iterator[ApiServer]:
    """A server in a thread of this process."""
    ENGINES._entries["named"] = "gateway_kit:NamedEngine"
    source = replace(hall.source, page=settings.pop("page", None)) if isinstance(hall, Hall) else hall
    server = ApiServer(source, Serve(**({"port": 0, "name": "bot", "engine": "named"} | settings)))
    started = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            server.run(lambda url: started.set())
        except BaseException as error:  # noqa: BLE001  # told by the thread that waits
            failed.append(error)
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    if failed:
        raise failed[0]
    try:
        yield server
    finally:
        server.stop()
        thread.join()


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def text(self) -> str:
        return self.body["choices"][0]["message"]["content"]

    @property
    def code(self) -> str:
        return self.body["error"]["code"]


def send(
    url: str, path: str, body: Any = None, *, key: str = "", method: str = "", headers: Mapping[str, str] = {}
) -> Reply:
    """One request; an error's answer is an answer."""
    data = None if body is None else json.dumps(body).encode()
    given = {"content-type": "application/json"} | dict(headers)
    if key:
        given["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url + path, data, given, method=method or ("GET" if body is None else "POST"))
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            raw, status, told = reply.read(), reply.status, reply.headers
    except urllib.error.HTTPError as error:
        with error:
            raw, status, told = error.read(), error.code, error.headers
    is_json = told.get_content_type() == "application/json"
    return Reply(
        status, {name.lower(): value for name, value in told.items()}, json.loads(raw) if is_json and raw else raw
    )


def chat(url: str, question: str = "hello", *, key: str = "", user: str = "", **more: Any) -> Reply:
    """Ask the model ``bot``."""
    headers = more.pop("headers", {})
    body = {"model": "bot", "messages": [{"role": "user", "content": question}]} | more
    return send(url, "/v1/chat/completions", body | ({"user": user} if user else {}), key=key, headers=headers)


def until(true: Callable[[], bool], within_s: float = 20.0) -> float:
    """Wait until it is so; returns the seconds it took."""
    began_s = time.monotonic()
    while not true():
        assert time.monotonic() - began_s < within_s, "it did not come to be"
        time.sleep(0.01)
    return time.monotonic() - began_s


def loaded(url: str, slot: str, key: str = "") -> None:
    """Wait until the version of a slot answers: a server begins with the champion and loads the others meanwhile."""
    until(lambda: f"bot:{slot}" in {one["id"] for one in send(url, "/v1/models", key=key).body["data"]})
