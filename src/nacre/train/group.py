"""Training in several processes, on one machine or more: started, watched, and begun again where one was lost.

The process that was asked to train does everything else: it reads the data, waits, judges, registers. Only the
training itself runs several times, in a group of workers that get the job as a file and leave their result as one.
So a ledger never sees more than one writer. No torch here.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from nacre.base.errors import InputError
from nacre.base.files import atomic_write, disk_errors
from nacre.train.job import Job, Trained
from nacre.train.last_words import Lost, goes_on, reason
from nacre.train.launch import JOB, JOBS, LAUNCHERS, LOG, RESULT, Launch, check_batch

AGAIN_s = 300  # how long machines wait for each other when they begin again
_ELSEWHERE = "see what machine 0 says, and give the same command again on every machine"

Starter = Callable[[Launch, Path | None, Path], int]


def train_in_processes(job: Job, launch: Launch, lost: tuple[str, ...] = ()) -> Trained:
    """Train `job` in a group of processes; what a worker fails with is raised here.

    Args:
        job: what to train.
        launch: the group.
        lost: what became of earlier groups of this training.

    Raises:
        InputError: the job is wrong, as a single process would find it.
        Lost: a process is gone, and the group began again as often as it may; names the checkpoint it would go on from.
        NacreError: the group broke; names the log.
    """
    check_batch(job.recipe.train, launch.world)
    start = _starter(launch)
    folder = job.work / JOBS
    with disk_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    atomic_write(folder / JOB, TypeAdapter(Job).dump_json(job))
    folder = folder.resolve()
    code = start(launch, folder, folder / LOG)
    if (folder / RESULT).exists():
        trained = TypeAdapter(Trained).validate_json((folder / RESULT).read_bytes())
        return replace(trained, notes=(*lost, *trained.notes))
    error = reason(folder, code, folder / LOG, goes_on(job.work))
    if isinstance(error, Lost) and len(lost) < launch.restarts:
        lost = (*lost, f"{error.what}; the group began again")
        return train_in_processes(job, replace(launch, wait_s=AGAIN_s, attempt=len(lost)), lost)
    raise error


def follow_machine(launch: Launch, log: Path) -> None:
    """Run this machine's workers of a group whose machine 0 has the job; returns when they are done.

    Raises:
        NacreError: the group broke; machine 0 says why.
    """
    start, deadline = _starter(launch), 0.0
    while True:
        for path in log.parent.glob("failed-*.json"):
            path.unlink()
        code = start(launch, None, log)
        if not code:
            return
        error = reason(log.parent, code, log, _ELSEWHERE)
        if isinstance(error, Lost):
            if launch.attempt == launch.restarts:
                raise error
            launch = replace(launch, wait_s=AGAIN_s, attempt=launch.attempt + 1)
            deadline = time.monotonic() + AGAIN_s
        elif time.monotonic() > deadline or any(log.parent.glob("failed-*.json")):
            raise error
        # else no worker was started: what was left of the former group on machine 0 has only now gone


def _starter(launch: Launch) -> Starter:
    """What starts the group.

    Raises:
        InputError: it is not installed.
    """
    try:
        found: Starter = LAUNCHERS.load(launch.by, where="--launch")
    except ImportError as error:
        raise InputError(
            f"{launch.by} is not installed here ({error})",
            where=f"--launch {launch.by}",
            fix="pip install 'nacre[ray]', or choose torchrun",
        ) from None
    return found


def no_such_folder(folder: Path) -> InputError:
    """The error of a worker on a machine that does not see the run's folder."""
    return InputError(
        f"the run's folder is not on the machine {os.uname().nodename}",
        where=str(folder),
        fix="put workspace, data and models where every machine sees them under the same path",
    )
