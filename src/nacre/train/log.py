"""The log of a run as files: the trainer's own entries, with LlamaFactory's names beside them."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from nacre.base.files import atomic_write

LOG, STATE = "trainer_log.jsonl", "trainer_state.json"
_ELAPSED = "elapsed_s"
DRIFT = "drift_kl"  # nats per answer token on new rows, see drift.py


class Clock(TrainerCallback):
    """Writes into each entry of the log how long the run has trained, in seconds and in passes over the new rows.

    The trainer knows of one pass over the whole schedule, and of the time since it was last taken up. Here all parts of
    a run that was killed count, in its summary too.
    """

    def __init__(self, passes: float = 1.0) -> None:
        """`passes` over the new rows is what the schedule holds."""
        self._passes = passes
        self._begun = time.perf_counter()
        self._before = 0.0
        self._done, self._mean = 0, 0.0  # steps of the parts before, and the mean of their loss

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._begun = time.perf_counter()
        self._before = max((entry.get(_ELAPSED, 0.0) for entry in state.log_history), default=0.0)
        self._done, self._mean = _mean_so_far(state.log_history, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Log what a checkpoint would forget: the loss of the steps since the last entry."""
        if control.should_save and state.global_step < state.max_steps:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not state.log_history:
            return
        entry = state.log_history[-1]
        changed: dict[str, Any] = {}
        if entry.get("epoch") is not None:
            changed["epoch"] = round(state.epoch * self._passes, 4)
        if "train_runtime" in entry:
            rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            changed |= self._summary(entry, state.global_step, rows)
        entry.update(changed)
        entry[_ELAPSED] = round(self._before + time.perf_counter() - self._begun, 3)
        if logs is not None:
            logs.update(changed)  # for those who are told after this one

    def _summary(self, entry: Mapping[str, Any], steps: int, rows: int) -> dict[str, float]:
        """What the trainer says of its own part, said of all of the run; `rows` are those of one step."""
        if not self._done:
            return {}
        runtime = max(self._before + float(entry["train_runtime"]), 1e-3)
        total = self._mean * self._done + float(entry["train_loss"]) * (steps - self._done)
        return {
            "train_loss": total / steps,
            "train_runtime": round(runtime, 4),
            "train_samples_per_second": round(steps * rows / runtime, 3),
            "train_steps_per_second": round(steps / runtime, 3),
        }


def _mean_so_far(history: Sequence[Mapping[str, Any]], steps: int) -> tuple[int, float]:
    """(steps made, mean of their loss); (0, 0.0) where no loss was logged.

    Each entry is the mean of the steps since the one before; those after the last are taken to be like the others.
    """
    logged = [(int(entry["step"]), float(entry["loss"])) for entry in history if "loss" in entry]
    if not logged:
        return 0, 0.0
    total = sum(loss * (step - before) for (before, _), (step, loss) in pairwise([(0, 0.0), *logged]))
    return steps, total / logged[-1][0]


class LiveLog(TrainerCallback):
    """Writes each entry into the work folder's `trainer_log.jsonl` as it comes, for those who look on."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start with what a run that was killed had logged by its checkpoint."""
        if state.is_world_process_zero:
            atomic_write(self._path, "".join(self._line(entry, state) for entry in state.log_history))

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Add the newest entry; where the disk is full, the log ends with the one before."""
        if not (state.is_world_process_zero and state.log_history):
            return
        whole = self._path.stat().st_size
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(self._line(state.log_history[-1], state))
        except OSError:
            os.truncate(self._path, whole)
            raise

    def _line(self, entry: Mapping[str, Any], state: Any) -> str:
        return json.dumps({**entry, **_llamafactory(entry, int(state.max_steps))}) + "\n"


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The entries of a folder's log; empty where there is none. A line that is being written is left out.

    A number that is none (the norm of a gradient that overflowed) is None: JSON has no other word for it.
    """
    try:
        whole = (folder / LOG).read_text(encoding="utf-8").rpartition("\n")[0]
    except FileNotFoundError:
        return []
    return [_finite(json.loads(line)) for line in whole.splitlines()]


def runs_under_way(folder: Path) -> list[dict[str, Any]]:
    """Trainings that are not finished, the one that wrote last first.

    Each has `run`, `points` (the entries of its log) and `silent_s`, the seconds since it wrote: a run that was killed
    is silent for good, until the same command takes it up again.
    """
    found = []
    for path in folder.glob(f"*/{LOG}"):
        try:
            wrote = path.stat().st_mtime
        except FileNotFoundError:  # it ended just now, and its folder is a version's or gone
            continue
        found.append((wrote, path.parent.name, read_log(path.parent)))
    return [
        {"run": run, "silent_s": round(max(0.0, time.time() - wrote), 1), "points": points}
        for wrote, run, points in sorted(found, key=lambda one: one[0], reverse=True)
    ]


def _finite(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in entry.items()
    }


def write_log(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """`trainer_log.jsonl`, a line for everything that was logged; and `trainer_state.json`, all of the log.

    The drift, known when the run is over, stands in the last line and in the summary.
    """
    steps = [dict(entry) for entry in history if "train_runtime" not in entry]  # which is the summary
    if steps and DRIFT in history[-1]:
        steps[-1][DRIFT] = history[-1][DRIFT]
    total = max((int(entry["step"]) for entry in history), default=0)
    lines = "".join(f"{json.dumps({**entry, **_llamafactory(entry, total)})}\n" for entry in steps)
    (folder / LOG).write_text(lines, encoding="utf-8")
    epoch = history[-1].get("epoch") if history else None
    state = {"global_step": total, "max_steps": total, "epoch": epoch, "log_history": list(history)}
    (folder / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")


def write_results(folder: Path, steps: int, seconds: float, final_loss: float) -> None:
    """`all_results.json` and `train_results.json`: the trainer's summary; `train_loss` is the mean over all steps."""
    history = json.loads((folder / STATE).read_text(encoding="utf-8"))["log_history"]
    found: dict[str, Any] = {}
    for entry in history:
        found |= {name: value for name, value in entry.items() if name.startswith(("train_", "total_", "epoch", DRIFT))}
    found = {"train_loss": final_loss, "train_runtime": seconds, **found, "steps": steps, "final_loss": final_loss}
    looked = {name: value for entry in history for name, value in entry.items() if name.startswith("eval")}
    for name, results in (("train_results.json", found), ("all_results.json", found | looked)):
        (folder / name).write_text(json.dumps(results, indent=1), encoding="utf-8")


def _llamafactory(entry: Mapping[str, Any], total: int) -> dict[str, Any]:
    """The names that LlamaFactory's log and its readers use."""
    step, elapsed_s = int(entry["step"]), float(entry.get(_ELAPSED, 0.0))
    left_s = elapsed_s / step * (total - step) if step else 0.0
    rate = {"lr": entry["learning_rate"]} if "learning_rate" in entry else {}
    return rate | {
        "current_steps": step,
        "total_steps": total,
        "percentage": round(100 * step / total, 2) if total else 100.0,
        "elapsed_time": _clock(elapsed_s),
        "remaining_time": _clock(left_s),
    }


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
