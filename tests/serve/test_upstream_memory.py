"""The whole gateway, as a process of its own, answers many requests without growing."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

SERVERS = Path(__file__).parents[2] / "benchmarks" / "serving"
KEY = "sk-memory-0123456789"
QUESTION = {"model": "bot", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
CLIENTS = 16
# By hand: NACRE_SOAK_REQUESTS=1000000
REQUESTS = int(os.environ.get("NACRE_SOAK_REQUESTS", "12000"))


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def _started(command: list[str], port: int, stub: int, log: Path) -> Iterator[int]:
    environment = os.environ | {"STUB": f"http://127.0.0.1:{stub}", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            assert process.poll() is None, log.read_text()
            yield process.pid
        finally:
            process.terminate()
            process.wait()


async def _ask(url: str, times: int) -> int:
    """Ask whole and streamed answers in turn; how many were whole."""
    good = 0
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session:

        async def client(count: int) -> None:
            nonlocal good
            for place in range(count):
                stream = place % 2 == 0
                async with session.post(url, json=QUESTION | {"stream": stream}) as answer:
                    text = await answer.text()
                    good += answer.status == 200 and ("[DONE]" in text if stream else '"stop"' in text)

        await asyncio.gather(*(client(times // CLIENTS) for _ in range(CLIENTS)))
    return good


@pytest.mark.slow
def test_memory_is_flat_over_many_requests(tmp_path: Path) -> None:
    stub, port = _free_port(), _free_port()
    uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", str(SERVERS), "gateway_apps:stub", "--no-access-log"]
    gateway = [sys.executable, str(SERVERS / "gateway_nacre.py"), str(port), KEY, str(tmp_path)]
    with ExitStack() as running:
        running.enter_context(_started([*uvicorn, "--port", str(stub)], stub, stub, tmp_path / "stub.log"))
        pid = running.enter_context(_started(gateway, port, stub, tmp_path / "gateway.log"))
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        sizes: list[int] = []
        for _ in range(4):
            part = REQUESTS // 4 // CLIENTS * CLIENTS
            assert asyncio.run(_ask(url, part)) == part, "every answer must be whole"
            sizes.append(psutil.Process(pid).memory_info().rss)
    assert sizes[-1] <= sizes[0] * 1.05, [size >> 20 for size in sizes]
