"""What a tuner needs of a run beside marked parameters: its beginning kept, its own steps, its own optimizer."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, PeftType
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerCallback

from nacre.base.errors import InputError
from nacre.model.load import is_reward_model, load_model
from nacre.model.tuners import Tuned, apply
from nacre.records import Weights
from nacre.records.tune import AdaLora, QLora, Tune
from nacre.train import processes

INITIAL = "initial-adapter"  # folder in the work folder: the adapter before the first step, where it moved the base
STATE = "nacre-tuner.safetensors"
DECAYS_TO_FULL = 10  # AdaLoRA takes ranks away in about so many portions


def tuned_model(start: Weights, tune: Tune, work: Path, dtype: torch.dtype | None, *, rewards: bool = False) -> Tuned:
    """The model that training starts from, with what trains marked; with `rewards` one that judges answers.

    Raises:
        InputError: the tuner does not fit the model, or what it already carries.
    """
    if is_reward_model(start) and not rewards:
        fix = "start from a version that answers, or train in the stage rm"
        raise InputError("a reward model gives numbers and cannot learn to answer", where=start.folder, fix=fix)
    quantised = tune if isinstance(tune, QLora) else None
    tuned = apply(load_model(start, train=True, dtype=dtype, quantised=quantised, rewards=rewards), tune)
    if tuned.moved_base and processes.is_main():
        tuned.model.save_pretrained(str(work / INITIAL))
    return tuned


def set_optimizer(trainer: Trainer, tune: Tune) -> None:
    """Give the trainer LoRA+'s optimizer, where the tuner asks for it: the second matrices learn faster."""
    ratio = getattr(tune, "lr_ratio", None)
    if ratio is None:
        return
    kind, options = Trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
    decay = trainer.args.weight_decay
    trainer.optimizer = create_loraplus_optimizer(
        trainer.model, kind, loraplus_lr_ratio=ratio, loraplus_weight_decay=decay, **options
    )


def companions(model: Any, tune: Tune, checkpoint: Path | None) -> list[TrainerCallback]:
    """What must look on while this tuner trains, `checkpoint` being where the run goes on from."""
    if not isinstance(model, PeftModel):
        return []
    kind = model.peft_config["default"].peft_type
    if kind == PeftType.ADALORA and isinstance(tune, AdaLora):
        return [_Ranks(model, tune, checkpoint)]
    if kind == PeftType.P_TUNING and not model.peft_config["default"].inference_mode:
        return [_WholeEncoder(model, checkpoint)]
    return []


class _Kept(TrainerCallback, ABC):
    """Writes tensors beside each checkpoint that PEFT leaves out, and reads them again where a run goes on."""

    def __init__(self, model: Any, checkpoint: Path | None) -> None:
        self.model, self.checkpoint = model, checkpoint

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        tensors = self.tensors()
        if tensors and state.is_world_process_zero:
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / STATE)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.checkpoint is not None and (self.checkpoint / STATE).exists():
            self.restore(load_file(self.checkpoint / STATE, device=str(self.model.device)))

    @abstractmethod
    def tensors(self) -> dict[str, torch.Tensor]:
        """What to write."""

    @abstractmethod
    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on with it."""


class _WholeEncoder(_Kept):
    """P-tuning's network: a checkpoint of PEFT's has only the virtual tokens that came out of it."""

    def tensors(self) -> dict[str, torch.Tensor]:
        return dict(self.model.prompt_encoder["default"].state_dict())

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        self.model.prompt_encoder["default"].load_state_dict(tensors)


class _Ranks(_Kept):
    """AdaLoRA's own step: take ranks away, and pull the factors towards orthogonal ones.

    The pull is PEFT's: the mean over matrices P of |P P^T - I| times a weight (Zhang et al. 2023, eq. 4, with the
    norm not squared). PEFT adds it to a loss that the model computes, which here it does not, so its gradient is
    added in closed form. An adapter that goes on keeps the ranks it was given. PEFT cuts what it saves down to the
    ranks that its configuration names, which a run that goes on could not load, so they are named at the end only.
    """

    def __init__(self, model: Any, tune: AdaLora, checkpoint: Path | None) -> None:
        super().__init__(model, checkpoint)
        self.tune = tune
        self.ranks: dict[str, list[bool]] | None = None
        self.fixed = model.peft_config["default"].rank_pattern is not None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        config, steps = self.model.peft_config["default"], state.max_steps
        self.fixed = self.fixed or steps < 2  # what matters must have been measured once
        if not self.fixed:
            config.total_step = steps
            config.tfinal = min(round(self.tune.settle * steps), steps - 2)
            config.tinit = round(self.tune.warmup * steps)
            config.deltaT = max(1, (steps - config.tinit - config.tfinal) // DECAYS_TO_FULL)
        super().on_train_begin(args, state, control, **given)

    @torch.no_grad()
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        factors = [
            weight
            for name, weight in self.model.named_parameters()
            if weight.grad is not None and ("lora_A.default" in name or "lora_B.default" in name)
        ]
        for weight in factors:
            rows = weight if weight.shape[0] < weight.shape[1] else weight.T
            away = rows @ rows.T - torch.eye(len(rows), device=rows.device)
            slope = 2 * (away @ rows) / away.norm().clamp(min=1e-12)
            slope = slope if rows.shape == weight.shape else slope.T
            weight.grad.add_(slope, alpha=self.tune.orthogonal / len(factors))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.fixed:
            return
        config = self.model.peft_config["default"]
        config.rank_pattern = self.ranks
        self.model.base_model.update_and_allocate(state.global_step + 1)  # the step that has just been made
        self.ranks, config.rank_pattern = config.rank_pattern, None

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.fixed:
            self.model.peft_config["default"].rank_pattern = self.ranks

    def tensors(self) -> dict[str, torch.Tensor]:
        allocator = self.model.base_model.rankallocator
        kept = {"sensitivity": allocator.exp_avg_ipt, "uncertainty": allocator.exp_avg_unc}
        found = {f"{what}/{name}": tensor for what, parts in kept.items() for name, tensor in parts.items()}
        return found | {f"ranks/{name}": torch.tensor(ranks) for name, ranks in (self.ranks or {}).items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        allocator = self.model.base_model.rankallocator
        parts: dict[str, dict[str, torch.Tensor]] = {"sensitivity": {}, "uncertainty": {}, "ranks": {}}
        for name, tensor in tensors.items():
            what, _, parameter = name.partition("/")
            parts[what][parameter] = tensor
        allocator.exp_avg_ipt, allocator.exp_avg_unc = parts["sensitivity"], parts["uncertainty"]
        allocator.ipt = {name: torch.zeros_like(tensor) for name, tensor in allocator.exp_avg_ipt.items()}
        self.ranks = {name: tensor.tolist() for name, tensor in parts["ranks"].items()} or None
