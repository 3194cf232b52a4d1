"""Every argument that does something: LlamaFactory's names, and the articles' own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from nacre.base.config import Settings

ALIASES = {
    "data_path": "dataset",
    "lr": "learning_rate",
    "use_gradient_checkpointing": "gradient_checkpointing",
    "evaluation_strategy": "eval_strategy",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
}
SWITCHES = {
    "do_train",
    "overwrite_output_dir",
    "plot_loss",
    "fp16",
    "bf16",
    "gradient_checkpointing",
    "use_llama_pro",
    "use_rslora",
    "use_dora",
    "pissa_init",
    "double_quantization",
}


LAYERS = (  # what says which layers train, and so asks for freeze where no finetuning_type is given
    "freeze_layers",
    "trainable_layers",
    "freeze_trainable_layers",
    "freeze_trainable_modules",
    "freeze_extra_modules",
)


class Arguments(Settings):
    """Every argument that does something. Others are in `nacre.cli.llamafactory.keys`."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    model_name_or_path: str = Field(description="where training starts: model or adapter folder, or hub name")
    adapter_name_or_path: str | None = Field(None, description="an adapter folder: it is trained on; one, not several")
    dataset: str = Field(description="folders or files of dataset_dir, names in its dataset_info.json, or paths")
    output_dir: Path = Field(description="new folder for the result, in Hugging Face layout")
    stage: Literal["sft", "pt", "rm", "dpo", "kto"] = Field("sft", description="what the rows teach")
    do_train: Literal[True] = True
    finetuning_type: Literal["lora", "freeze", "full", "oft"] | None = Field(
        None, description="lora unless layers or prev_model are named"
    )
    dataset_dir: Path | None = Field(
        None, description="where datasets are looked for, and dev_all.json is kept; default: dataset, or else data"
    )
    template: str | None = Field(None, description="one of 16 chat templates by name; default: the model's own")
    prev_model: str | None = Field(None, description="the version whose abilities are to be kept")
    regularization_alpha: float = Field(0.1, ge=0, description="weight of the divergence from prev_model")
    replay_samples: int | None = Field(None, ge=0, description="replay at most this many earlier rows; default all")
    freeze_layers: int | None = Field(None, ge=0, description="this many of the first layers stay frozen")
    trainable_layers: Literal["all"] | int | None = Field(None, description="all, or how many of the last layers train")
    freeze_trainable_layers: int | None = Field(
        None, description="how many of the last layers train, below 0: of the first ones; default 2"
    )
    freeze_trainable_modules: str = Field("all", description="train only these modules of the layers, with commas")
    freeze_extra_modules: str | None = Field(None, description="train these modules outside the layers too")
    use_llama_pro: bool = Field(False, description="the layers that train lie at equal distances, the last among them")
    max_samples: int | None = Field(None, ge=1, description="use at most this many rows of each dataset")
    cutoff_len: int | None = Field(None, ge=8, description="tokens of a row; longer ones are cut; default 2048")
    max_source_length: int | None = Field(None, ge=4, description="with the next one: their sum is the cutoff_len")
    max_target_length: int | None = Field(None, ge=4)
    val_size: float | None = Field(
        None, ge=0, description="rows held out: about a share below 1, or a number; default 0.1 without dev rows"
    )
    eval_dataset: str | None = Field(None, description="datasets to hold out instead; their rows are not trained on")
    drop_budget: float = Field(0.01, ge=0, le=1, description="share of unusable rows above which nothing is trained")
    mix_strategy: Literal["concat", "interleave_under", "interleave_over"] = Field(
        "concat", description="interleave_…: every batch holds the datasets in the ratio of interleave_probs"
    )
    interleave_probs: str | None = Field(None, description="one number for each dataset, with commas; default: equal")
    lora_rank: int = Field(8, ge=1)
    lora_alpha: float | None = Field(None, gt=0, description="default: twice the rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    lora_target: str = Field("all", description="names of linear modules, with commas")
    additional_target: str | None = Field(None, description="modules trained whole and saved with the adapter")
    use_rslora: bool = Field(False, description="scale by alpha / sqrt(rank)")
    use_dora: bool = Field(False, description="train length and direction apart")
    pissa_init: bool = Field(False, description="begin with the weights' largest directions; saved at twice the rank")
    loraplus_lr_ratio: float | None = Field(None, ge=1, description="LoRA+: how much faster the second matrices learn")
    quantization_bit: Literal[4, 8] | None = Field(None, description="hold the base in so many bits while LoRA trains")
    quantization_type: Literal["nf4", "fp4"] = "nf4"
    double_quantization: bool = True
    oft_block_size: int = Field(32, ge=2)
    oft_target: str = "all"
    module_dropout: float = Field(0.0, ge=0, lt=1, description="of oft")
    pref_loss: Literal["sigmoid", "hinge", "ipo", "orpo", "simpo"] = Field("sigmoid", description="of the stage dpo")
    pref_beta: float = Field(0.1, gt=0, description="of the stages dpo and kto")
    pref_ftx: float = Field(0.0, ge=0, description="weight of the chosen answers' own loss in dpo")
    simpo_gamma: float = Field(0.5, ge=0)
    kto_chosen_weight: float = Field(1.0, ge=0)
    kto_rejected_weight: float = Field(1.0, ge=0)
    neftune_noise_alpha: float | None = Field(None, gt=0, description="noise on the embeddings while training")
    learning_rate: float | None = Field(None, gt=0, description="default: chosen for the model's size")
    num_train_epochs: float = Field(3.0, gt=0)
    max_steps: int | None = Field(None, description="exactly so many steps, whatever num_train_epochs says; -1: off")
    per_device_train_batch_size: int = Field(8, ge=1)
    gradient_accumulation_steps: int = Field(1, ge=1)
    lr_scheduler_type: str = "linear"
    warmup_ratio: float = Field(0.0, ge=0, le=1)
    warmup_steps: float = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    optim: str | None = Field(None, description="an optimizer by transformers' name; default AdamW")
    eval_strategy: Literal["no", "steps", "epoch"] = Field("no", description="when held-out rows are looked at")
    eval_steps: int | None = Field(None, ge=1, description="steps from one look to the next")
    early_stopping_steps: int | None = Field(None, ge=1, description="stop after so many looks without a better loss")
    deepspeed: Path | None = Field(None, description="a DeepSpeed JSON file")
    fsdp: str | None = Field(None, description="full_shard: each process holds a part of the weights (FSDP2)")
    processes: int = Field(1, ge=1, description="nacre's own: how many train together on this machine")
    logging_steps: int = Field(10, ge=1)
    save_steps: int = Field(500, ge=1, description="steps between two checkpoints")
    seed: int = Field(42, ge=0)
    fp16: bool = Field(False, description="16-bit training; on a CPU bf16 or fp32 takes its place, and it is said")
    bf16: bool = False
    gradient_checkpointing: bool | None = Field(
        None, description="less memory, more time; left out: where memory would not suffice without it"
    )
    disable_gradient_checkpointing: bool = Field(False, description="the same as gradient_checkpointing: false")
    plot_loss: bool = Field(False, description="draw training_loss.png")
    report_to: str = Field("none", description="tensorboard, mlflow, wandb, several with commas, or none")
    overwrite_output_dir: bool = Field(False, description="replace what output_dir holds")


def kind_of(given: Mapping[str, Any]) -> str:
    """The finetuning_type: what was given, or else what the other arguments ask for.

    Args:
        given: the arguments that were given, without those that are None.
    """
    if given.get("finetuning_type") is not None:
        return str(given["finetuning_type"])
    if given.get("trainable_layers") == "all":
        return "full"
    return "freeze" if given.get("prev_model") or any(name in given for name in LAYERS) else "lora"
