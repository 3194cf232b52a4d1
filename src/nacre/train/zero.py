"""What only DeepSpeed knows of a model that it trains. The one file that imports it; see `nacre.train.processes`."""

from typing import Any

import deepspeed
import torch
from torch import distributed

# On CPUs it would compile a faster way to talk inside a machine; one killed at that blocks all later starts.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def whole_weights(trainer: Any, model: Any) -> dict[str, torch.Tensor] | None:
    """Under ZeRO-3 all weights by name on process 0, none on the others; else None, and `model` has them itself.

    They come from the optimizer's own copy: under bf16 the model's is rounded. To be called by every process.
    """
    stage = trainer.deepspeed.zero_optimization_stage()
    main = distributed.get_rank() == 0
    found: dict[str, torch.Tensor] = {}
    for name, weight in model.named_parameters():
        full = deepspeed.utils.safe_get_full_fp32_param(weight) if weight.requires_grad and stage else None
        if stage < 3:
            weight.data = weight.data if full is None else full.to(weight.device)
            continue
        with deepspeed.zero.GatheredParameters([weight]):
            if main:
                found[name] = (weight if full is None else full).detach().cpu().clone()
    return found if stage == 3 else None
