"""LlamaFactory as a contestant, in its own environment: its trainer, its defaults for LoRA or freeze-tuning.

    LLAMAFACTORY_ENV/bin/python benchmarks/speed/llamafactory_worker.py FOLDER STEPS

Started by train.py. The rows come tokenised, as everybody's do.
"""

import json
import sys
from pathlib import Path

from datasets import Dataset, DatasetDict
from llamafactory.train.tuner import run_exp
from turns import take_turns

folder, steps = Path(sys.argv[1]), int(sys.argv[2])
case = json.loads((folder / "case.json").read_text())
rows = json.loads((folder / "tokens.json").read_text())
for row in rows:
    row |= {"attention_mask": [1] * len(row["input_ids"]), "images": None, "videos": None, "audios": None}
tokenized = folder / "runs" / "llamafactory-rows"
DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(str(tokenized))
tune = case["tune"]
lora = {"finetuning_type": "lora", "lora_rank": tune.get("rank"), "lora_target": "all"}
freeze = {"finetuning_type": "freeze", "freeze_trainable_layers": tune.get("trainable_layers")}
take_turns()
run_exp(
    {
        "model_name_or_path": str(folder / "model"),
        "stage": "sft",
        "do_train": True,
        "dataset": "rows",
        "tokenized_path": str(tokenized),
        "template": "empty",
        "cutoff_len": 1024,
        **(lora if tune["name"] == "lora" else freeze),
        "bf16": True,
        "use_cpu": True,
        "output_dir": str(folder / "runs" / "llamafactory"),
        "per_device_train_batch_size": case["batch"],
        "max_steps": steps,
        "learning_rate": 1e-9,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
)
