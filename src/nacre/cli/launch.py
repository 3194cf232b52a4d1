"""In how many processes a command trains: the words for it, and what machines and processes beside the first do."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nacre.base.errors import InputError, unknown
from nacre.train.group import follow_machine
from nacre.train.launch import LOG, RAY, TORCHRUN, check_one_training, launch_of

if TYPE_CHECKING:
    from nacre.records import Train

WORDS = {
    "launch": "train in several processes, one for each GPU: torchrun, or ray on the machines of its cluster",
    "processes": "how many on this machine",
    "nodes": "how many machines; each is given the same command and its own --node_rank",
    "node_rank": "the number of this machine; 0 reads the data and writes all files",
    "master": "ADDRESS:PORT of machine 0, for all of them",
    "restarts": "how often a group that has lost a process begins again by itself, from its newest checkpoint",
}
LAUNCHERS = (TORCHRUN, RAY)
VARIABLES = {
    "processes": "NPROC_PER_NODE",
    "nodes": "NNODES",
    "node_rank": "NODE_RANK",
    "restarts": "MAX_RESTARTS",
}


def take_words(given: Sequence[str]) -> list[str]:
    """Put the words of `WORDS` among `given` into the environment, as LlamaFactory's variables; returns the others.

    Raises:
        InputError: one without its value, or an unknown launcher.
    """
    found: dict[str, str] = {}
    others: list[str] = []
    words = list(given)
    while words:
        word = words.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        key = name.replace("-", "_")
        if key not in WORDS or not (equals or word.startswith("--")):
            others.append(word)
            continue
        if not equals:
            if not words or words[0].startswith("--"):
                raise InputError(f"--{name} needs a value", where=f"--{name}", fix=f"write --{name} VALUE")
            value = words.pop(0)
        found[key] = value
    set_variables(found)
    return others


def set_variables(found: dict[str, str]) -> None:
    """Translate the words and their values into LlamaFactory's variables.

    Raises:
        InputError: an unknown launcher, a master without a port, or words that say what the launcher says itself.
    """
    if not found:
        return
    by = found.get("launch", RAY if os.environ.get("USE_RAY") else TORCHRUN)
    if by not in LAUNCHERS:
        raise unknown("launcher", by, LAUNCHERS, where="--launch")
    if by == RAY:
        for word in ("node_rank", "master"):
            if word in found:
                fix = "give the command once, on one machine of the cluster, without it"
                raise InputError("Ray counts its machines and connects them itself", where=f"--{word}", fix=fix)
        os.environ["USE_RAY"] = "1"
    else:
        os.environ.pop("USE_RAY", None)
        os.environ["FORCE_TORCHRUN"] = "1"
    for word, variable in VARIABLES.items():
        if word in found:
            os.environ[variable] = found[word]
    if "master" in found:
        address, colon, port = found["master"].rpartition(":")
        if not colon or not address or not port.isdigit():
            raise InputError(f"'{found['master']}' names no port", where="--master", fix="write --master ADDRESS:PORT")
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = address, port


def world_of(train: "Train") -> int:
    """How many processes will train."""
    launch = launch_of(train)
    return launch.world if launch else int(os.environ.get("WORLD_SIZE", "1"))


def only_follows() -> bool:
    """Whether torchrun started this process to train beside process 0; if so, it has done it when this returns."""
    if os.environ.get("RANK", "0") == "0" or "LOCAL_RANK" not in os.environ:
        return False
    from nacre.train.worker import follow

    follow()
    return True


def only_helps(train: "Train") -> bool:
    """Whether this machine only runs its workers beside machine 0; if so, it has done it when this returns.

    Raises:
        InputError: the settings ask for several trainings.
        NacreError: the training broke; machine 0 says why.
    """
    launch = launch_of(train)
    check_one_training(train, launch)
    if launch is None or launch.node == 0:
        return False
    words = Path(tempfile.mkdtemp(prefix="nacre-"))
    follow_machine(launch, words / LOG)
    shutil.rmtree(words)
    return True


def machines(train: "Train") -> int:
    """On how many machines the command was given."""
    launch = launch_of(train)
    return launch.commands if launch else 1


@contextmanager
def leading() -> Iterator[None]:
    """Afterwards the processes that torchrun started beside this one are told that nothing more is to be trained."""
    yield
    if "LOCAL_RANK" in os.environ:
        from nacre.train.worker import dismiss

        dismiss()
