"""What users wait with a version in the shadow, beside what they wait without: medians of the same requests.

    python benchmarks/serving/shadow.py [--rounds 8] [--requests 40] [--clients 2] [--pause 0.3] [--out FILE]

Two servers with the embedded engine on one ledger, on one thread each; both have champion and shadow loaded, one asks
its shadow everything (`serve.shadow.share` 1), the other nothing (0). Clients pause between their requests. Rounds are
interleaved, and the ratio of the medians is taken within a round, so that whatever else the machine does meets both.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
from engine import make_model, requests

from nacre.cycle.workspace import Workspace
from nacre.records import Recipe, RowsFile, Snapshot
from nacre.records.release import Release, Rollout
from nacre.records.version import Environment
from nacre.registry.releases import Reason

SERVER = """
import json, sys
from pathlib import Path
from nacre.cycle.workspace import Workspace
from nacre.serve.run import LedgerSource, serve
from nacre.serve.settings import Serve

space = Workspace.open(Path(sys.argv[1]))
settings = Serve(port=0, name="bot", log="off", shadow=json.loads(sys.argv[2]))
source = LedgerSource(space.ledger, space.weights, space.hidden / "secret")
serve(source, settings, announce=lambda url: print(url, flush=True))
"""


def prepare(root: Path) -> Workspace:
    """A ledger with two versions of one small model: the first champion, the second in the shadow."""
    make_model(root / "model")
    (root / "nacre.yaml").write_text(json.dumps({"model": "model"}))
    space = Workspace.open(root)
    for number in (1, 2):
        space.ledger.add_version(
            base="model",
            base_sha256="0" * 64,
            kind="full",
            artifact=space.store.publish_folder(root / "model"),
            recipe=Recipe(),
            environment=Environment(python="3", packages={}, machine="here", device="cpu"),
            snapshot=Snapshot(task="t", train=RowsFile(sha256=f"{number}" * 64, rows=1), dev=None, sources={}),
            tasks=("t",),
        )
    space.ledger.promote(1, actor="benchmark", why="start")
    time_0 = "2026-01-01T00:00:00.000+00:00"
    plan = Release(shadow_requests=1_000_000)
    rollout = Rollout(version=2, champion=1, salt="s", plan=plan, margins={}, created=time_0, since=time_0)
    space.ledger.releases.start(rollout, Reason("benchmark", "shadow"))
    return space


def start(held: ExitStack, root: Path, share: float) -> str:
    """A server that asks its shadow so much; its address."""
    command = [sys.executable, "-c", SERVER, str(root), json.dumps({"share": share})]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, env=environment)
    held.callback(process.wait)
    held.callback(process.terminate)
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def one_round(url: str, seed: int, given: argparse.Namespace) -> list[float]:
    """Seconds of each request."""
    waiting = requests(given.requests, seed)
    draw = random.Random(seed)
    took: list[float] = []

    async def client(session: aiohttp.ClientSession) -> None:
        while waiting:
            asked = waiting.pop()
            body = {"model": "bot", "messages": [{"role": "user", "content": asked.text}], "max_tokens": asked.tokens}
            began_s = time.monotonic()
            async with session.post(f"{url}/v1/chat/completions", json=body | {"seed": 1}) as reply:
                reply.raise_for_status()
                await reply.read()
            took.append(time.monotonic() - began_s)
            await asyncio.sleep(draw.expovariate(1 / given.pause))

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(given.clients)))
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
        space = held.enter_context(prepare(Path(folder)))
        urls = {"with": start(held, space.root, 1.0), "without": start(held, space.root, 0.0)}
        time.sleep(5)  # the shadow is loaded behind the champion
        rounds: list[dict[str, float]] = []
        for number in range(given.rounds + 1):
            order = list(urls) if number % 2 else list(urls)[::-1]
            found = {name: asyncio.run(one_round(urls[name], number, given)) for name in order}
            if number:  # the first warms up
                rounds.append({name: statistics.median(took) for name, took in found.items()})
        rollout = space.ledger.releases.active()
        pairs = len(space.ledger.releases.observed.pairs(rollout)) if rollout else 0
    ratios = [one["with"] / one["without"] for one in rounds]
    told: dict[str, Any] = {
        "settings": {
            "rounds": given.rounds,
            "requests": given.requests,
            "clients": given.clients,
            "pause_s": given.pause,
        },
        "median_s": {name: statistics.median(one[name] for one in rounds) for name in urls},
        "ratio_median": statistics.median(ratios),
        "ratios": ratios,
        "pairs": pairs,
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(told, indent=1))
    if given.out:
        given.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
