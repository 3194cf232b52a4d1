"""Killed, locked out, out of disk: nothing is lost, nothing half-written, and the next command goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from nacre.base.files import file_lock
from workspace_kit import SETTINGS, Place, assert_clear, start, write_increment

if TYPE_CHECKING:
    from toy_kit import Toy

# `nacre WORDS`, except that the last write of a promotion never returns: the transaction is open when it is killed
STUCK_IN_PROMOTION = """
import sys, time, pathlib
from nacre.registry import slots
written = slots._move
def stuck(*given):
    written(*given)
    pathlib.Path("stuck").touch()
    time.sleep(120)
slots._move = stuck
from nacre.cli import app, run
run(app, sys.argv[1:])
"""


def kill_when(process: subprocess.Popen[str], ready: Callable[[], bool], limit_s: float = 120) -> None:
    """kill -9 as soon as `ready`; the process must not have ended before."""
    deadline = time.monotonic() + limit_s
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it took too long to get there"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_training_that_was_killed_goes_on_where_it_was(lived_in: Place) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    lived_in.settings(train={"epochs": 12, "save_steps": 5})
    runs = lived_in.root / ".nacre" / "runs"
    killed = start("evolve", "increment_2", cwd=lived_in.root)
    kill_when(killed, lambda: any(runs.glob("*/checkpoint-*/nacre-checkpoint.json")))
    assert len(lived_in.json("versions", "list")["versions"]) == 2
    assert lived_in.json("verify")["faults"] == []

    found = lived_in.json("evolve", "increment_2")
    assert (found["version"], found["verdict"], found["promoted"]) == (3, "pass", True)
    assert any(note.startswith("resumed from checkpoint-") for note in found["notes"]["training"]), found["notes"]
    assert not list(runs.glob("*"))


@pytest.mark.slow
def test_a_promotion_that_was_killed_never_happened_and_is_made_up_for(lived_in: Place) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    words = [sys.executable, "-c", STUCK_IN_PROMOTION, "evolve", "increment_2"]
    killed = subprocess.Popen(words, cwd=lived_in.root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    kill_when(killed, (lived_in.root / "stuck").exists)
    assert lived_in.champion() == 2
    assert lived_in.json("verify")["faults"] == []

    found = lived_in.json("evolve", "increment_2")
    assert (found["version"], found["trained"], found["promoted"]) == (3, False, True)
    assert lived_in.champion() == 3


def test_two_runs_in_one_workspace_do_not_meet(fresh: Place) -> None:
    with file_lock(fresh.root / ".nacre" / "evolve.lock"):
        assert_clear(fresh.nacre("evolve", "base"), "another nacre command is at work here", code=1)
    assert fresh.nacre("versions", "list").code == 0


@pytest.mark.slow
def test_a_full_disk_ends_with_one_error_and_nothing_half_written(fresh: Place) -> None:
    hidden = fresh.root / ".nacre"
    hidden.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(hidden)]
    if subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        fresh.settings(train=SETTINGS["train"] | {"save_steps": 1}, tune={"name": "lora", "rank": 64})
        (hidden / "filler").write_bytes(b"x" * 2_300_000)
        assert_clear(fresh.nacre("evolve", "base"), "the disk is full", "free some space", code=1)
        (hidden / "filler").unlink()
        assert fresh.json("versions", "list")["versions"] == []
        assert not [path for path in (hidden / "artifacts").glob("*") if not path.name.startswith(".lock")]
        subprocess.run(["mount", "-o", "remount,size=200m", str(hidden)], check=True)
        found = fresh.json("evolve", "base")
        assert (found["version"], found["promoted"]) == (1, True)
        assert fresh.json("verify")["faults"] == []
    finally:
        subprocess.run(["umount", str(hidden)], check=True)


def test_an_output_folder_is_replaced_whole_or_not_at_all(fresh: Place, toy: "Toy") -> None:
    out = fresh.root / "out"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(out)], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    words = ("train", "dataset=base", "output_dir=out/a", f"model_name_or_path={toy.base.model}", "--max_steps", "2")
    try:
        assert fresh.nacre(*words, "--finetuning_type", "full").code == 0
        before = {path.name: path.read_bytes() for path in (out / "a").iterdir()}
        free = os.statvfs(out).f_bavail * os.statvfs(out).f_frsize
        (out / "filler").write_bytes(b"x" * (free - 50_000))
        full = fresh.nacre(*words, "--finetuning_type", "full", "--seed", "7", "--overwrite_output_dir")
        assert_clear(full, "the disk is full", code=1)
        assert {path.name: path.read_bytes() for path in (out / "a").iterdir()} == before
    finally:
        subprocess.run(["umount", str(out)], check=True)
