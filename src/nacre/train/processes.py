"""Several processes train one model: which of them this one is, and what they tell each other.

Where there is only one, each function here does nothing, so that nobody has to ask.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import DistributedType, PartialState
from accelerate.state import AcceleratorState
from torch import distributed
from transformers.integrations import deepspeed as integration

from nacre.base.errors import InputError
from nacre.base.plugins import Table

T = TypeVar("T")

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed, where it is installed, wonders aloud
_EXTRA = Table("extra", {"deepspeed": "nacre.train.zero:whole_weights"})  # loaded where it is asked for
PATIENCE = timedelta(hours=12)  # how long the others wait while one samples text, or reads a slow disk


def join() -> None:
    """Meet the other processes that torchrun has started; on GPUs each takes its own."""
    if distributed.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE)
    else:
        distributed.init_process_group("gloo", timeout=PATIENCE)


def leave() -> None:
    """Part from the others."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """This process's number; 0 is the one that writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes train together, on all machines."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files."""
    return rank() == 0


def barrier() -> None:
    """Wait for all the others."""
    if world() > 1:
        distributed.all_reduce(torch.zeros(1))  # on CPU tensors: gloo's barrier, whatever the GPUs speak


def from_main(value: T) -> T:
    """Process 0's value, for all of them."""
    if world() == 1:
        return value
    held: list[Any] = [value]
    distributed.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    return held[0]


def total(value: int) -> int:
    """The sum of all processes' values."""
    if world() == 1:
        return value
    count = torch.tensor([value], dtype=torch.int64)
    distributed.all_reduce(count)
    return int(count)


def on_main(do: Callable[[], T]) -> T:
    """What process 0 gets from `do`, which the others do not call."""
    if world() == 1:
        return do()
    held: list[Any] = [do() if is_main() else None]
    distributed.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    return held[0]


def gathered(value: T) -> list[T]:
    """All processes' values on process 0, in order; on the others nothing. To be called by all of them."""
    if world() == 1:
        return [value]
    held: list[Any] = [None] * world()
    distributed.gather_object(value, held if is_main() else None, dst=0)
    return held if is_main() else []


@contextmanager
def main_first() -> Iterator[None]:
    """Process 0 does the block alone, then the others do it and find the files that it has written."""
    if not is_main():
        barrier()
    yield  # an error of process 0 ends the whole group, so nobody waits in vain
    if is_main():
        barrier()


def announce_deepspeed() -> dict[str, Any]:
    """Tell accelerate that DeepSpeed trains; what TrainingArguments needs to believe it.

    Left to itself, accelerate counts one process where DeepSpeed runs on CPUs.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    PartialState(backend="nccl" if torch.cuda.is_available() else "gloo")
    del os.environ["ACCELERATE_USE_DEEPSPEED"]
    return {"accelerator_config": {"use_configured_state": True}}


def announce_fsdp() -> dict[str, Any]:
    """Have accelerate shard on CPUs too; what TrainingArguments needs for it.

    Left to itself, accelerate shards on devices alone, and says nothing where it trains on CPUs without.
    """
    if torch.cuda.is_available() or not distributed.is_initialized():
        return {}
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(backend="gloo").distributed_type = DistributedType.MULTI_GPU
    return {"accelerator_config": {"use_configured_state": True}}


def deepspeed() -> Callable[[Any, Any], dict[str, torch.Tensor] | None]:
    """Load DeepSpeed; returns `nacre.train.zero.whole_weights`.

    Raises:
        InputError: it is not installed.
    """
    try:
        found: Callable[[Any, Any], dict[str, torch.Tensor] | None] = _EXTRA.load("deepspeed")
    except ImportError as error:
        raise InputError(
            f"DeepSpeed is not installed here ({error})",
            where="train.sharding",
            fix="pip install --no-build-isolation 'nacre[deepspeed]', or choose fsdp2 or none",
        ) from None
    return found


def forget_sharding() -> None:
    """Undo what an earlier run in this process told transformers and accelerate about DeepSpeed or FSDP."""
    integration.unset_hf_deepspeed_config()
    switches = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "FSDP_")
    for name in [name for name in os.environ if name.startswith(switches)]:
        del os.environ[name]


@contextmanager
def whole_models() -> Iterator[None]:
    """Models that are loaded in the block are whole in every process; under ZeRO-3 each would get a part of them."""
    held = integration._hf_deepspeed_config_weak_ref
    integration._hf_deepspeed_config_weak_ref = None
    try:
        yield
    finally:
        integration._hf_deepspeed_config_weak_ref = held


def whole_weights(trainer: Any) -> dict[str, torch.Tensor] | None:
    """Where each process has a part of the weights only: all of them by name on process 0, none on the others.

    None: the model is whole in every process. To be called by all of them.
    """
    kind = str(trainer.accelerator.distributed_type.value)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if kind == "DEEPSPEED":
        return deepspeed()(trainer, model)
    if kind != "FSDP":
        return None
    found = {}
    for name, weight in model.named_parameters():
        whole = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
        if is_main():
            found[name] = whole.detach().cpu()
    return found
