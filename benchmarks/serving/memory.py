"""Memory of the gateway over many requests: must stay flat.

    python benchmarks/serving/memory.py [--requests 1000000] [--step 20000] [--out FILE]

One worker with everything on, as in `gateway.py`, in front of a stub that answers at once, asked by wrk over 32
connections; every tenth step streams. After each step the memory of the gateway's process is read: `rss` is what the
system counts, `own` leaves out pages of files, which the system takes back when it wants them. The first steps warm up:
what grows is told against the mean of the steps after them.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from gateway import HERE, KEY, free_port, process, wrk

CLIENTS = 32
SECONDS = 5


def memory_mib(server: psutil.Process) -> dict[str, float]:
    """RSS, and the part of it that no file backs."""
    info = server.memory_info()
    return {"rss": round(info.rss / 2**20, 2), "own": round((info.rss - info.shared) / 2**20, 2)}


def step(server: psutil.Process, port: int, case: str, requests: int, folder: Path) -> dict[str, Any]:
    """At least so many requests, and what they left behind."""
    done = errors = 0
    began = time.monotonic()
    while done < requests:
        found = wrk(port, case, "bot", CLIENTS, SECONDS, folder)
        done, errors = done + int(found["requests"]), errors + int(found["errors"])
    time.sleep(1.0)  # what waits for the ledger is written
    return {"case": case, "requests": done, "errors": errors, "s": round(time.monotonic() - began, 1)} | memory_mib(
        server
    )


def growth(steps: list[dict[str, Any]], warm_up: int) -> dict[str, float]:
    """How far the last third stands above the first, of the steps after the warm-up."""
    kept = [each["rss"] for each in steps if each["total"] > warm_up]
    third = max(1, len(kept) // 3)
    first, last = sum(kept[:third]) / third, sum(kept[-third:]) / third
    return {
        "first_third_mib": round(first, 2),
        "last_third_mib": round(last, 2),
        "growth": round(last / first - 1, 4),
        "spread": round((max(kept) - min(kept)) / first, 4),
    }


def measure(options: argparse.Namespace, folder: Path, running: contextlib.ExitStack) -> dict[str, Any]:
    """The steps, and what they say together."""
    stub, port = free_port(), free_port()
    uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "--no-access-log", "--log-level", "warning"]
    running.enter_context(
        process("stub", [*uvicorn, "gateway_apps:stub", "--port", str(stub)], stub, "/v1/models", folder)
    )
    os.environ["STUB"] = f"http://127.0.0.1:{stub}"
    gateway = [sys.executable, str(options.gateway), str(port), KEY, str(folder)]
    server = running.enter_context(process("nacre", gateway, port, "/v1/models", folder))
    steps: list[dict[str, Any]] = []
    total = 0
    while total < options.requests:
        case = "stream" if len(steps) % 10 == 9 else "plain"
        found = step(server, port, case, options.step // (10 if case == "stream" else 1), folder)
        total += found["requests"]
        steps.append(found | {"total": total})
        print(json.dumps(steps[-1]), flush=True)
    return {"requests": total, "errors": sum(each["errors"] for each in steps), "steps": steps} | growth(
        steps, options.warm_up
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--step", type=int, default=20_000)
    parser.add_argument("--warm-up", type=int, default=50_000, help="requests that do not count")
    parser.add_argument("--gateway", type=Path, default=HERE / "gateway_nacre.py", help="what starts the gateway")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as running:
        result = measure(options, Path(name), running)
    print(json.dumps({key: value for key, value in result.items() if key != "steps"}, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
