"""LlamaFactory's arguments: each is done, remarked on, or named in one report; never passed over."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from nacre.base.errors import InputError
from nacre.cli.llamafactory import ALIASES, KEYS, Arguments, read_arguments, to_arguments, to_job
from nacre.cli.llamafactory.check import CHOICES, TRACKERS, remarks
from nacre.cli.llamafactory.keys import Idle, Refused
from nacre.cli.llamafactory.read import typed
from nacre.records import Recipe
from nacre.train import optimizers
from workspace_kit import ROOT, Place, assert_clear

NEEDED = {"model_name_or_path": "MODEL", "dataset": "base", "output_dir": "out"}


def refusal(**keys: Any) -> str:
    with pytest.raises(InputError) as refused:
        to_arguments(NEEDED | keys, "some.yaml")
    assert refused.value.where == "some.yaml"
    return refused.value.what


def test_all_that_is_wrong_stands_in_one_report_and_nothing_is_written(tmp_path: Path) -> None:
    keys = {
        "dataset": "base",
        "output_dir": "out",
        "stage": "ppo",
        "finetuning_type": "lorra",
        "learing_rate": 1e-4,
        "learning_rate": "1e-3x",
        "template": "qwen99",
        "use_galore": True,
        "galore_rank": 8,
        "mask_history": True,
        "quantization_method": "gptq",
        "neftune_noise_alpha": -1,
    }
    (tmp_path / "their.yaml").write_text(yaml.safe_dump(keys))
    found = Place(tmp_path).nacre("train", "their.yaml")
    assert_clear(
        found,
        "10 arguments cannot be used as they are",
        "unknown argument '--learing_rate': did you mean '--learning_rate'?",
        "stage: ppo is not supported: instead: stage dpo, on pairs of answers",
        "finetuning_type: lorra is not supported: did you mean 'lora'?",
        "template: qwen99 is not supported: did you mean 'qwen'?",
        "use_galore: True is not supported: nacre does not have this optimiser; instead: finetuning_type lora",
        "mask_history: True is not supported: every answer of a dialogue is trained; instead: give each",
        "quantization_method: gptq is not supported: the base is quantised by bitsandbytes alone; instead:",
        "learning_rate: '1e-3x' cannot be used",
        "neftune_noise_alpha: -1 cannot be used",
        "--model_name_or_path is missing",
        "where: their.yaml",
    )
    assert "galore_rank" not in found.err
    assert [path.name for path in tmp_path.iterdir()] == ["their.yaml"]
    as_json = Place(tmp_path).json("train", "their.yaml", code=2)
    assert as_json["error"]["where"] == "their.yaml"


def test_the_trackers_are_those_of_the_code() -> None:
    from nacre.records import Train

    assert Train(report_to=TRACKERS).report_to == TRACKERS
    arguments, _ = to_arguments(NEEDED | {"report_to": ["tensorboard", "wandb"]}, "here")
    assert arguments.report_to == "tensorboard,wandb"


def test_one_mistake_is_one_sentence() -> None:
    assert refusal(replay_sample=3) == "unknown argument '--replay_sample': did you mean '--replay_samples'?"
    assert refusal(qqq=3) == "unknown argument '--qqq': no argument of that name is known"
    assert "one of lora, freeze, full, oft" in refusal(finetuning_type="?")


def test_what_is_not_supported_is_refused_with_the_nearest_there_is() -> None:
    plain = to_arguments(NEEDED, "here")
    words = {*Arguments.model_fields, "num_samples", "dataset_info", "trainer_log"}
    for name, key in KEYS.items():
        if isinstance(key, Refused):
            said = refusal(**{name: "something"})
            assert said == f"{name}: something is not supported: {key.why}; instead: {key.instead}"
            assert all(to_arguments(NEEDED | {name: off}, "here") == plain for off in key.off), name
            assert set(re.findall(r"\b[a-z]+_[a-z_]+\b", key.instead)) <= words, name


def test_what_has_no_effect_is_said_unless_nothing_was_asked() -> None:
    plain = to_arguments(NEEDED, "here")
    for name, key in KEYS.items():
        if isinstance(key, Idle):
            assert to_arguments(NEEDED | {name: "something"}, "here") == (plain[0], [f"{name}: {key.why}"])
            assert all(to_arguments(NEEDED | {name: off}, "here") == plain for off in key.off), name


def test_every_argument_of_the_trainer_below_is_known() -> None:
    from transformers import Seq2SeqTrainingArguments

    theirs = {field.name for field in dataclasses.fields(Seq2SeqTrainingArguments)}
    assert theirs <= {*Arguments.model_fields, *KEYS}
    assert not set(Arguments.model_fields) & set(KEYS)
    assert set(ALIASES.values()) <= set(Arguments.model_fields)


def test_every_key_of_llamafactory_is_known() -> None:
    text = (Path(__file__).parent / "llamafactory_keys.txt").read_text(encoding="utf-8")
    theirs = [name for line in text.splitlines() if not line.startswith("#") for name in line.split()]
    assert len(theirs) == len(set(theirs)) == 379
    assert set(theirs) <= {*Arguments.model_fields, *ALIASES, *KEYS}
    assert not set(ALIASES) & {*Arguments.model_fields, *KEYS}
    assert all(key.why and key.instead if isinstance(key, Refused) else key.why for key in KEYS.values())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"use_ray": True, "ray_num_workers": 4}, "instead: --launch ray --processes N on the command line"),
        ({"ray_num_workers": 4}, "ray_num_workers: 4 is not supported: the command says how many workers there are;"),
        ({"ray_init_kwargs": {"num_cpus": 2}}, "instead: RAY_ADDRESS and --launch ray --processes N"),
        ({"master_addr": "10.0.0.1"}, "instead: --master ADDRESS:PORT with --launch torchrun"),
        ({"enable_torch_profiler": True}, "py-spy record -- nacre train FILE"),
        ({"kt_weight_path": "W"}, "through KTransformers; instead: deepspeed with a file that offloads"),
        ({"no_cuda": True}, "instead: CUDA_VISIBLE_DEVICES="),
        ({"task": "mmlu_test"}, "which LlamaFactory does with another command; instead: afterwards: nacre lm-eval run"),
        ({"batch_size": 4}, "instead: per_device_train_batch_size"),
    ],
)
def test_a_key_of_their_launchers_and_other_commands_gets_what_does_that_here(keys: Any, said: str) -> None:
    assert said in refusal(**keys)


def test_what_talks_to_a_model_is_set_aside_and_their_defaults_ask_for_nothing() -> None:
    usual = {
        "vllm_maxlen": 4096, "vllm_gpu_util": 0.7, "vllm_enforce_eager": False, "vllm_max_lora_rank": 32,
        "vllm_config": None, "sglang_maxlen": 4096, "sglang_mem_fraction": 0.7, "sglang_tp_size": -1,
        "sglang_config": None, "sglang_lora_backend": "triton", "ray_num_workers": 1, "ray_init_kwargs": None,
        "enable_torch_profiler": False, "profiler_wait_steps": 1, "profiler_repeat": 1, "profiler_with_stack": True,
        "save_safetensors": True, "half_precision_backend": "auto", "fp16_opt_level": "O1", "fsdp_min_num_params": 0,
        "past_index": -1, "ray_scope": "last", "mp_parameters": "", "kt_use_lora_experts": None,
    }  # fmt: skip
    assert to_arguments(NEEDED | usual, "here") == to_arguments(NEEDED, "here")
    _, notes = to_arguments(NEEDED | {"vllm_config": {"a": 1}, "sglang_tp_size": 2}, "here")
    assert notes == ["vllm_config: has no effect on training", "sglang_tp_size: has no effect on training"]


def test_the_trainers_own_defaults_ask_for_nothing() -> None:
    from transformers import Seq2SeqTrainingArguments

    usual = {
        field.name: field.default
        for field in dataclasses.fields(Seq2SeqTrainingArguments)
        if field.name in KEYS and isinstance(KEYS[field.name], Refused) and field.default is not dataclasses.MISSING
    }
    to_arguments(NEEDED | usual, "here")


def test_the_choices_are_those_of_the_code() -> None:
    for name, known in CHOICES.items():
        annotation = Arguments.model_fields[name].annotation
        if name not in ("lr_scheduler_type", "template"):
            options = {value for part in (annotation, *get_args(annotation)) for value in get_args(part)}
            assert set(known) <= options, name


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"adapter_name_or_path": "one,two"}, "several adapters are not supported"),
        ({"adapter_name_or_path": "one", "create_new_adapter": True}, "useless without it"),
        ({"quantization_bit": 4, "finetuning_type": "full"}, "not supported with finetuning_type full"),
        ({"quantization_bit": 3}, "quantization_bit: 3 cannot be used"),
        ({"quantization_bit": 4, "pissa_init": True}, "keeps no exact directions"),
        ({"val_size": 0.1, "eval_dataset": "other"}, "cannot be used beside val_size"),
        ({"mix_strategy": "interleave_once"}, "instead: concat, which too takes every row once"),
        ({"interleave_probs": "1"}, "has no meaning without mix_strategy"),
        ({"mix_strategy": "interleave_under", "interleave_probs": "1,2"}, "1 datasets need as many numbers"),
        ({"fsdp": "shard_grad_op"}, "instead: full_shard"),
        ({"do_train": False}, "do_train: False cannot be used"),
        ({"pref_loss": "kto_pair"}, "instead: stage kto"),
        ({"do_predict": True}, "python src/evaluate.py"),
        ({"report_to": "swanlab"}, "nacre does not report to it"),
        ({"tokenized_path": "saves/tokens"}, "nacre data check"),
        ({"enable_thinking": False}, "template: qwen3_nothink"),
        ({"freeze_trainable_layers": 0}, "freeze_trainable_layers: 0 layers cannot train"),
        (
            {"trainable_layers": 0},
            "trainable_layers: 0 layers cannot train; instead: 1 or more, or finetuning_type lora",
        ),
        ({"trainable_layers": 0, "freeze_layers": 2}, "trainable_layers: 0 layers cannot train"),
        (
            {"deepspeed": "nope.json"},
            "deepspeed: there is no file nope.json; instead: the path of a DeepSpeed JSON file",
        ),
        (
            {"deepspeed": {"zero_optimization": {"stage": 3}}},
            "deepspeed: a mapping is not supported; instead: the path of a DeepSpeed JSON file",
        ),
        ({"deepspeed": 300 * "x"}, "xxx; instead: the path of a DeepSpeed JSON file"),
        ({"deepspeed": 5}, "deepspeed: 5 is not supported; instead: the path of a DeepSpeed JSON file"),
        ({"drop_budget": 1.5}, "drop_budget: 1.5 cannot be used"),
        ({"drop_budget": -0.1}, "drop_budget: -0.1 cannot be used"),
        ({"use_llama_pro": True}, "instead: finetuning_type freeze"),
        ({"quantization_bit": 4, "freeze_trainable_layers": 2}, "not supported with finetuning_type freeze"),
        ({"optim": "adamw_torchh"}, "optim: unknown optimizer 'adamw_torchh'; instead: did you mean 'adamw_torch'?"),
        ({"optim": "galore_adamw"}, "which no setting names; instead: adafactor"),
        ({"optim": "lomo"}, "inside the backward pass, where nothing can be protected; instead: adafactor"),
        ({"optim": "schedule_free_sgd"}, "needs the package schedulefree, which is not installed; instead: sgd"),
        ({"loraplus_lr_embedding": 1e-5}, "learn at the common rate; instead: learning_rate"),
        ({"fsdp": "full_shard offload"}, "instead: full_shard"),
        ({"fsdp_config": {"fsdp_offload_params": True}}, "instead: deepspeed with a file that offloads"),
        ({"train_sampling_strategy": "group_by_length"}, "is fixed by the seed"),
        ({"do_eval": True}, "instead: eval_strategy: epoch"),
        ({"eval_steps": 0.1}, "eval_steps: 0.1 as a share of all steps is not supported; instead: eval_strategy epoch"),
        ({"save_steps": 0.1}, "instead: a number of steps"),
    ],
)
def test_what_does_not_go_together_or_is_not_there_is_told_with_a_way_out(keys: dict[str, Any], said: str) -> None:
    assert said in refusal(**keys)


@pytest.mark.parametrize(
    "value", [{"stage": 3}, {"x": 300 * "x"}, 300 * "x", 5], ids=["dict", "long", "name", "number"]
)
def test_a_deepspeed_that_is_no_file_is_told_once_and_beside_the_others(value: Any) -> None:
    said = refusal(deepspeed=value, report_to="swanlab")
    assert said.startswith("2 arguments cannot be used")
    assert said.count("deepspeed: ") == 1
    assert "report_to: swanlab is not supported" in said


def test_a_long_word_for_the_config_of_sharding_is_no_file() -> None:
    to_arguments(NEEDED | {"fsdp_config": 300 * "x"}, "here")


def test_every_optimizer_of_the_trainer_below_is_known() -> None:
    from transformers.training_args import OptimizerNames

    assert {one.value for one in OptimizerNames} == {*optimizers.KNOWN, *optimizers.REFUSED}
    for name in (*optimizers.PLAIN, "adamw_hf"):
        to_arguments(NEEDED | {"optim": name}, "here")


def test_a_config_for_sharding_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "fsdp.json").write_text('{"offload_params": true}')
    assert "main memory" in refusal(fsdp_config=str(tmp_path / "fsdp.json"))
    (tmp_path / "fsdp.json").write_text('{"reshard_after_forward": true}')
    to_arguments(NEEDED | {"fsdp_config": str(tmp_path / "fsdp.json")}, "here")


def translated(tmp_path: Path, **keys: Any) -> tuple[Recipe, list[str]]:
    """The recipe and the remarks for a model of four layers."""
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text('{"num_hidden_layers": 4}')
    given = NEEDED | {"model_name_or_path": str(model), "dataset_dir": str(tmp_path)} | keys
    job, notes = to_job(to_arguments(given, "here")[0])
    return job.recipe, notes


def two_of_a_name(folder: Path) -> None:
    """Two datasets that a model would learn under one name."""
    for path in (folder / "x" / "train.json", folder / "z" / "x" / "train.jsonl"):
        path.parent.mkdir(parents=True)
        path.write_text('{"instruction": "a", "output": "b"}')


def test_datasets_of_one_name_cannot_be_mixed_by_ratio(tmp_path: Path) -> None:
    two_of_a_name(tmp_path)
    mixed = {"dataset": "x,z/x", "mix_strategy": "interleave_over", "interleave_probs": "0.9,0.1"}
    with pytest.raises(InputError) as refused:
        translated(tmp_path, **mixed)
    error = refused.value
    assert error.what == "two datasets to mix are both called 'x'"
    assert error.where == f"{tmp_path / 'x' / 'train.json'}, {tmp_path / 'z' / 'x' / 'train.jsonl'}"
    assert "dataset_info.json" in error.fix
    (tmp_path / "dataset_info.json").write_text('{"other": {"file_name": "z/x/train.jsonl"}}')
    recipe, _ = translated(tmp_path, **mixed | {"dataset": "x,other"})
    assert recipe.train.mix == {"x": 0.9, "other": 0.1}
    translated(tmp_path, dataset="x,z/x")


def test_the_budget_for_unusable_rows_is_passed_on(tmp_path: Path) -> None:
    given = NEEDED | {"dataset_dir": str(tmp_path)}
    assert to_job(to_arguments(given, "here")[0])[0].drop_budget == 0.01
    assert to_job(to_arguments(given | {"drop_budget": 0.25}, "here")[0])[0].drop_budget == 0.25


def test_a_number_of_steps_is_exactly_that(tmp_path: Path) -> None:
    recipe, notes = translated(tmp_path, max_steps=1000, num_train_epochs=3)
    assert (recipe.train.min_steps, recipe.train.max_steps) == (1000, 1000)
    assert "num_train_epochs: has no effect beside max_steps" in notes
    recipe, _ = translated(tmp_path, max_steps=-1)
    assert (recipe.train.min_steps, recipe.train.max_steps) == (1, None)


@pytest.mark.parametrize(
    ("keys", "trained"),
    [
        ({"freeze_trainable_modules": "mlp"}, ["layers.2.mlp", "layers.3.mlp"]),
        ({"freeze_trainable_layers": -2}, ["layers.0", "layers.1"]),
        ({"trainable_layers": 1, "freeze_trainable_modules": "mlp"}, ["layers.3.mlp"]),
        ({"freeze_layers": 3, "freeze_trainable_modules": "mlp"}, ["layers.3.mlp"]),
        ({"freeze_extra_modules": "lm_head", "freeze_trainable_layers": 1}, ["layers.3", "lm_head"]),
    ],
)
def test_layers_that_are_named_train_with_or_without_a_kind(tmp_path: Path, keys: Any, trained: list[str]) -> None:
    for kind in (None, "freeze"):
        recipe, notes = translated(tmp_path, finetuning_type=kind, **keys)
        assert recipe.tune.name == "full"
        assert recipe.protect[0] == {"name": "freeze", "trained": trained}
        assert ("finetuning_type freeze: chosen because none was given" in notes) == (kind is None)
    other, said = translated(tmp_path, finetuning_type="lora", **keys)
    assert (other.tune.name, other.protect) == ("lora", ())
    assert {f"{key}: has no effect with finetuning_type lora" for key in keys} <= set(said)


@pytest.mark.parametrize("key", ["trainable_layers", "freeze_trainable_layers"])
def test_no_layers_mean_nothing_where_an_adapter_trains(tmp_path: Path, key: str) -> None:
    recipe, notes = translated(tmp_path, finetuning_type="lora", **{key: 0})
    assert recipe.tune.name == "lora"
    assert f"{key}: has no effect with finetuning_type lora" in notes


def test_packing_is_taken_for_what_is_done_anyway_and_it_is_said() -> None:
    plain, _ = to_arguments(NEEDED, "here")
    for key in ("packing", "neat_packing"):
        arguments, notes = to_arguments(NEEDED | {key: True}, "here")
        assert arguments == plain
        assert len(notes) == 1
        assert "no row sees another" in notes[0]


def test_looks_come_as_the_strategy_says(tmp_path: Path) -> None:
    assert translated(tmp_path, eval_strategy="epoch")[0].train.eval_steps == "epoch"
    recipe, notes = translated(tmp_path, eval_strategy="steps", logging_steps=7)
    assert recipe.train.eval_steps == 7
    assert "eval_steps 7: logging_steps, because none was given" in notes
    assert not any("val_size" in note for note in notes)
    _, notes = translated(tmp_path, eval_strategy="epoch", val_size=0)
    assert any("val_size 0 holds no rows out" in note for note in notes)


def test_a_warm_up_over_all_steps_is_no_single_step(tmp_path: Path) -> None:
    warmup = translated(tmp_path, warmup_ratio=1.0)[0].train.warmup
    assert warmup < 1
    assert round(warmup * 100_000) == 100_000
    assert translated(tmp_path, warmup_steps=1)[0].train.warmup == 1


def test_a_margin_without_the_loss_that_has_one_is_said(tmp_path: Path) -> None:
    said = "simpo_gamma: has no effect with pref_loss sigmoid"
    assert said in translated(tmp_path, stage="dpo", simpo_gamma=1.0)[1]
    assert said not in translated(tmp_path, stage="dpo", simpo_gamma=1.0, pref_loss="simpo")[1]


def test_words_are_typed_as_in_yaml() -> None:
    words = {
        "null": None, "true": True, "False": False, "3": 3, "-1": -1, "1e-4": 1e-4, "5.0e-6": 5e-6, ".5": 0.5,
        "[a, 1]": ["a", 1], "{a: 1}": {"a": 1}, "a": "a", "1-2": "1-2", "[": "[", "none": "none",
    }  # fmt: skip
    assert {word: typed(word) for word in words} == words


def test_files_flags_and_words_come_in_any_order_and_later_ones_win(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("learning_rate: 1e-4\nlr_scheduler_type: cosine\nbf16: true\n")
    (tmp_path / "b.json").write_text('{\n\t"lr": 0.5,\n\t"data_path": ["one", "two"]\n}')
    found = read_arguments([str(tmp_path / "a.yaml"), "bf16=false", "--do-train", str(tmp_path / "b.json"), "--seed=7"])
    assert found == {
        "learning_rate": 0.5,
        "lr_scheduler_type": "cosine",
        "bf16": False,
        "do_train": True,
        "dataset": ["one", "two"],
        "seed": 7,
    }
    arguments, _ = to_arguments(NEEDED | found | {"run_name": 2024, "eval_strategy": False, "template": None}, "here")
    assert (arguments.dataset, arguments.eval_strategy, arguments.template) == ("one,two", "no", None)


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"export_dir": "out", "adapter_name_or_path": "a", "template": "qwen3"}, "merges an adapter into its model"),
        (
            {"infer_backend": "huggingface", "adapter_name_or_path": "a"},
            "python src/api_demo.py --model_name_or_path a",
        ),
        (
            {"task": "mmlu_test", "template": "fewshot", "lang": "en"},
            "nacre lm-eval run --tasks NAMES scores a version",
        ),
    ],
)
def test_a_file_for_another_command_is_sent_there(tmp_path: Path, keys: dict[str, str], part: str) -> None:
    (tmp_path / "their.yaml").write_text(yaml.safe_dump({"model_name_or_path": "M", **keys}))
    assert_clear(Place(tmp_path).nacre("train", "their.yaml"), part, "where: their.yaml")


@pytest.mark.parametrize("text", ["a: [\n", "- a\n", '{"a": '], ids=["yaml", "list", "json"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    name = "their.json" if text.startswith("{") else "their.yaml"
    (tmp_path / name).write_text(text)
    assert_clear(Place(tmp_path).nacre("train", name), f"where: {name}")
    assert_clear(Place(tmp_path).nacre("train", "nowhere.yaml"), "the file does not exist")
    assert_clear(Place(tmp_path).nacre("train", "words"), "neither a flag nor a settings file")


@pytest.mark.parametrize("page", ["docs/llamafactory.md", "docs/zh/llamafactory.md"])
def test_the_page_lists_every_key_with_what_becomes_of_it(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| (no effect|refused|无影响|拒绝|支持) \|", text, re.MULTILINE))
    listed |= dict.fromkeys(re.findall(r"^\| `--(\w+)`", text, re.MULTILINE), "done")
    words = {"no effect": ("no effect", "无影响"), "refused": ("refused", "拒绝")}
    told = {name: kind for name, kind, _ in remarks()}
    assert {name: listed.get(name) in words[kind] for name, kind in told.items()} == dict.fromkeys(told, True)
    done = {name for name, what in listed.items() if what in ("done", "支持")}
    assert done == set(Arguments.model_fields)
    assert set(listed) == done | set(told)


def test_the_numbers_in_json_files_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"lr": "1e-4", "output_dir": "2"}))
    arguments, _ = to_arguments(NEEDED | read_arguments([str(tmp_path / "a.json")]), "here")
    assert (arguments.learning_rate, arguments.output_dir) == (1e-4, Path("2"))
