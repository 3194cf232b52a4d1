"""Settings files in LlamaFactory's style run as they are: five stages, three ways to tune, its words for the output."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from workspace_kit import Outcome, Place, assert_clear, rows, write_lines

if TYPE_CHECKING:
    from toy_kit import Toy

COMMON = """
### model
model_name_or_path: some-org/some-model
trust_remote_code: true

### method
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all

### dataset
cutoff_len: 64
max_samples: 30
preprocessing_num_workers: 16
dataloader_num_workers: 4

### output
logging_steps: 1
save_steps: 500
plot_loss: true
overwrite_output_dir: true
save_only_model: false
report_to: none  # choices: [none, wandb, tensorboard]

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
"""
FILES = {
    "pretrain": "stage: pt\ndataset: pages\nlearning_rate: 1.0e-4\noutput_dir: saves/lora/pretrain\n",
    "sft": "stage: sft\ndataset: talk,more\ntemplate: llama3\nlearning_rate: 1e-4\noutput_dir: saves/lora/sft\n",
    "reward": "stage: rm\ndataset: pairs\ntemplate: llama3\nlearning_rate: 1.0e-4\noutput_dir: saves/lora/reward\n",
    "dpo": "stage: dpo\npref_beta: 0.1\npref_loss: sigmoid  # choices: [sigmoid (dpo), orpo, simpo]\ndataset: pairs\n"
    "template: llama3\nlearning_rate: 5.0e-6\noutput_dir: saves/lora/dpo\n",
    "kto": "stage: kto\npref_beta: 0.1\ndataset: judged\ntemplate: llama3\nlearning_rate: 5.0e-6\n"
    "output_dir: saves/lora/kto\n",
    "full": "stage: sft\ndataset: talk\ntemplate: default\nlearning_rate: 1.0e-5\noutput_dir: saves/full/sft\n"
    "finetuning_type: full\n",
    "freeze": "stage: sft\ndataset: talk\ntemplate: default\nlearning_rate: 1.0e-5\noutput_dir: saves/freeze/sft\n"
    "finetuning_type: freeze\nfreeze_trainable_layers: 1\n",
}
INFO = {
    "talk": {"file_name": "talk.json"},
    "more": {"file_name": "more.jsonl", "formatting": "sharegpt", "columns": {"messages": "conversations"}},
    "pages": {"file_name": "pages.jsonl", "columns": {"prompt": "text"}},
    "pairs": {
        "file_name": "pairs.json",
        "ranking": True,
        "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"},
    },
    "judged": {
        "file_name": "judged.json",
        "columns": {"prompt": "instruction", "response": "output", "kto_tag": "good"},
    },
}


def settings(name: str, **changes: Any) -> str:
    """The file of that name; later keys take the place of earlier ones."""
    return yaml.safe_dump({**yaml.safe_load(COMMON), **yaml.safe_load(FILES[name]), **changes})


@pytest.fixture
def clone(tmp_path: Path) -> Place:
    """A folder as people keep it for LlamaFactory: data with dataset_info.json, and settings in examples."""
    data, found = tmp_path / "data", rows("paint")[:40]
    write_lines(data / "dataset_info.json", [])
    (data / "dataset_info.json").write_text(json.dumps(INFO))
    (data / "talk.json").write_text(json.dumps(found))
    turns = [
        {"conversations": [{"from": "human", "value": row["instruction"]}, {"from": "gpt", "value": row["output"]}]}
        for row in rows("feed")[:20]
    ]
    write_lines(data / "more.jsonl", turns)
    write_lines(data / "pages.jsonl", [{"text": f"{row['instruction']} {row['output']}"} for row in found])
    pairs = [{"instruction": row["instruction"], "chosen": row["output"], "rejected": "stone"} for row in found]
    (data / "pairs.json").write_text(json.dumps(pairs))
    judged = [{**row, "good": place % 2 == 0} for place, row in enumerate(found)]
    (data / "judged.json").write_text(json.dumps(judged))
    for name in FILES:
        path = tmp_path / "examples" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{COMMON}\n{FILES[name]}" if "finetuning" not in FILES[name] else settings(name))
    return Place(tmp_path)


def trained(place: Place, name: str, toy: "Toy", *words: str) -> tuple[Outcome, Path]:
    found = place.nacre("train", f"examples/{name}.yaml", f"model_name_or_path={toy.base.model}", *words)
    assert found.code == 0, found
    return found, place.root / str(yaml.safe_load(FILES[name])["output_dir"])


@pytest.mark.parametrize("name", FILES)
def test_the_file_runs_and_writes_what_its_readers_expect(clone: Place, toy: "Toy", name: str) -> None:
    said, output = trained(clone, name, toy, "max_steps=2", "bf16=false")
    weights = "model.safetensors" if name in ("full", "freeze") else "adapter_model.safetensors"
    written = {path.name for path in output.iterdir()}
    assert {weights, "tokenizer.json", "trainer_log.jsonl", "trainer_state.json", "all_results.json"} <= written
    assert {"train_results.json", "training_loss.png"} <= written
    log = [json.loads(line) for line in (output / "trainer_log.jsonl").read_text().splitlines()]
    last = next(entry for entry in reversed(log) if "loss" in entry)
    assert (last["current_steps"], last["total_steps"], last["percentage"]) == (2, 2, 100.0)
    assert last["lr"] == last["learning_rate"]
    assert re.fullmatch(r"\d+:\d\d:\d\d", last["elapsed_time"])
    assert last["remaining_time"] == "0:00:00"
    results = json.loads((output / "all_results.json").read_text())
    assert results["train_loss"] > 0
    assert results["train_runtime"] > 0
    assert results["epoch"] > 0
    manifest = json.loads((output / "nacre.json").read_text())
    recipe = manifest["recipe"]
    assert recipe["train"]["stage"] == {"pretrain": "pt", "reward": "rm"}.get(name, recipe["train"]["stage"])
    assert recipe["train"]["batch_size"] == 8
    assert "trust_remote_code: nacre never runs code" in said.out
    assert "save_only_model: output_dir holds the finished model alone" in said.out


@pytest.mark.slow
def test_the_template_is_saved_and_used(clone: Place, toy: "Toy") -> None:
    from nacre.cycle.increment.folder import folder_weights
    from nacre.model.chat import render
    from nacre.model.load import load_tokenizer
    from nacre.records import Message

    said, output = trained(clone, "full", toy, "max_steps=1", "bf16=false", "template=vicuna")
    tokenizer = load_tokenizer(folder_weights(str(output)))
    asked = render((Message(role="user", content="paint"),), tokenizer)
    assert asked.endswith("user's questions.USER: paint ASSISTANT:")
    said, output = trained(clone, "sft", toy, "max_steps=1", "bf16=false")
    assert "template llama3: the vocabulary has no token <|eot_id|>" in said.out


@pytest.mark.slow
def test_words_after_the_file_win_and_are_typed_as_in_yaml(clone: Place, toy: "Toy") -> None:
    words = ("max_steps=1", "bf16=false", "lora_target=[q_proj, v_proj]", "learning_rate=2e-3", "template=null",
             "output_dir=saves/other", "use_rslora=true", "--lora_rank", "4", "warmup_ratio=0")  # fmt: skip
    trained(clone, "sft", toy, *words)
    recipe = json.loads((clone.root / "saves" / "other" / "nacre.json").read_text())["recipe"]
    tune, train = recipe["tune"], recipe["train"]
    assert (tune["rank"], tune["target"], tune["rslora"]) == (4, ["q_proj", "v_proj"], True)
    assert (train["learning_rate"], train["template"], train["warmup"]) == (2e-3, None, 0)


@pytest.mark.slow
def test_held_out_rows_make_a_second_curve(clone: Place, toy: "Toy") -> None:
    words = ("max_steps=4", "bf16=false", "val_size=0.2", "eval_strategy=steps", "eval_steps=2")
    said, output = trained(clone, "sft", toy, *words, "per_device_eval_batch_size=1")
    assert "per_device_eval_batch_size: held-out rows are looked at in batches of the training's size" in said.out
    log = [json.loads(line) for line in (output / "trainer_log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "eval_loss" in entry] == [2, 4]
    assert (output / "training_eval_loss.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((output / "all_results.json").read_text())["eval_loss"] > 0
    lineage = json.loads((output / "nacre.json").read_text())["lineage"]
    assert lineage[0]["dev"]["rows"] >= 5


def test_other_datasets_can_be_held_out(clone: Place, toy: "Toy") -> None:
    _, output = trained(clone, "full", toy, "max_steps=1", "bf16=false", "eval_dataset=more")
    entry = json.loads((output / "nacre.json").read_text())["lineage"][0]
    assert (entry["train"]["rows"], entry["dev"]["rows"]) == (30, 20)


def test_no_held_out_rows_leave_no_file_of_them(clone: Place, toy: "Toy") -> None:
    said, _ = trained(clone, "full", toy, "max_steps=1", "bf16=false", "val_size=0")
    assert "dev_all.json" not in said.out
    assert not (clone.root / "data" / "dev_all.json").exists()
    trained(clone, "full", toy, "max_steps=1", "bf16=false", "val_size=0.2")
    assert (clone.root / "data" / "dev_all.json").stat().st_size


def test_unusable_rows_are_allowed_as_the_remedy_says(clone: Place, toy: "Toy") -> None:
    found = json.loads((clone.root / "data" / "talk.json").read_text())
    (clone.root / "data" / "talk.json").write_text(json.dumps([*found, {"instruction": "a", "output": None}]))
    words = (f"model_name_or_path={toy.base.model}", "max_steps=1", "bf16=false")
    assert_clear(clone.nacre("train", "examples/full.yaml", *words), "line 1, row 41", "drop_budget 0.03")
    trained(clone, "full", toy, "max_steps=1", "bf16=false", "drop_budget=0.03")


def test_datasets_are_mixed_by_ratio(clone: Place, toy: "Toy") -> None:
    words = ("mix_strategy=interleave_over", "interleave_probs=0.75,0.25", "max_steps=1", "bf16=false", "val_size=0")
    said, _ = trained(clone, "sft", toy, *words)
    assert "talk 75.0%" in said.out
    assert "more 25.0%" in said.out


@pytest.mark.parametrize(
    ("words", "moved"),
    [
        (["freeze_trainable_layers=-1"], {"layers.0"}),
        (["freeze_trainable_modules=mlp"], {"layers.1.mlp"}),
        (["freeze_extra_modules=norm"], {"layers.1", "norm"}),
        (["freeze_trainable_layers=1", "use_llama_pro=true"], {"layers.1"}),
    ],
)
def test_the_layers_and_modules_that_are_named_train_alone(
    clone: Place, toy: "Toy", words: list[str], moved: set[str]
) -> None:
    from safetensors.torch import load_file

    _, output = trained(
        clone, "freeze", toy, "max_steps=1", "bf16=false", "learning_rate=0.01", "warmup_ratio=0", *words
    )
    before, after = load_file(f"{toy.base.model}/model.safetensors"), load_file(output / "model.safetensors")
    changed = {name for name in after if not after[name].equal(before[name])}
    assert changed == {name for name in before if any(name.startswith(f"model.{part}.") for part in moved)}


def test_an_adapter_is_trained_on(clone: Place, toy: "Toy") -> None:
    _, first = trained(clone, "sft", toy, "max_steps=1", "bf16=false")
    again = ("max_steps=1", "bf16=false", "output_dir=saves/second", f"adapter_name_or_path={first}", "dataset=talk")
    trained(clone, "sft", toy, *again)
    manifest = json.loads((clone.root / "saves" / "second" / "nacre.json").read_text())
    assert manifest["parent"] == str(first)
    assert [entry["task"] for entry in manifest["lineage"]] == ["talk+more", "talk"]


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dataset", "template"),
    [
        ("pretrain", "c4_demo", "null"),
        ("sft", "identity,alpaca_zh_demo", "qwen3_nothink"),
        ("reward", "dpo_zh_demo", "qwen3_nothink"),
        ("dpo", "dpo_zh_demo", "qwen3_nothink"),
        ("kto", "kto_en_demo", "qwen3_nothink"),
    ],
)
def test_its_demo_data_runs_on_a_real_tokenizer(clone: Place, name: str, dataset: str, template: str) -> None:
    shared = Path(os.environ.get("NACRE_SHARED", Path(__file__).parents[3] / "shared"))
    if not (shared / "data" / "llamafactory").is_dir():
        pytest.skip("needs the shared data folder (NACRE_SHARED)")
    theirs = clone.root / "theirs"  # training puts dev_all.json beside the data, and what is shared stays as it is
    theirs.mkdir()
    for path in (shared / "data" / "llamafactory").glob("*.json*"):
        shutil.copyfile(path, theirs / path.name)
    words = (f"dataset={dataset}", f"dataset_dir={theirs}", f"template={template}")
    model = shared / "models" / "bilingual-700k"
    found = clone.nacre(
        "train", f"examples/{name}.yaml", f"model_name_or_path={model}", *words, "max_steps=1", "bf16=false"
    )
    assert found.code == 0, found
    output = clone.root / str(yaml.safe_load(FILES[name])["output_dir"])
    assert (output / "adapter_model.safetensors").is_file()
    assert json.loads((output / "all_results.json").read_text())["train_loss"] > 0
