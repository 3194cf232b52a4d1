"""The recipe in the trainer's words: schedule, precision, checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from nacre.model.load import pick_device
from nacre.records import Recipe, Train
from nacre.records.tune import MOVES_THE_BASE, Adapter, Lora, Tune
from nacre.train import processes
from nacre.train.sharding import sharding_options
from nacre.train.stages.base import Stage

BF16_PARAMETERS = 30_000_000  # from which on bf16 pays on a CPU that has it


def training_arguments(recipe: Recipe, stage: Stage, steps: int, work: Path) -> tuple[Any, list[str]]:
    """The recipe in the words of the stage's trainer, and what had to be decided on the way."""
    settings = recipe.train
    on_gpu = pick_device().type == "cuda"
    bf16, fp16, said = precision_of(settings.precision, on_gpu)
    warmup = settings.warmup if settings.warmup >= 1 else round(settings.warmup * steps)
    arguments = stage.arguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size // (settings.accumulation * processes.world()),
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler,
        warmup_steps=int(warmup),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        activation_checkpointing=bool(settings.gradient_checkpointing),
        bf16=bf16,
        fp16=fp16,
        use_cpu=not on_gpu,
        seed=settings.seed,
        data_seed=settings.seed,
        logging_steps=min(settings.logging_steps, steps),
        save_steps=settings.save_steps,
        save_total_limit=2,
        train_sampling_strategy="sequential",  # the rows are already in their order
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        report_to="none",
        disable_tqdm=True,
        neftune_noise_alpha=settings.neftune_alpha,
        per_device_eval_batch_size=settings.batch_size // (settings.accumulation * processes.world()),
        **({} if settings.optimizer is None else {"optim": settings.optimizer}),
        ddp_timeout=int(processes.PATIENCE.total_seconds()),
        **_sharded(settings),
        **stage.options(settings),
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # the first GPU: torch's DataParallel is no way to use several
    return arguments, said


def _sharded(settings: Train) -> dict[str, Any]:
    """How the processes share the model, in the trainer's words.

    Raises:
        InputError: DeepSpeed is asked for and not installed, or there is one process only.
    """
    options = sharding_options(settings)
    if "deepspeed" in options:
        processes.deepspeed()
        options |= processes.announce_deepspeed()
    if "fsdp" in options:
        options |= processes.announce_fsdp()
    return options


def autocast_of(wanted: str) -> torch.autocast:
    """The trainer's autocast, for what protections compute before it starts: trained weights are kept in float32,
    frozen ones as stored, and only autocast lets the two meet.
    """
    device = pick_device().type
    bf16, fp16, _ = precision_of(wanted, device == "cuda")
    return torch.autocast(device, dtype=torch.float16 if fp16 else torch.bfloat16, enabled=bf16 or fp16)


def settled_precision(settings: Train, parameters: int) -> tuple[Train, list[str]]:
    """`precision: auto` decided where a CPU would train: bf16 where it multiplies that by itself and it pays.

    What it saves are products of matrices; on small models they are little of a step, and fp32 stays.
    """
    if settings.precision != "auto" or pick_device().type == "cuda" or parameters < BF16_PARAMETERS:
        return settings, []
    if not _cpu_has_bf16(torch.cpu.get_capabilities()):
        return settings, []
    told = f"precision bf16: the processor multiplies it by itself, and the model has {parameters:,} parameters"
    return settings.model_copy(update={"precision": "bf16"}), [told]


@torch.no_grad()
def halve_frozen(model: Any, tune: Tune) -> None:
    """Hold what an adapter sits on in bf16, where it is in float32.

    Else autocast would cast it anew at every call. Only where the base is not part of what is saved, and where the
    adapter's own arithmetic does not go through the base's weights. An adapter is saved whole, so what is frozen of it
    stays as it is.
    """
    if not isinstance(tune, Lora | Adapter):
        return
    if isinstance(tune, Lora) and (tune.dora or tune.init in MOVES_THE_BASE):
        return
    saved = {
        id(weight)
        for module in model.modules()
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
        for name in module.adapter_layer_names
        if isinstance(getattr(module, name, None), torch.nn.Module)
        for weight in getattr(module, name).parameters()
    }
    for weight in model.parameters():
        if not weight.requires_grad and weight.dtype == torch.float32 and id(weight) not in saved:
            weight.data = weight.data.bfloat16()


def precision_of(wanted: str, on_gpu: bool) -> tuple[bool, bool, list[str]]:
    """(bf16, fp16, what was said) for what was asked and what the machine has."""
    if on_gpu:
        bf16 = wanted == "bf16" or (wanted == "auto" and torch.cuda.is_bf16_supported())
        return bf16, wanted == "fp16" or (wanted == "auto" and not bf16), []
    if wanted == "fp16":
        fast = _cpu_has_bf16(torch.cpu.get_capabilities())
        return fast, False, [f"fp16 does not train on a CPU: {'bf16' if fast else 'fp32'} was used instead"]
    return wanted == "bf16", False, []


def _cpu_has_bf16(capabilities: Mapping[str, Any]) -> bool:
    """Whether the CPU multiplies bf16 by itself; where it must convert, fp32 is faster."""
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "avx10_2", "bf16"))


def has_bf16() -> bool:
    """Whether this machine's processor multiplies bf16 by itself."""
    return _cpu_has_bf16(torch.cpu.get_capabilities())
