"""Training in several processes, on one machine or more: started through torchrun, watched, and cleaned up after.

The process that was asked to train does everything else: it reads the data, waits, judges, registers. Only the
training itself runs several times, in a group of workers that get the job as a file and leave their result as one.
So a ledger never sees more than one writer. No torch here.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from nacre.base.errors import InputError, NacreError
from nacre.base.files import atomic_write, disk_errors
from nacre.records import Train
from nacre.train.job import Job, Trained

JOB, RESULT, LOG = "job.json", "trained.json", "torchrun.log"
GRACE_s = 40  # torchrun gives its workers 30 s to end
JOIN_s = 3600  # how long machines wait for each other
CUT = 4000  # characters of a log that are shown


JOBS = "processes"  # below a run's folder: what the processes are told, rows included


@dataclass(frozen=True)
class Launch:
    """A group of processes.

    Attributes:
        processes: on each machine.
        nodes: machines.
        node: this machine's number, from 0; number 0 does everything beside training.
        address: of machine 0, reachable from the others.
        port: free on machine 0; 0 takes any, which works on one machine.
    """

    processes: int
    nodes: int = 1
    node: int = 0
    address: str = "127.0.0.1"
    port: int = 0

    @property
    def world(self) -> int:
        """How many processes train."""
        return self.processes * self.nodes


class Failure(BaseModel):
    """Why a worker ended: an error for the user, or a fault of the program with its traceback."""

    kind: str = ""
    what: str
    where: str = ""
    fix: str = ""
    trace: str = ""


def launch_of(train: Train, environ: Mapping[str, str] = os.environ) -> Launch | None:
    """The group that settings and environment ask for; None: this process trains by itself.

    LlamaFactory's variables count: FORCE_TORCHRUN, NPROC_PER_NODE, NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT.

    Raises:
        InputError: a variable is no number, or several machines have no common address.
    """
    if "LOCAL_RANK" in environ:
        return None  # this process is one of a group
    forced = environ.get("FORCE_TORCHRUN", "").lower() in ("1", "true", "y")
    if not forced and train.processes == 1 and train.sharding == "none" and train.deepspeed is None:
        return None
    nodes = _number(environ, "NNODES", 1) if forced else 1
    usual = train.processes if train.processes > 1 else _gpus(environ)
    processes = _number(environ, "NPROC_PER_NODE", usual) if forced else usual
    launch = Launch(
        processes=processes,
        nodes=nodes,
        node=_number(environ, "NODE_RANK", 0, least=0),
        address=environ.get("MASTER_ADDR", "127.0.0.1"),
        port=_number(environ, "MASTER_PORT", 0, least=0) if forced else 0,
    )
    if launch.node >= nodes:
        raise InputError(
            f"machine {launch.node} of {nodes}: they are counted from 0",
            where="NODE_RANK or --node_rank",
            fix=f"give 0 to {nodes - 1}",
        )
    if nodes > 1 and ("MASTER_ADDR" not in environ or not launch.port):
        raise InputError(
            f"{nodes} machines need the address and a free port of the first",
            where="MASTER_ADDR and MASTER_PORT, or --master",
            fix="give each machine the same --master ADDRESS:PORT",
        )
    return launch


def group_of(train: Train, environ: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """(how many processes train, how many of them on this machine), as settings and environment say.

    Asked before the group is started or in one of its processes, the answer is the same.

    Raises:
        InputError: see `launch_of`.
    """
    if "LOCAL_RANK" in environ:  # one of a group, and torchrun says of which
        world = _number(environ, "WORLD_SIZE", 1)
        return world, _number(environ, "LOCAL_WORLD_SIZE", world)
    launch = launch_of(train, environ)
    return (launch.world, launch.processes) if launch else (1, 1)


def _gpus(environ: Mapping[str, str]) -> int:
    """How many GPUs this machine has, as far as that can be seen without loading torch; at least 1."""
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return max(1, len([one for one in named.split(",") if one.strip()]))
    return max(1, len([one for one in Path("/dev").glob("nvidia*") if one.name.removeprefix("nvidia").isdigit()]))


def _number(environ: Mapping[str, str], name: str, default: int, *, least: int = 1) -> int:
    given = environ.get(name, str(default))
    if not given.isdigit() or int(given) < least:
        raise InputError(f"'{given}' is no number from {least} on", where=name, fix=f"set {name} to a whole number")
    return int(given)


def check_batch(train: Train, world: int) -> None:
    """Whether every process gets equal micro-batches of each step.

    Raises:
        InputError: it does not; names batch sizes that can be cut.
    """
    parts = train.accumulation * world
    if train.batch_size % parts == 0:
        return
    each = f"{train.accumulation} equal micro-batches" + (f" for each of {world} processes" if world > 1 else "")
    below = train.batch_size // parts * parts
    sizes = f"{below} or {below + parts}" if below else str(parts)
    raise InputError(
        f"a batch of {train.batch_size} rows cannot be cut into {each}",
        where="train.batch_size" if world > 1 else "train.accumulation",
        fix=f"make batch_size a multiple of {parts}, e.g. {sizes}",
    )


def check_one_training(train: Train, launch: Launch | None) -> None:
    """Whether a command trains once only: machines beside the first take part in one training, and then end.

    Raises:
        InputError: a pilot would train several times.
    """
    if launch is not None and launch.nodes > 1 and train.learning_rate == "pilot":
        raise InputError(
            f"pilot trains several times, and of {launch.nodes} machines all but the first train once and end",
            where="train.learning_rate",
            fix="find the rate on one machine, then give it; or auto",
        )


def train_in_processes(job: Job, launch: Launch) -> Trained:
    """Train `job` in a group of processes; what a worker fails with is raised here.

    Raises:
        InputError: the job is wrong, as a single process would find it.
        NacreError: the group broke; names the log.
    """
    check_batch(job.recipe.train, launch.world)
    folder = job.work / JOBS
    with disk_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    atomic_write(folder / JOB, TypeAdapter(Job).dump_json(job))
    code = _run_group(launch, folder.resolve(), folder / LOG)
    if (folder / RESULT).exists():
        return TypeAdapter(Trained).validate_json((folder / RESULT).read_bytes())
    raise _failure(folder) or _broken(code, folder / LOG)


def follow_machine(launch: Launch, log: Path) -> None:
    """Run this machine's workers of a group whose machine 0 has the job; returns when they are done.

    Raises:
        NacreError: the group broke; machine 0 says why.
    """
    code = _run_group(launch, None, log)
    if code:
        raise _broken(code, log)


def _run_group(launch: Launch, folder: Path | None, log: Path) -> int:
    """Start torchrun and wait for it; whatever happens here, nothing of it is left running."""
    words = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", str(launch.nodes), "--node-rank", str(launch.node)),
        *("--nproc-per-node", str(launch.processes)),
        *("--master-addr", launch.address, "--master-port", str(launch.port or _free_port())),
        *("--rdzv-conf", f"timeout={JOIN_s}"),
        *("-m", "nacre.train.worker", str(folder or "-"), str(os.getpid())),
    ]
    threads = max(1, (os.cpu_count() or 1) // launch.processes)
    with log.open("wb") as file:
        group = subprocess.Popen(
            words,
            stdin=2,  # nothing is read; it is the way for the bar of process 0 to the terminal
            stdout=file,
            stderr=file,
            # the warning that is kept quiet: DDP looks for unused parameters, and finds none in most models
            env={"OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ},
            start_new_session=True,  # Ctrl-C is for this process, which ends the group
        )
        try:
            return group.wait()
        finally:
            _end(group)


def _end(group: "subprocess.Popen[bytes]") -> None:
    if group.poll() is not None:
        return
    group.terminate()
    try:
        group.wait(GRACE_s)
    except subprocess.TimeoutExpired:
        os.killpg(group.pid, signal.SIGKILL)
        group.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alive(process: int) -> bool:
    """Whether a process of this machine still runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_failure(folder: Path, rank: int, error: Exception) -> None:
    """Leave word of why the worker `rank` ends."""
    if isinstance(error, NacreError):
        found = Failure(kind=type(error).__name__, **error.as_dict())
    else:
        found = Failure(what=f"{type(error).__name__}: {error}", trace="".join(traceback.format_exception(error)))
    atomic_write(folder / f"failed-{rank:05}.json", found.model_dump_json())


