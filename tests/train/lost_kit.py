"""Trainings from the command line that lose a worker: their commands, their checkpoints, and which process is which."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nacre.train.job import MARKER
from toy_kit import Toy
from workspace_kit import Place, write_increment

TAG = "NACRE_TEST_TAG"  # tells the processes of one test from those of others
STEPS, EACH = 80, 10  # long enough that a process is killed before the end


@dataclass(frozen=True)
class Yard:
    """A folder with a dataset and a model to train on it, by `nacre train`."""

    root: Path
    model: str

    def words(self, *more: str, batch: int = 8, out: str = "out") -> list[str]:
        """The arguments of a training; `batch` rows in a step for each process."""
        settings = {
            "model_name_or_path": self.model,
            "dataset": "feed",
            "dataset_dir": "dataset",
            "output_dir": out,
            "per_device_train_batch_size": batch,
            "max_steps": STEPS,
            "save_steps": EACH,
            "learning_rate": 1e-3,
            "cutoff_len": 64,
        }
        return ["train", *(f"{key}={value}" for key, value in settings.items()), "--json", *more]

    def alone(self, *more: str) -> dict[str, Any]:
        """What one process makes of the same, into a folder of its own."""
        done = Place(self.root).nacre(*self.words(*more, out="alone/out"))
        assert done.code == 0, done.err
        return json.loads(done.out)

    def checkpoints(self) -> list[Path]:
        """Those that are whole, oldest first."""
        found = (path.parent for path in self.root.glob(f".nacre/runs/*/checkpoint-*/{MARKER}"))
        return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))

    def until_saved(self, running: Sequence["subprocess.Popen[str]"], within_s: float = 900) -> None:
        """Wait for the first whole checkpoint."""

        def saved() -> bool:
            for process in running:
                if process.poll() is not None:
                    raise AssertionError(process.communicate())
            return bool(self.checkpoints())

        until(saved, within_s)


@pytest.fixture
def yard(toy: Toy, tmp_path: Path) -> Yard:
    """A dataset of the toy's words beside nothing else."""
    write_increment(tmp_path / "dataset", "feed", "feed", dev=8)
    return Yard(tmp_path, toy.base.model)


def until(true: Callable[[], bool], within_s: float = 900) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)


def workers(tag: str) -> dict[int, int]:
    """Process ids by rank: torchrun's workers among the processes that were started with this tag."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes()
            variables = (folder / "environ").read_bytes().split(b"\0")
            if b"nacre.train.worker" in words and b"torch.distributed.run" not in words:
                named = dict(one.split(b"=", 1) for one in variables if b"=" in one)
                if named.get(TAG.encode()) == tag.encode():
                    found[int(named[b"RANK"])] = int(folder.name)
    return found


def kill(process: int) -> None:
    """As the system does when memory is short."""
    os.kill(process, signal.SIGKILL)
