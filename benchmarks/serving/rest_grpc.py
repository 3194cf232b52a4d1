"""gRPC beside REST: the same server, the same engine, the same questions, asked in turn.

    python benchmarks/serving/rest_grpc.py [--rounds 7] [--requests 60] [--out benchmarks/results/serving-grpc.json]

The engine needs no model: it says 64 words at once, which leaves nothing but the way there and back, or one each 5 ms,
which is what a fast model does. One client in one process, one request after the other over one open connection, rounds
interleaved; each figure is the median over the rounds. `ms` is a round's median latency, `p10_ms` what its fastest
tenth was below, which other work on the machine disturbs least, `first_ms` the same until the first word. REST is asked
twice: by aiohttp, which is about the fastest Python has, and by the official openai client; gRPC by grpc.aio. CPU is
for a request, the server's and the client's.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import openai
import psutil
from grpc import aio

from nacre.serve.grpc import chat_pb2
from nacre.serve.grpc.stubs import ChatStub

KEY = "sk-bench-0123456789abcdef"
QUESTION = "What grows layer by layer and keeps its old layers? Answer in a sentence."
WORDS = 64
CASES = {"whole, at once": (False, 0), "streamed, at once": (True, 0), "streamed, 5 ms a word": (True, 5)}
Ask = Callable[[bool, int], Awaitable[float]]  # returns the seconds to the first piece


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def by_aiohttp(session: aiohttp.ClientSession, url: str) -> Ask:
    async def ask(stream: bool, pause_ms: int) -> float:
        began_s, first_s, text = time.perf_counter(), 0.0, ""
        body = _body(stream, pause_ms)
        async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
            if not stream:
                text = (await reply.json())["choices"][0]["message"]["content"]
            else:
                async for line in reply.content:
                    if line.startswith(b"data: {"):
                        delta = json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                        first_s = first_s or (time.perf_counter() - began_s if delta else 0.0)
                        text += delta
        assert text == "word " * WORDS
        return first_s

    return ask


def by_openai(client: openai.AsyncOpenAI) -> Ask:
    async def ask(stream: bool, pause_ms: int) -> float:
        began_s, first_s, text = time.perf_counter(), 0.0, ""
        reply = await client.chat.completions.create(**_body(stream, pause_ms))
        if not stream:
            text = reply.choices[0].message.content
        else:
            async for chunk in reply:
                delta = chunk.choices[0].delta.content or ""
                first_s = first_s or (time.perf_counter() - began_s if delta else 0.0)
                text += delta
        assert text == "word " * WORDS
        return first_s

    return ask


def by_grpc(channel: Any) -> Ask:
    stub, metadata = ChatStub(channel), (("authorization", f"Bearer {KEY}"),)

    async def ask(stream: bool, pause_ms: int) -> float:
        began_s, first_s, text = time.perf_counter(), 0.0, ""
        request = chat_pb2.ChatRequest(
            model="bot",
            messages=[chat_pb2.Message(role="user", content=QUESTION)],
            sampling=chat_pb2.Sampling(max_tokens=WORDS, seed=pause_ms),
        )
        if not stream:
            text = (await stub.Chat(request, metadata=metadata)).choices[0].content
        else:
            async for chunk in stub.ChatStream(request, metadata=metadata):
                first_s = first_s or time.perf_counter() - began_s
                text += chunk.choice.content
        assert text == "word " * WORDS
        return first_s

    return ask


def _body(stream: bool, pause_ms: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTION}]
    return {"model": "bot", "messages": messages, "max_tokens": WORDS, "seed": pause_ms, "stream": stream}


async def measure(options: argparse.Namespace, server: psutil.Process, ports: tuple[int, int]) -> dict[str, Any]:
    url = f"http://127.0.0.1:{ports[0]}"
    headers = {"authorization": f"Bearer {KEY}"}
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        client,
        aio.insecure_channel(f"127.0.0.1:{ports[1]}") as channel,
    ):
        ways = {"aiohttp": by_aiohttp(session, url), "openai": by_openai(client), "gRPC": by_grpc(channel)}
        return {name: await compared(options, server, ways, case) for name, case in CASES.items()}


async def compared(
    options: argparse.Namespace, server: psutil.Process, ways: dict[str, Ask], case: tuple[bool, int]
) -> dict[str, Any]:
    """Medians of every way, and what gRPC's latency is of the others'."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    count = max(3, options.requests // 6) if case[1] else options.requests
    for place in range(options.rounds + 1):
        for name, ask in ways.items():
            before, own, totals, firsts = sum(server.cpu_times()[:2]), time.process_time(), [], []
            for _ in range(count):
                began_s = time.perf_counter()
                firsts.append(await ask(*case) * 1000)
                totals.append((time.perf_counter() - began_s) * 1000)
            used_ms = (sum(server.cpu_times()[:2]) - before) * 1000 / count
            found = {
                "ms": statistics.median(totals),
                "p10_ms": _tenth(totals),
                "server_cpu_ms": used_ms,
                "client_cpu_ms": (time.process_time() - own) * 1000 / count,
            }
            if place:  # the first round warms up
                rounds[name].append(found | ({"first_ms": _tenth(firsts)} if case[0] else {}))
    told: dict[str, Any] = {
        name: {key: round(statistics.median(one[key] for one in rows), 3) for key in rows[0]}
        for name, rows in rounds.items()
    }
    for name in ("aiohttp", "openai"):
        pairs = list(zip(rounds["gRPC"], rounds[name], strict=True))
        told[f"gRPC/{name}"] = {
            key: round(statistics.median(ours[key] / theirs[key] for ours, theirs in pairs), 3)
            for key in ("ms", "p10_ms")
        }
    return told


def _tenth(values: list[float]) -> float:
    return statistics.quantiles(values, n=10)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=60, help="in a round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    ports = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        script = str(Path(__file__).parent / "grpc_app.py")
        command = [sys.executable, script, *(str(port) for port in ports), KEY, folder]
        started = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        try:
            assert started.stdout is not None
            if not started.stdout.readline().startswith("http"):
                raise SystemExit("the server does not start")
            cases = asyncio.run(measure(options, psutil.Process(started.pid), ports))
        finally:
            started.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(10)
            started.kill()
    result = {"load": os.getloadavg(), "rounds": options.rounds, "requests": options.requests, "cases": cases}
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
