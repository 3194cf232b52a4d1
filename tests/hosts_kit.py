"""Two hosts for a test: network namespaces of this machine that see each other over one cable, and nothing else."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

NACRE = str(Path(sys.executable).with_name("nacre"))
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Host:
    """A namespace with one network card."""

    name: str
    card: str
    address: str

    def start(self, *words: str, cwd: Path, **variables: str) -> "subprocess.Popen[str]":
        """`nacre WORDS` on this host."""
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | variables
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, NACRE, *words],
            cwd=cwd,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def cable(self, *, plugged: bool) -> None:
        """Pull the cable, or put it back: nobody at the other end is told."""
        _ip("-n", self.name, "link", "set", self.card, "up" if plugged else "down")


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two fresh hosts; whatever runs on them at the end is killed."""
    if shutil.which("ip") is None:
        pytest.skip("there is no program ip, which makes network namespaces")
    number = next(_NUMBERS)
    tag = f"{os.getpid():x}{number}"
    made = [Host(f"nacre-{tag}-{place}", f"nc{tag}{place}", f"10.213.77.{place + 1}") for place in (0, 1)]
    try:
        for host in made:
            if said := _refusal("netns", "add", host.name) or _refusal("netns", "exec", host.name, "true"):
                pytest.skip(f"no network namespaces can be made here: {said}")
        one, other = made
        if said := _refusal("link", "add", one.card, "netns", one.name, "type", "veth", "peer", "name", other.card):
            pytest.skip(f"no virtual network cards can be made here: {said}")
        _ip("link", "set", other.card, "netns", other.name)
        for host in made:
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.card)
            _ip("-n", host.name, "link", "set", "lo", "up")
            host.cable(plugged=True)
        yield one, other
    finally:
        for host in made:
            _remove(host)


def _remove(host: Host) -> None:
    """End what runs there, and take it down."""
    listed = subprocess.run(["ip", "netns", "pids", host.name], capture_output=True, text=True, check=False)
    for process in listed.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", host.name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, check=True)


def _refusal(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    return (done.stderr.strip() or "no reason given") if done.returncode else ""
