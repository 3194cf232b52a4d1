"""A group of processes that Ray starts: on the machines of the cluster that `RAY_ADDRESS` names, or on this one alone.

Ray finds room for the processes, connects them, and sees when one of them or its machine is gone. The only file that
imports Ray's trainer; loaded by `nacre.train.group` where it is asked for.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from nacre.base.cluster import ADDRESS, cluster, quiet
from nacre.base.errors import InputError, NacreError
from nacre.train.group import no_such_folder
from nacre.train.last_words import Lost, write_failure
from nacre.train.launch import Launch
from nacre.train.processes import PATIENCE
from nacre.train.worker import work

START_s = 600  # how long a worker may take to start; it imports torch
STARTS = 2  # how often one that does not start is tried again


def run(launch: Launch, folder: Path | None, log: Path) -> int:
    """Have Ray start the group and wait for it; whatever happens here, nothing of it is left running.

    Args:
        launch: the group.
        folder: where the job lies; every machine of the cluster must see it.
        log: is given what Ray says where the group broke.

    Returns:
        0, or 1 where the group broke.

    Raises:
        InputError: no cluster answers, or it has no room for the group.
    """
    assert folder is not None, "Ray starts the processes of all machines from the one that has the job"
    quiet()
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # paths of the job may be relative
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_s))
    room = max(launch.world, os.cpu_count() or 1)
    # Ray prints by itself that a worker is gone; standard output is for what the command was asked for
    with log.open("w", encoding="utf-8") as told, redirect_stdout(told), cluster(ray, room):
        scaling = _room(launch)
        # a group that broke begins again through `train_in_processes`, which knows what is the user's own mistake
        again = FailureConfig(max_failures=0, controller_failure_limit=STARTS)
        backend = "cpu:gloo,cuda:nccl" if scaling.use_gpu else "gloo"
        trainer = TorchTrainer(
            _train,
            train_loop_config={"folder": str(folder), "place": os.getcwd()},
            torch_config=TorchConfig(backend=backend, timeout_s=int(PATIENCE.total_seconds())),
            scaling_config=scaling,
            run_config=RunConfig(name="ray", storage_path=str(folder), failure_config=again),
        )
        try:
            _fit(trainer)
        except TrainingFailedError as error:
            told.write(str(error))
            _tell_lost(folder, error)
            return 1
    return 0


def _room(launch: Launch) -> Any:
    """What each process gets, as Ray's ScalingConfig.

    Raises:
        InputError: there are too few GPUs, or without any too few CPUs.
    """
    found = ray.cluster_resources()
    gpus, cpus = int(found.get("GPU", 0)), int(found.get("CPU", 0))
    there, what = (gpus, "GPUs") if gpus else (cpus, "CPUs")
    if there < launch.world:
        raise InputError(
            f"the Ray cluster has {there} {what}, and {launch.world} processes are to train",
            where="--processes and --nodes, or train.processes",
            fix="start Ray on more machines, or train in fewer processes",
        )
    alone = not gpus and ADDRESS not in os.environ
    return ScalingConfig(
        num_workers=launch.world,
        use_gpu=bool(gpus),
        resources_per_worker={"CPU": cpus // launch.world if alone else 1} | ({"GPU": 1} if gpus else {}),
        placement_strategy="SPREAD" if launch.nodes > 1 else "PACK",
    )


def _fit(trainer: Any) -> None:
    """Run the group from a thread: in the main one Ray would take Ctrl-C for itself, and not give it back."""
    pool = ThreadPoolExecutor(1)
    try:
        pool.submit(trainer.fit).result()
    finally:
        pool.shutdown(wait=False)


def _train(config: dict[str, str]) -> None:
    """What each process does: the job in the folder, from where the command was given."""
    folder, place = Path(config["folder"]), Path(config["place"])
    with _LastWords(folder):
        if not place.is_dir():
            raise no_such_folder(place)
        os.chdir(place)
        work(folder)


class _LastWords:
    """Leaves word in the folder of the error that ends the block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write, where there is an error and a folder."""
        if isinstance(error, Exception) and self.folder.is_dir():
            write_failure(self.folder, int(os.environ["RANK"]), error)


def _tell_lost(folder: Path, error: Exception) -> None:
    """Leave word for processes that left none."""
    for rank, failure in getattr(error, "worker_failures", {}).items():
        if not (
            folder / f"failed-{rank:05}.json"
        ).exists():  # nor could it say so, where a machine does not see the folder
            lost = Lost(f"process {rank} of the training was lost")
            write_failure(folder, rank, failure if isinstance(failure, NacreError) else lost)
