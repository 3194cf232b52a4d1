"""Leases of running servers, and the collector that meets them in the middle."""

import fcntl
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mirror_kit import make_space
from nacre.cycle.versions import collect as collecting
from nacre.registry import leases

OLD_S = time.time() - 90 * 86_400


def test_a_lease_that_is_just_being_made_is_nobodys_leftover(tmp_path: Path) -> None:
    young = tmp_path / f"{os.uname().nodename}-x.json"  # made, and not locked yet
    young.touch()
    assert leases.held(tmp_path) == ([], [])
    os.utime(young, (OLD_S, OLD_S))
    assert leases.held(tmp_path) == ([], [young])


def test_a_lease_that_was_taken_since_it_was_looked_at_is_not_deleted(tmp_path: Path) -> None:
    lease = leases.Lease(tmp_path)
    lease.hold([3])
    path = next(tmp_path.iterdir())
    leases.discard(path)
    assert leases.held(tmp_path)[0][0].versions == (3,)
    far = tmp_path / "elsewhere-1.json"
    far.write_bytes(path.read_bytes())
    leases.discard(far)
    assert far.exists(), "its server has beaten again"
    os.utime(far, (OLD_S, OLD_S))
    leases.discard(far)
    leases.discard(far)
    assert not far.exists()
    lease.close()


def test_a_server_that_starts_while_the_collector_runs_keeps_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes from making the file to locking it, and whoever is first."""
    real, made, go = fcntl.flock, threading.Event(), threading.Event()

    def slow(file: Any, how: int) -> None:
        if threading.current_thread().name == "server" and how == fcntl.LOCK_EX and not go.is_set():
            made.set()
            assert go.wait(30)
        real(file, how)

    def make(folder: Path, box: list[leases.Lease]) -> None:
        box.append(leases.Lease(folder))

    monkeypatch.setattr(fcntl, "flock", slow)
    monkeypatch.setattr(leases, "JUST_MADE_S", 0.0)
    with make_space(tmp_path) as space:
        for first in ("server", "collector"):
            made.clear()
            go.clear()
            box: list[leases.Lease] = []
            server = threading.Thread(target=make, args=(space.serving, box), name="server")
            server.start()
            assert made.wait(30)
            planned = [item for item, _ in collecting._leftovers(space) if item.path.parent == space.serving]
            assert len(planned) == 1
            if first == "server":
                go.set()
                server.join()
            for item in planned:
                collecting._delete(space, item)
            go.set()
            server.join()
            box[0].hold([4])
            assert [one.versions for one in leases.held(space.serving)[0]] == [(4,)]
            box[0].close()
