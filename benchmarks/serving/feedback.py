"""What recording costs a request, and how many opinions are stored a second with none lost when the server is killed.

    python benchmarks/serving/feedback.py [--events 100000] [--clients 64] [--kills 3] [--blocks 20] [--out FILE]

nacre's gateway, one worker, keys checked, logs on, in front of a stub that answers at once. First, one client asks over
one connection, in blocks of requests that are recorded (cleaned, hashed, written) and blocks of the same requests with
``x-nacre-no-store``, in turns, with a pause after each block in which what is waiting is written; the figure is the
median over the blocks of the difference of their medians. Then many clients ask and give 16 opinions on each answer
until so many are acknowledged; the server is killed with SIGKILL some times on the way, and in the end every
acknowledged opinion, and the answer it is about, must be in the ledger.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa
from gateway import KEY, MESSAGES, free_port, process

HERE = Path(__file__).parent
EACH = 16  # opinions on one answer
BODY = {"model": "bot", "messages": MESSAGES, "max_tokens": 64, "user": "ann"}
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
PAUSE_S = 0.5


def stub(folder: Path, running: contextlib.ExitStack) -> None:
    """What answers behind the gateway."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "--no-access-log", "--log-level", "warning"]
    command += ["gateway_apps:stub", "--port", str(port)]
    running.enter_context(process("stub", command, port, "/v1/models", folder))
    os.environ["STUB"] = f"http://127.0.0.1:{port}"


def added_ms(port: int, blocks: int, requests: int) -> dict[str, float]:
    """Medians of a request with and without recording, and the median of their differences block by block."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = json.dumps(BODY)

    def block(headers: dict[str, str]) -> float:
        seconds = []
        for _ in range(requests):
            began = time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body, HEADERS | headers)
            reply = connection.getresponse()
            reply.read()
            seconds.append(time.perf_counter() - began)
            assert reply.status == 200, reply.status
        time.sleep(PAUSE_S)
        return statistics.median(seconds) * 1000

    kinds: tuple[dict[str, str], dict[str, str]] = ({}, {"x-nacre-no-store": "1"})
    for headers in kinds:  # warm
        block(headers)
    recorded, forgotten = [], []
    for place in range(blocks):
        for kind in ((0, 1), (1, 0))[place % 2]:
            (recorded, forgotten)[kind].append(block(kinds[kind]))
    connection.close()
    differences = [one - other for one, other in zip(recorded, forgotten, strict=True)]
    return {
        "recorded_ms": statistics.median(recorded),
        "not_recorded_ms": statistics.median(forgotten),
        "added_ms": statistics.median(differences),
        "added_ms_worst_block": max(differences),
    }


@dataclass
class Load:
    """Clients that ask and speak; at so many acknowledged opinions the server is killed in the midst of it."""

    port: int
    wanted: int
    kill: Callable[[], None]
    acknowledged: dict[int, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    early: int = 0  # clients that were refused before the kill

    async def run(self, clients: int) -> None:
        """Until the server has gone."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS) as session:
            await asyncio.gather(*(self.client(session, place) for place in range(clients)))

    async def client(self, session: aiohttp.ClientSession, place: int) -> None:
        """One of them."""
        try:
            while True:
                asked = await self.post(session, "chat/completions", BODY | {"user": f"user {place}"})
                for number in range(EACH):
                    began = time.perf_counter()
                    said = {"response_id": asked["id"], "stars": 1 + number % 5, "user": f"user {place} {number}"}
                    told = await self.post(session, "feedback", said)
                    self.seconds.append(time.perf_counter() - began)
                    self.acknowledged[told["ids"][0]] = asked["id"]
                    if len(self.acknowledged) == self.wanted:
                        self.kill()
        except aiohttp.ClientError:
            self.early += len(self.acknowledged) < self.wanted

    async def post(self, session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> Any:
        """The answer to one request."""
        async with session.post(f"http://127.0.0.1:{self.port}/v1/{path}", json=body) as reply:
            reply.raise_for_status()
            return await reply.json()


def lost(folder: Path, acknowledged: dict[int, str]) -> int:
    """How many acknowledged opinions, with their answers, the ledger does not have."""
    engine = sa.create_engine(f"sqlite:///{folder / 'ledger.db'}")
    query = "select feedback.id, interaction.id from feedback join interaction on interaction.id = feedback.interaction"
    with engine.connect() as connection:
        stored = {row[0]: row[1] for row in connection.execute(sa.text(query))}
    engine.dispose()
    return sum(stored.get(number) != answer for number, answer in acknowledged.items())


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both figures."""
    result: dict[str, Any] = {"events": options.events, "clients": options.clients, "kills": options.kills}
    acknowledged: dict[int, str] = {}
    seconds: list[float] = []
    spent_s = 0.0
    with contextlib.ExitStack() as running:
        stub(folder, running)
        for turn in range(options.kills + 1):
            port = free_port()
            command = [sys.executable, str(HERE / "gateway_nacre.py"), str(port), KEY, str(folder)]
            with process(f"nacre-{turn}", command, port, "/v1/models", folder) as server:
                if turn == 0:
                    result |= added_ms(port, options.blocks, options.requests)
                share = options.events * (turn + 1) // (options.kills + 1) - len(acknowledged)
                load = Load(port, share, server.kill)
                began = time.perf_counter()
                asyncio.run(load.run(options.clients))
                spent_s += time.perf_counter() - began
                if load.early:
                    raise SystemExit(f"{load.early} clients were refused; see {folder}")
            assert not acknowledged.keys() & load.acknowledged.keys(), "a number was given twice"
            acknowledged |= load.acknowledged
            seconds += load.seconds
    ordered = sorted(seconds)
    return result | {
        "acknowledged": len(acknowledged),
        "lost": lost(folder, acknowledged),
        "opinions_per_s": len(acknowledged) / spent_s,
        "opinion_ms_p50": statistics.median(ordered) * 1000,
        "opinion_ms_p99": ordered[int(0.99 * len(ordered))] * 1000,
    }


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--requests", type=int, default=500, help="in one block")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        text = json.dumps(measure(options, Path(name)), indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
