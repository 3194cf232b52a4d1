"""Checkpoints that say they are whole and whose they are, and finding the newest one that can be resumed."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from nacre.base.errors import InputError
from nacre.base.files import atomic_write, disk_errors, fsync_folder
from nacre.train import processes
from nacre.train.job import MARKER

RUN = "nacre-run.txt"
STATE = "nacre-protections.safetensors"


class Stateful(Protocol):
    """What gathers something while training that a resumed run must have: protections, the budget's controller."""

    @property
    def name(self) -> str:
        """Tells its tensors from those of others."""

    def state(self) -> dict[str, torch.Tensor]:
        """What it has gathered."""

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on with it."""


class MarkWhole(TrainerCallback):
    """After everything of a checkpoint is written, list its files and sizes: a torn one has no such list."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer when weights, optimizer, scheduler and random state are on the disk."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        processes.barrier()  # each process writes a part
        if not state.is_world_process_zero or not folder.is_dir():
            return
        sizes = {}
        for path in folder.rglob("*"):
            if path.is_dir():
                fsync_folder(path)
            elif path != folder / MARKER:
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
                    sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
        atomic_write(folder / MARKER, json.dumps(sizes, indent=1))


class KeepState(TrainerCallback):
    """Writes what the protections have gathered beside each checkpoint; must come before `MarkWhole`."""

    def __init__(self, protections: Sequence[Stateful]) -> None:
        self.protections = protections

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer when the checkpoint's own files are on the disk."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        gathered = {
            f"{one.name}/{key}": tensor.contiguous() for one in self.protections for key, tensor in one.state().items()
        }
        if gathered and state.is_world_process_zero:
            save_file(gathered, folder / STATE)


def restore_state(protections: Sequence[Stateful], checkpoint: Path) -> None:
    """Give each protection what it had gathered when `checkpoint` was written."""
    if not (checkpoint / STATE).exists():
        return
    gathered = load_file(checkpoint / STATE)
    for one in protections:
        start = f"{one.name}/"
        one.restore({key.removeprefix(start): tensor for key, tensor in gathered.items() if key.startswith(start)})


def claim(folder: Path, key: str) -> list[str]:
    """Make `folder` the work folder of the run that `key` identifies; another run's checkpoints are deleted and named.

    Raises:
        NacreError: the disk is full or cannot be written.
    """
    removed = []
    if not (folder / RUN).exists() or (folder / RUN).read_text() != key:
        removed = sorted(path.name for path in folder.glob("checkpoint-*"))
        with disk_errors(folder):
            for name in removed:
                shutil.rmtree(folder / name)
        atomic_write(folder / RUN, key)
    return [f"removed {', '.join(removed)}: of other data or settings"] if removed else []


@contextmanager
def disk_errors_of_weights(where: Path) -> Iterator[None]:
    """`disk_errors`, for safetensors' and torch's writers too, which report a full disk in words of their own."""
    with disk_errors(where):
        try:
            yield
        except SafetensorError as error:
            code = re.search(r"\(os error (\d+)\)", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), str(error), str(where)) from error
        except RuntimeError as error:
            # torch does not say what the system said; its writer stops where a write was cut short
            if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
                raise
            raise OSError(errno.ENOSPC, str(error), str(where)) from error


def newest_valid(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint below `folder`, and a sentence for each newer one that is torn."""
    torn: list[str] = []
    steps = {
        int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()
    }
    for step in sorted(steps, reverse=True):
        fault = _fault(steps[step])
        if fault is None:
            return steps[step], torn
        torn.append(f"skipped {steps[step].name}: {fault}")
    return None, torn


def check_writers(checkpoint: Path, sharding: str) -> list[str]:
    """Whether these processes can go on from what others wrote; a sentence where they are more or fewer.

    Weights, optimizer and the order of the rows do not depend on how many there are. What torch wrote in parts it
    deals out anew; DeepSpeed does not.

    Raises:
        InputError: they cannot.
    """
    before, now = len(list(checkpoint.glob("rng_state*.pth"))), processes.world()
    if before == now:
        return []
    if sharding.startswith("zero"):
        whose = f"{checkpoint.name} was written by {before} processes, each its part"
        raise InputError(
            f"{whose}; {sharding} cannot deal it out to {now}",
            where=str(checkpoint),
            fix=f"train in {before} processes; or delete {checkpoint.parent} to begin anew",
        )
    return [f"{checkpoint.name} was written by {before} processes: what is drawn by chance, as dropout is, differs"]


def remove_torn(folder: Path) -> None:
    """Delete checkpoints that cannot be resumed, so that the trainer may write them again."""
    for path in folder.glob("checkpoint-*"):
        if _fault(path) is not None:
            shutil.rmtree(path)


def _fault(checkpoint: Path) -> str | None:
    try:
        sizes = json.loads((checkpoint / MARKER).read_text())
    except (OSError, ValueError):
        return "it was not finished (no list of its files)"
    for name, size in sizes.items():
        path = checkpoint / name
        if not path.exists():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} of {size} bytes"
    return None
