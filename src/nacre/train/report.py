"""Where people look at a run's curves: TensorBoard, MLflow, Weights & Biases, through transformers' own callbacks.

They are written to while training and never read. MLflow and W&B take their addresses from their own environment
variables (MLFLOW_TRACKING_URI, WANDB_MODE …); where none says otherwise, they write beside the checkpoints. A process
may train several times: each run has curves of its own, where its note says.
"""

import configparser
import importlib.util
import netrc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import MLflowCallback, TensorBoardCallback, WandbCallback

from nacre.base.addresses import netloc
from nacre.base.errors import InputError
from nacre.train import processes

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
SILENT_MODES = ("offline", "dryrun", "disabled")  # in which W&B sends nothing, and so asks for no login
EXPERIMENT_ID = "MLFLOW_EXPERIMENT_ID"
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


class _Mlflow(MLflowCallback):
    """Ends the run that it began once, where transformers' would end a later training's when it is collected.

    With the run ends what MLflow was told for it, so that all it is told afterwards is the user's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before = getattr(self._ml_flow.tracking.fluent, "_active_experiment_id", None)

    def setup(self, *given: Any, **words: Any) -> None:
        before = os.environ.get(EXPERIMENT_ID)
        super().setup(*given, **words)
        if before is None and EXPERIMENT_ID in os.environ:  # MLflow has put it there
            _told[EXPERIMENT_ID] = os.environ[EXPERIMENT_ID]

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.end()

    def end(self, status: str = "FINISHED") -> None:
        """Close the run, unless somebody else began it or it is closed."""
        begun: bool = self._auto_end_run
        self._auto_end_run: bool = False
        try:
            if begun and self._ml_flow.active_run() is not None:
                self._ml_flow.end_run(status)
        finally:
            self._forget()

    def abandon(self) -> None:
        """Close the run of a training that failed; if its MLflow is gone, so is the run."""
        with suppress(self._ml_flow.exceptions.MlflowException):
            self.end("FAILED")

    def _forget(self) -> None:
        if "MLFLOW_EXPERIMENT_NAME" in _told:  # else the number of ours would be looked for at the next address
            self._ml_flow.tracking.fluent._active_experiment_id = self._before
        for name in (name for name, value in _told.items() if os.environ.get(name) == value):
            del os.environ[name]
        _told.clear()


class _Wandb(WandbCallback):
    """Writes into a folder of its own, and ends the run that it began: the next training would go on with it.

    Args:
        folder: which W&B is told at each run: WANDB_DIR it reads once in a process.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._begun: Any = None

    def setup(self, args: Any, state: Any, model: Any, **words: Any) -> None:
        if state.is_world_process_zero and self._wandb.run is None:
            project = os.environ.get("WANDB_PROJECT", "huggingface")  # as transformers has it
            self._begun = self._wandb.init(project=project, name=args.run_name, dir=str(self._folder.resolve()))
        super().setup(args, state, model, **words)

    def on_train_end(self, *given: Any, **words: Any) -> None:
        super().on_train_end(*given, **words)
        self.end()

    def end(self, exit_code: int = 0) -> None:
        """Close the run, unless somebody else began it or it is closed."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.finish(exit_code)

    def abandon(self) -> None:
        """Close the run of a training that failed."""
        self.end(1)


_newest: dict[str, Any] = {}  # the callbacks of the last training: one that failed has left its run open
_told: dict[str, str] = {}  # what the environment tells MLflow for one training, and the user has not set


def _mlflow(folder: Path) -> tuple[TrainerCallback, str]:
    if "mlflow" in _newest:
        _newest.pop("mlflow").abandon()
    if "MLFLOW_TRACKING_URI" not in os.environ:
        store = folder.parent / "mlruns"
        store.mkdir(parents=True, exist_ok=True)
        told = {
            "MLFLOW_TRACKING_URI": store.resolve().as_uri(),
            "MLFLOW_ALLOW_FILE_STORE": "true",  # a database needs more than the slim client
            "MLFLOW_EXPERIMENT_NAME": "nacre",
        }
        _told.update({name: value for name, value in told.items() if name not in os.environ})
        os.environ.update(_told)
    _newest["mlflow"] = _Mlflow()
    return _newest["mlflow"], f"MLflow at {os.environ['MLFLOW_TRACKING_URI']}"


def _wandb(folder: Path) -> tuple[TrainerCallback, str]:
    if "wandb" in _newest:
        _newest.pop("wandb").abandon()
    folder = Path(os.environ.get("WANDB_DIR") or folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    _newest["wandb"] = _Wandb(folder)
    return _newest["wandb"], f"Weights & Biases, {_wandb_said('mode') or 'online'}, files in {folder}"


def _wandb_said(name: str) -> str:
    """A setting of W&B's, from the environment or its files, as it will find it; empty where nothing says.

    The folder of its files is the one where the process is; WANDB_DIR is for what it writes.
    """
    hidden = Path(".wandb")
    folders = (
        Path(os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")),
        hidden if hidden.exists() else Path("wandb"),
    )
    kept = ""
    for folder in folders:
        told = configparser.ConfigParser()
        try:
            told.read(folder.expanduser() / "settings", encoding="utf-8")
            kept = told.get("default", name, fallback=kept)
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
    return os.environ.get(f"WANDB_{name.upper()}") or kept


def _wandb_may_write() -> bool:
    """Whether W&B is offline or finds a login, by its own rules.

    It is not asked itself: it would read the environment for good, before anybody has asked for curves.
    """
    begun = getattr(sys.modules.get("wandb"), "run", None) is not None  # by whoever calls us
    if begun or _wandb_said("mode") in SILENT_MODES or _wandb_said("api_key") or _wandb_said("identity_token_file"):
        return True
    own = _wandb_said("base_url")
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
