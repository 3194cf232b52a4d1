"""A group of processes started through torchrun: on this machine, or this machine's part of one over several."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from nacre.train.launch import NO_FOLDER, Launch

GRACE_s = 40  # torchrun gives its workers 30 s to end


def run(launch: Launch, folder: Path | None, log: Path) -> int:
    """Start torchrun and wait for it; whatever happens here, nothing of it is left running.

    Args:
        launch: the group.
        folder: where the job lies; None on machines that are told by machine 0.
        log: is given torchrun's own words; the workers leave their last ones beside it.

    Returns:
        Its exit code.
    """
    words = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", str(launch.nodes), "--node-rank", str(launch.node)),
        *("--nproc-per-node", str(launch.processes)),
        *("--master-addr", launch.address, "--master-port", str(launch.port or _free_port())),
        *("--rdzv-id", f"attempt-{launch.attempt}", "--rdzv-conf", f"timeout={launch.wait_s}"),
        *("-m", "nacre.train.worker", str(folder or NO_FOLDER), str(os.getpid()), str(log.parent.resolve())),
    ]
    threads = max(1, (os.cpu_count() or 1) // launch.processes)
    joined = {"GLOO_SOCKET_IFNAME": found} if launch.nodes > 1 and (found := _interface(launch)) else {}
    with log.open("wb") as file:
        group = subprocess.Popen(
            words,
            stdin=2,  # nothing is read; it is the way for the bar of process 0 to the terminal
            stdout=file,
            stderr=file,
            # the warning that is kept quiet: DDP looks for unused parameters, and finds none in most models
            env={"OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": "ERROR", **joined, **os.environ},
            start_new_session=True,  # Ctrl-C is for this process, which ends the group
        )
        try:
            return group.wait()
        finally:
            _end(group)


def alive(process: int) -> bool:
    """Whether a process of this machine still runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end(group: "subprocess.Popen[bytes]") -> None:
    if group.poll() is not None:
        return
    group.terminate()
    try:
        group.wait(GRACE_s)
    except subprocess.TimeoutExpired:
        os.killpg(group.pid, signal.SIGKILL)
        group.wait()


def _interface(launch: Launch) -> str | None:
    """The network by which machine 0 is reached: gloo would take the one that this machine's own name leads to."""
    try:
        kind, *_, address = socket.getaddrinfo(launch.address, launch.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            own = probe.getsockname()[0]
    except OSError:
        return None  # torchrun says what is wrong with the address
    return next((name for name, every in psutil.net_if_addrs().items() if own in {one.address for one in every}), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
