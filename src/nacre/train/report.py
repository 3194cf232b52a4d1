"""Where people look at a run's curves: TensorBoard, MLflow, Weights & Biases, through transformers' own callbacks.

They are written to while training and never read. MLflow and W&B take their addresses from their own environment
variables (MLFLOW_TRACKING_URI, WANDB_MODE …); where none says otherwise, MLflow writes beside the checkpoints.
"""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations import MLflowCallback, TensorBoardCallback, WandbCallback

from nacre.base.errors import InputError

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}


def check_reports(names: Sequence[str]) -> None:
    """Whether all that is asked for is installed: before training, not at its first step.

    Raises:
        InputError: a package is missing; names the extra that brings it.
    """
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise InputError(
                f"{PACKAGES[name]} is not installed",
                where=f"train.report_to: {name}",
                fix=f"pip install 'nacre[{name}]', or take {name} out of report_to",
            )


def reporters(names: Sequence[str], folder: Path) -> tuple[list[TrainerCallback], list[str]]:
    """A callback for each name, and a sentence that says where its curves are.

    Args:
        names: tensorboard, mlflow, wandb.
        folder: for files, where the tool has no address of its own.
    """
    made: list[TrainerCallback] = []
    notes = []
    for name in names:
        callback, where = _MAKE[name](folder)
        made.append(callback)
        notes.append(f"curves: {where}")
    return made, notes


def _tensorboard(folder: Path) -> tuple[TrainerCallback, str]:
    callback = TensorBoardCallback()
    callback.logging_dir = str(folder)
    return callback, f"tensorboard --logdir {folder.parent}"


def _mlflow(folder: Path) -> tuple[TrainerCallback, str]:
    store = folder.parent / "mlruns"
    if "MLFLOW_TRACKING_URI" not in os.environ:
        store.mkdir(parents=True, exist_ok=True)
        os.environ["MLFLOW_TRACKING_URI"] = store.resolve().as_uri()
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs more than the slim client
        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", "nacre")
    return MLflowCallback(), f"MLflow at {os.environ['MLFLOW_TRACKING_URI']}"


def _wandb(folder: Path) -> tuple[TrainerCallback, str]:
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_DIR", str(folder))
    return WandbCallback(), f"Weights & Biases, {os.environ.get('WANDB_MODE', 'online')}, files in {folder}"


_MAKE = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
