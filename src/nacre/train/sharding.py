"""How several processes share one model: every one holds all of it, or a part.

| name | what is cut into parts, one for each process |
|---|---|
| none | nothing: torch's DistributedDataParallel averages the gradients |
| zero2 | gradients and the optimizer's state: DeepSpeed ZeRO stage 2 (Rajbhandari et al. 2020, arXiv 1910.02054) |
| zero3 | these and the weights: ZeRO stage 3 |
| fsdp2 | these and the weights: torch's `fully_shard` |
"""

import json
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.records import Train

CUTS_WEIGHTS = ("zero3", "fsdp2")


def sharding_of(train: Train) -> str:
    """`none`, `fsdp2`, or `zero` with its stage: as named, or as the DeepSpeed file says.

    Raises:
        InputError: the file cannot be read, or says something else than `train.sharding`.
    """
    if train.deepspeed is None:
        return train.sharding
    found = f"zero{_stage(_read(train.deepspeed), train.deepspeed)}"
    if train.sharding not in ("none", found):
        raise InputError(
            f"train.sharding is {train.sharding}, but the DeepSpeed file says {found}",
            where=str(train.deepspeed),
            fix="leave one of them out",
        )
    return found


def sharding_options(train: Train) -> dict[str, Any]:
    """The same in the words of transformers' TrainingArguments."""
    sharding = sharding_of(train)
    if sharding == "none":
        return {}
    if sharding == "fsdp2":
        return {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}}
    stage = {"zero_optimization": {"stage": int(sharding[4])}}
    given = _read(train.deepspeed) if train.deepspeed is not None else stage
    options = {**_COMMON, **given}
    if sharding == "zero3":
        whole = {"stage3_gather_16bit_weights_on_model_save": True}  # a checkpoint can be loaded as it is
        options["zero_optimization"] = {**options["zero_optimization"], **whole}
    return {"deepspeed": options}


_COMMON = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_allow_untested_optimizer": True,
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto"},
}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the DeepSpeed settings cannot be read: {error}", where=str(path), fix="name a JSON file"
        ) from None
    if not isinstance(found, dict):
        raise InputError("the DeepSpeed settings are no mapping", where=str(path), fix="name a JSON file with one")
    return found


def _stage(options: dict[str, Any], path: Path) -> int:
    found = options.get("zero_optimization", {})
    stage = found.get("stage", 0) if isinstance(found, dict) else None
    if stage not in (0, 1, 2, 3):
        raise InputError(f"ZeRO has no stage {stage!r}", where=f"{path}: zero_optimization.stage", fix="give 0 to 3")
    return int(stage)
