"""The loss curves as pictures."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from nacre.train.log import LOG

mpl.use("Agg")  # files only: no window system is needed
COLOURS = ("#2a6f97", "#d1495b", "#66a182", "#8d6a9f")


def plot_losses(folder: Path) -> None:
    """Draw `training_loss.png` from the log in `folder`, and `training_eval_loss.png` where rows were held out."""
    plot_loss(folder / LOG, folder / "training_loss.png")
    held_out = [name for name in _curves(folder / LOG) if name != "loss"]
    if held_out:
        _draw({name: _curves(folder / LOG)[name] for name in held_out}, folder / "training_eval_loss.png")


def plot_loss(log: Path, picture: Path) -> None:
    """Draw the loss of every logged step in `trainer_log.jsonl`, and that of held-out rows, into a PNG."""
    _draw(_curves(log), picture)


def _curves(log: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, loss) by the name of the curve: `loss`, and those of held-out rows."""
    found: dict[str, list[tuple[int, float]]] = {"loss": []}
    for line in log.read_text(encoding="utf-8").splitlines():
        entry: dict[str, Any] = json.loads(line)
        for name, value in entry.items():
            if name == "loss" or (name.startswith("eval") and name.endswith("_loss")):
                found.setdefault(name, []).append((entry["step"], value))
    return found


def _draw(curves: dict[str, list[tuple[int, float]]], picture: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for colour, (name, points) in zip(COLOURS, curves.items(), strict=False):
        label = "training loss" if name == "loss" else name.removesuffix("_loss").replace("_", " ") + " loss"
        axes.plot([step for step, _ in points], [loss for _, loss in points], marker=".", color=colour, label=label)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("training loss" if "loss" in curves else "loss on held-out rows")
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend()
    figure.savefig(picture, dpi=120)
