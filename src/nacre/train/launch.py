"""In how many processes a training runs, on which machines, and who starts them. No torch here."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nacre.base.errors import InputError
from nacre.base.plugins import Table
from nacre.records import Train

# what starts a group and waits for it: run(launch, folder, log) -> exit code
LAUNCHERS = Table("launcher", {"torchrun": "nacre.train.torchrun:run", "ray": "nacre.train.ray_group:run"})
TORCHRUN, RAY = "torchrun", "ray"

JOBS = "processes"  # below a run's folder: what the processes are told, rows included
JOB, RESULT, LOG = "job.json", "trained.json", "group.log"  # in it
NO_FOLDER = "-"  # what workers are told on machines that do not know it
JOIN_s = 3600  # how long machines wait for each other


@dataclass(frozen=True)
class Launch:
    """A group of processes.

    Attributes:
        processes: on each machine.
        nodes: machines.
        node: this machine's number, from 0; number 0 does everything beside training.
        address: of machine 0, reachable from the others.
        port: free on machine 0; 0 takes any, which works on one machine.
        by: a name of `LAUNCHERS`.
        restarts: how often a group that has lost a process begins again, from its newest checkpoint.
        wait_s: how long machines wait for each other before they train.
        attempt: how often it has begun again; machines that are not yet as far do not meet.
    """

    processes: int
    nodes: int = 1
    node: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    by: str = TORCHRUN
    restarts: int = 0
    wait_s: int = JOIN_s
    attempt: int = 0

    @property
    def world(self) -> int:
        """How many processes train."""
        return self.processes * self.nodes

    @property
    def commands(self) -> int:
        """On how many machines the user gives the command: Ray starts the processes of all of them from one."""
        return 1 if self.by == RAY else self.nodes


def launch_of(train: Train, environ: Mapping[str, str] = os.environ) -> Launch | None:
    """The group that settings and environment ask for; None: this process trains by itself.

    LlamaFactory's variables count: FORCE_TORCHRUN, USE_RAY, NPROC_PER_NODE, NNODES, NODE_RANK, MASTER_ADDR,
    MASTER_PORT, MAX_RESTARTS.

    Raises:
        InputError: a variable is no number, or several machines have no common address.
    """
    if "LOCAL_RANK" in environ:
        return None  # this process is one of a group
    by_ray = _yes(environ, "USE_RAY")
    forced = by_ray or _yes(environ, "FORCE_TORCHRUN")
    if not forced and train.processes == 1 and train.sharding == "none" and train.deepspeed is None:
        return None
    nodes = _number(environ, "NNODES", 1) if forced else 1
    usual = train.processes if train.processes > 1 else _gpus(environ)
    processes = _number(environ, "NPROC_PER_NODE", usual) if forced else usual
    restarts = _number(environ, "MAX_RESTARTS", 0, least=0)
    if by_ray:
        return Launch(processes=processes, nodes=nodes, by=RAY, restarts=restarts)
    launch = Launch(
        processes=processes,
        nodes=nodes,
        node=_number(environ, "NODE_RANK", 0, least=0),
        address=environ.get("MASTER_ADDR", "127.0.0.1"),
        port=_number(environ, "MASTER_PORT", 0, least=0) if forced else 0,
        restarts=restarts,
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
    if "LOCAL_RANK" in environ:  # one of a group, and whoever started it says of which
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


def _yes(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").lower() in ("1", "true", "y")


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
    if launch is not None and launch.commands > 1 and train.learning_rate == "pilot":
        raise InputError(
            f"pilot trains several times, and of {launch.nodes} machines all but the first train once and end",
            where="train.learning_rate",
            fix="find the rate on one machine, then give it; or auto",
        )
