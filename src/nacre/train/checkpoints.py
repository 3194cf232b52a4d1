"""Checkpoints that say they are whole, and finding the newest one that is."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from nacre.base.files import atomic_write

MARKER = "nacre-checkpoint.json"


class MarkWhole(TrainerCallback):
    """After everything of a checkpoint is written, list its files and sizes: a torn one has no such list."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer when weights, optimizer, scheduler and random state are on the disk."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            sizes = {
                path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()
            }
            sizes.pop(MARKER, None)
            atomic_write(folder / MARKER, json.dumps(sizes, indent=1))


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
