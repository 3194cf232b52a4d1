"""The loss curve as a picture."""

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

mpl.use("Agg")  # files only: no window system is needed


def plot_loss(log: Path, picture: Path) -> None:
    """Draw the loss of every logged step in `trainer_log.jsonl` into a PNG."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([entry["step"] for entry in entries], [entry["loss"] for entry in entries], marker=".", color="#2a6f97")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)
