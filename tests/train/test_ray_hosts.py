"""`--launch ray` on two hosts: a Ray of network namespaces, one worker on each, and the loss of one process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from lost_kit import Yard, until, yard

from hosts_kit import Host, hosts

__all__ = ["hosts", "yard"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make install-ray"),
]

PORT = 6379
STORE_BYTES = 80_000_000  # Ray would take a third of the memory for objects
# a cable that nobody else is at, and a Ray that neither asks for a token of the user's nor reports to its makers
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


def _ray(host: Host, *words: str) -> None:
    """`ray start` on a host, which leaves Ray running there; its output goes nowhere, for Ray holds on to it."""
    inside = ["ip", "netns", "exec", host.name, str(Path(sys.executable).with_name("ray")), "start", *words]
    more = ["--node-ip-address", host.address, "--num-cpus", "1", "--object-store-memory", str(STORE_BYTES)]
    # gloo goes by the machine's name otherwise, and both hosts have the same one
    environment = os.environ | QUIET | {"GLOO_SOCKET_IFNAME": host.card}
    subprocess.run(
        [*inside, *more], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=300
    )


def _processes(host: Host, named: str = "") -> list[int]:
    """What runs on a host, all of it or what has this in its command line."""
    listed = subprocess.run(["ip", "netns", "pids", host.name], capture_output=True, text=True, check=True)
    found = []
    for process in map(int, listed.stdout.split()):
        with suppress(OSError):
            if named.encode() in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
    return found


@pytest.fixture
def cluster(hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray of both hosts; whatever happens, nothing of it is left."""
    folder = tempfile.mkdtemp(prefix="nacre", dir="/tmp")  # short: Ray puts sockets below it
    address = f"{hosts[0].address}:{PORT}"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    try:
        _ray(hosts[0], "--head", "--port", str(PORT), "--include-dashboard=false", "--temp-dir", folder)
        _ray(hosts[1], "--address", address)
        yield address
    finally:
        for host in hosts:
            for process in _processes(host):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        until(lambda: not any(_processes(host) for host in hosts), 60)
        shutil.rmtree(folder, ignore_errors=True)


def test_two_hosts_of_a_ray_cluster_train_to_the_loss_of_one_process(yard: Yard, hosts: tuple[Host, Host], cluster):
    words = yard.words("--launch", "ray", "--nodes", "2", "--processes", "1", batch=4)
    running = hosts[0].start(*words, cwd=yard.root, RAY_ADDRESS=cluster, **QUIET)
    yard.until_saved([running])
    assert [len(_processes(host, "RayTrainWorker")) for host in hosts] == [1, 1]
    out, said = running.communicate()
    assert running.returncode == 0, said
    found, alone = json.loads(out), yard.alone()
    assert found["steps"] == alone["steps"]
    assert found["final_loss"] == pytest.approx(alone["final_loss"], abs=1e-4)
    assert not any("began again" in note for note in found["notes"]), found["notes"]
    until(lambda: not any(_processes(host, "RayTrainWorker") for host in hosts))  # the cluster stays, the workers go
