"""Where people look at a run's curves: TensorBoard, MLflow, Weights & Biases, through transformers' own callbacks.

They are written to while training and never read. MLflow and W&B take their addresses from their own environment
variables (MLFLOW_TRACKING_URI, WANDB_MODE …); where none says otherwise, MLflow writes beside the checkpoints.
"""

import configparser
import importlib.util
import netrc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations import MLflowCallback, TensorBoardCallback, WandbCallback

from nacre.base.addresses import netloc
from nacre.base.errors import InputError
from nacre.train import processes

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
SILENT_MODES = ("offline", "dryrun", "disabled")  # in which W&B sends nothing, and so asks for no login
WANDB_HOST = "api.wandb.ai"  # under which logins are kept


def check_reports(names: Sequence[str]) -> None:
    """Whether all that is asked for is installed, and knows who is asking: before training, not at its first step.

    Raises:
        InputError: a package is missing, names the extra that brings it; or W&B has no login.
    """
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise InputError(
                f"{PACKAGES[name]} is not installed",
                where=f"train.report_to: {name}",
                fix=f"pip install 'nacre[{name}]', or take {name} out of report_to",
            )
    if "wandb" in names and processes.is_main() and not _wandb_may_write():  # the main process alone writes curves
        raise InputError(
            "nobody is logged in to Weights & Biases",
            where="train.report_to: wandb",
            fix="wandb login, or WANDB_MODE=offline, or take wandb out of report_to",
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


def _wandb_may_write() -> bool:
    """Whether W&B is offline or finds a login, by its own rules.

    It is not asked itself: it would read the environment for good, before it is told where its files belong.
    """
    told = configparser.ConfigParser()
    folders = (os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb"), os.environ.get("WANDB_DIR", ".") + "/wandb")
    try:
        told.read([Path(folder).expanduser() / "settings" for folder in folders], encoding="utf-8")
    except configparser.Error:
        told.clear()

    def said(name: str) -> str:
        kept = told.get("default", name, fallback="")
        return os.environ.get(f"WANDB_{name.upper()}") or kept

    begun = getattr(sys.modules.get("wandb"), "run", None) is not None  # by whoever calls us
    if begun or said("mode") in SILENT_MODES or said("api_key") or said("identity_token_file"):
        return True
    own = said("base_url")
    return _in_netrc({netloc(own) if own else WANDB_HOST})


def _in_netrc(hosts: set[str]) -> bool:
    """Whether the file of logins has one of these hosts."""
    files = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    for file in files:
        try:
            kept = netrc.netrc(Path(file).expanduser())
        except (OSError, netrc.NetrcParseError):
            continue
        if any(kept.authenticators(host) for host in hosts):
            return True
    return False


_MAKE = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
