"""The gateway beside a bare Starlette and aiohttp proxy, and beside LiteLLM's proxy, in one run.

    python3 -m venv /tmp/litellm && /tmp/litellm/bin/pip install 'litellm[proxy]'
    python benchmarks/serving/gateway.py [--litellm /tmp/litellm/bin/litellm] [--rounds 5] [--seconds 3] [--out FILE]

One worker each, in front of one stub that answers at once, asked by wrk (`apt-get install wrk`); rounds are
interleaved, so that whatever else the machine does meets all of them. nacre runs with everything on: a key checked,
the request validated, the ledger's champion looked up, the answer kept, counted and logged. The bare proxy passes
bytes on and understands nothing.

Two figures are given for each: requests a second as wrk saw them, and CPU seconds of the proxy's process for a
request. On a machine that does other things the first says little; the second is what one worker is bounded by.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
KEY = "sk-bench-0123456789abcdef"
MESSAGES = [{"role": "user", "content": "What grows layer by layer and keeps its old layers? Answer in a sentence."}]
CASES = {"plain": {}, "stream": {"stream": True}}
LUA = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.body = [==[{body}]==]
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %f %f\\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.timeout, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def process(name: str, command: list[str], port: int, path: str, folder: Path) -> Iterator[psutil.Process]:
    """A server that answers at `path`; its output goes into `folder`."""
    with (folder / f"{name}.log").open("wb") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        try:
            _wait(name, port, path, started, folder)
            yield psutil.Process(started.pid)
        finally:
            started.terminate()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def _wait(name: str, port: int, path: str, started: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + 120
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {KEY}"})
    while time.monotonic() < deadline and started.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise SystemExit(f"{name} does not answer:\n{(folder / f'{name}.log').read_text()[-3000:]}")


def wrk(port: int, case: str, model: str, clients: int, seconds: float, folder: Path) -> dict[str, float]:
    script = folder / f"{case}-{model}.lua"
    body = {"model": model, "messages": MESSAGES, "max_tokens": 64} | CASES[case]
    script.write_text(LUA.format(key=KEY, body=json.dumps(body)))
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "30s", "-s", str(script), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", output)
    assert found is not None, output
    requests, micros, errors, p50, p99 = (float(one) for one in found.groups())
    return {"requests": requests, "per_s": requests / micros * 1e6, "errors": errors, "p50_ms": p50, "p99_ms": p99}


def cpu_s(server: psutil.Process) -> float:
    family = [server, *server.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in family if one.is_running())


def litellm_config(folder: Path, stub: int) -> Path:
    path = folder / "litellm.yaml"
    path.write_text(
        "model_list:\n  - model_name: bot\n    litellm_params:\n      model: openai/m\n"
        f"      api_base: http://127.0.0.1:{stub}/v1\n      api_key: none\n"
        f"general_settings:\n  master_key: {KEY}\nlitellm_settings:\n  telemetry: false\n"
    )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litellm", type=Path, help="its command; left out: not measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as running:
        result = measure(options, Path(name), running)
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def measure(options: argparse.Namespace, folder: Path, running: contextlib.ExitStack) -> dict[str, Any]:
    stub = free_port()
    uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "--no-access-log", "--log-level", "warning"]
    start = [*uvicorn, "gateway_apps:stub", "--port", str(stub)]
    running.enter_context(process("stub", start, stub, "/v1/models", folder))
    os.environ["STUB"] = f"http://127.0.0.1:{stub}"
    ports = {"bare": free_port(), "nacre": free_port()}
    starts = {
        "bare": [*uvicorn, "gateway_apps:bare", "--port", str(ports["bare"])],
        "nacre": [sys.executable, str(HERE / "gateway_nacre.py"), str(ports["nacre"]), KEY, str(folder)],
    }
    if options.litellm:
        ports["litellm"] = free_port()
        config = str(litellm_config(folder, stub))
        starts["litellm"] = [str(options.litellm), "--config", config, "--port", str(ports["litellm"])]
    servers = {
        name: running.enter_context(process(name, start, ports[name], "/v1/models", folder))
        for name, start in starts.items()
    }
    ports["stub"] = stub
    rows: dict[str, Any] = {}
    for case in CASES:
        for clients in options.clients:
            rows[f"{case} c{clients}"] = compared(options, folder, (servers, ports), case, clients)
    rss = {name: round(server.memory_info().rss / 2**20) for name, server in servers.items()}
    return {"load": os.getloadavg(), "rounds": options.rounds, "rss_mib": rss, "cases": rows}


def compared(
    options: argparse.Namespace,
    folder: Path,
    running: tuple[dict[str, psutil.Process], dict[str, int]],
    case: str,
    clients: int,
) -> dict[str, Any]:
    """Medians over interleaved rounds, and what nacre reaches of the others."""
    servers, ports = running
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ports}
    for place in range(options.rounds + 1):
        for name, port in ports.items():
            before = cpu_s(servers[name]) if name in servers else 0.0
            found = wrk(port, case, "bot", clients, options.seconds if place else 1.0, folder)
            if name in servers:
                found["cpu_ms"] = (cpu_s(servers[name]) - before) / max(found["requests"], 1) * 1000
            if place:  # the first round warms up
                rounds[name].append(found)
    medians = {
        name: {key: round(statistics.median(one[key] for one in rows), 4) for key in rows[0]}
        for name, rows in rounds.items()
    }
    told: dict[str, Any] = dict(medians)
    for name in servers:
        if name != "nacre":
            told[f"nacre/{name}"] = {
                "per_s": round(
                    statistics.median(
                        ours["per_s"] / theirs["per_s"]
                        for ours, theirs in zip(rounds["nacre"], rounds[name], strict=True)
                    ),
                    3,
                ),
                "by_cpu": round(medians[name]["cpu_ms"] / medians["nacre"]["cpu_ms"], 3),
            }
    told["added p50 ms"] = round(medians["nacre"]["p50_ms"] - medians["stub"]["p50_ms"], 3)
    return told


if __name__ == "__main__":
    main()