def _failure(folder: Path) -> NacreError | None:
    """The error that ended the group: one that was meant for the user before one of the processes that then broke."""
    found = [(path, Failure.model_validate_json(path.read_bytes())) for path in sorted(folder.glob("failed-*.json"))]
    told = [failure for _, failure in found if failure.kind]
    if told:
        every: list[type[NacreError]] = [NacreError, *_below(NacreError)]
        kinds = {kind.__name__: kind for kind in every}
        first = told[0]
        return kinds.get(first.kind, NacreError)(first.what, where=first.where, fix=first.fix)
    if not found:
        return None
    path, first = min(found, key=lambda pair: pair[0].stat().st_mtime)
    rank = int(path.stem.removeprefix("failed-"))
    what = f"process {rank} of the training broke: {first.what}"
    atomic_write(folder / "traceback.txt", first.trace)
    return NacreError(what, where=str(folder / "traceback.txt"), fix="look at the traceback there")


def _below(kind: type[NacreError]) -> list[type[NacreError]]:
    return [deeper for child in kind.__subclasses__() for deeper in (child, *_below(child))]


def _broken(code: int, log: Path) -> NacreError:
    """The error for a group that ended without a word: killed by the system, most often for want of memory."""
    text = log.read_text(errors="replace")[-CUT:] if log.exists() else ""
    killed = "Signal 9" in text or "exitcode  : -9" in text
    fix = "a process was killed, most often for want of memory: lower the batch" if killed else "look at the log"
    return NacreError(f"the processes of the training ended with code {code}", where=str(log), fix=fix)
