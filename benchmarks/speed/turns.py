"""One optimizer step at a time: a trainer waits for its turn, makes a step, and says what it cost.

Used by every contestant in its own process, nacre's and LlamaFactory's environments alike, so it imports nothing but
transformers. A turn is a line on standard input; an answer is one JSON line on the file that `TURNS` names.
"""

import json
import os
import resource
import sys
import time

from transformers import TrainerCallback
from transformers import trainer as trainers


def resident_mb() -> float:
    """Main memory in use now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def peak_mb() -> float:
    """The most there was since this program began; `ru_maxrss` would begin with what had started it."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2**10


class Turns(TrainerCallback):
    """Measures from the end of one step to the end of the next: whatever the loop does between is part of it."""

    def __init__(self) -> None:
        self.answers = os.fdopen(int(os.environ["TURNS"]), "w")
        self.losses: list[float] = []

    def on_train_begin(self, args, state, control, **_):
        self.loaded_mb = resident_mb()
        self._wait()

    def on_step_end(self, args, state, control, **_):
        self.cpu_s, self.wall_s = time.process_time() - self.cpu, time.perf_counter() - self.wall
        control.should_log = True

    def on_log(self, args, state, control, logs=None, **_):
        if "loss" not in (logs or {}):
            return
        found = {"step": state.global_step, "cpu_s": self.cpu_s, "wall_s": self.wall_s, "loss": logs["loss"]}
        print(json.dumps(found | {"peak_mb": peak_mb(), "loaded_mb": self.loaded_mb}), file=self.answers, flush=True)
        self._wait()

    def _wait(self) -> None:
        if not sys.stdin.readline().strip():
            os._exit(0)  # nobody wants another step
        self.cpu, self.wall = time.process_time(), time.perf_counter()


def take_turns() -> None:
    """Every Trainer made from here on takes turns."""
    trainers.DEFAULT_CALLBACKS.append(Turns())
