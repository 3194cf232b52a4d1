"""The contestants that live in nacre's environment: nacre itself, TRL's SFTTrainer and transformers' Trainer.

    python benchmarks/speed/contestants.py NAME FOLDER STEPS

Started by train.py, which gives the turns.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer
from turns import take_turns

from nacre.records import Example, Recipe, Weights
from nacre.train.job import Job
from nacre.train.run import train

RATE = 1e-9  # so small that every step computes the same loss
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
REPLAY = {"name": "replay", "share": 0.25}
DISTILL = {"name": "distill", "on": ["generic", "replayed"], "weight": 0.1, "replayed_weight": 0.3, "rows": 1}
NACRE = {  # what differs between nacre's own contestants
    "nacre": {},
    "nacre, trunk cache off": {"train": {"trunk_cache": "off"}},
    "nacre fp32": {"train": {"precision": "fp32"}},
    "replay": {"protect": [REPLAY]},
    "replay and distill, teacher asked once": {"protect": [REPLAY, DISTILL | {"cache": 256}]},
    "replay and distill, teacher asked each time": {"protect": [REPLAY, DISTILL]},
}


def nacre(name: str, folder: Path, case: dict[str, Any], steps: int) -> None:
    """nacre's own training, by the call that `nacre train` makes."""
    rows = {kind: _examples(folder / f"{kind}.jsonl") for kind in ("new", "old")}
    changes = NACRE[name]
    settings = {
        "learning_rate": RATE,
        "batch_size": case["batch"],
        "min_steps": steps,
        "max_steps": steps,
        "epochs": 1.0,
        "warmup": 0.0,
        "scheduler": "constant",
        "logging_steps": 1,
        "save_steps": 10**6,
    }
    recipe = {
        "tune": case["tune"],
        "train": settings | changes.get("train", {}),
        "protect": changes.get("protect", "none"),
    }
    place = folder / "runs" / name.replace(" ", "-").replace(",", "")
    start = Weights(identity="speed" * 12, model=str(folder / "model"))
    job = Job(
        start=start,
        recipe=Recipe.model_validate(recipe),
        new=rows["new"],
        memory={"old": rows["old"]} if "protect" in changes else {},
        general=folder / "general.txt",
        work=place / "run",
        shared=place / "memory",
    )
    train(job)


def _examples(path: Path) -> list[Example]:
    return [Example.model_validate_json(line) for line in path.read_text().splitlines()]


COMMON = {
    "learning_rate": RATE,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


def _model(folder: Path, case: dict[str, Any], dtype: torch.dtype) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype)
    if case["tune"]["name"] == "lora":
        rank = case["tune"]["rank"]
        return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS))
    model.requires_grad_(False)
    for layer in model.model.layers[-case["tune"]["trainable_layers"] :]:
        layer.requires_grad_(True)
    return model


def hf(name: str, folder: Path, case: dict[str, Any], steps: int) -> None:
    """transformers' Trainer in float32, rows padded to the longest."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    options = COMMON | {"output_dir": str(folder / "runs" / "hf"), "max_steps": steps}
    arguments = TrainingArguments(**options, per_device_train_batch_size=case["batch"])
    collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
    rows = Dataset.from_list(json.loads((folder / "tokens.json").read_text()))
    Trainer(
        model=_model(folder, case, torch.float32), args=arguments, train_dataset=rows, data_collator=collator
    ).train()


TRL = {
    "TRL default": {},
    "TRL padding-free": {"padding_free": True, "max_length": None, "gradient_checkpointing": False},
    "TRL packing": {"packing": True, "packing_strategy": "bfd", "gradient_checkpointing": False},
    "TRL padding-free fp32": {
        "padding_free": True,
        "max_length": None,
        "gradient_checkpointing": False,
        "bf16": False,
    },
}


def trl(name: str, folder: Path, case: dict[str, Any], steps: int) -> None:
    """TRL's supervised trainer."""
    options = COMMON | {"output_dir": str(folder / "runs" / "trl"), "max_steps": steps, "max_length": 1024}
    options |= {"per_device_train_batch_size": case["batch"]} | TRL[name]
    rows = json.loads((folder / "tokens.json").read_text())
    if options.get("packing"):  # as many packs a step as hold the rows of a batch
        options["max_length"] = sum(sorted(len(row["input_ids"]) for row in rows)[-case["batch"] :])
        options["per_device_train_batch_size"] = 1
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    SFTTrainer(
        model=_model(folder, case, torch.float32),
        args=SFTConfig(**options),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    ).train()


def main() -> None:
    """Train until nobody asks for another step."""
    name, folder, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    case = json.loads((folder / "case.json").read_text())
    take_turns()
    run = nacre if name in NACRE else trl if name in TRL else hf
    run(name, folder, case, steps)


if __name__ == "__main__":
    main()
