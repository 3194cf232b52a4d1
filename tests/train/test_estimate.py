"""The estimate of memory and time, the refusal of what cannot fit, and what is said when memory runs out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nacre.base.errors import InputError, NacreError
from nacre.model.load import load_tokenizer, parameter_count
from nacre.records import Recipe, Weights
from nacre.records.tune import TUNERS
from nacre.train import memory
from nacre.train.estimate import GIB, Device, Rows, device_now, estimate, shape_of, size
from nacre.train.memory import advice, changes, check_memory, memory_errors, needs_checkpointing, rows_of
from nacre.train.protect.build import chosen_of
from nacre.train.run import train
from toy_kit import Toy

QWEN_7B = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "max_position_embeddings": 32768,
    "dtype": "bfloat16",
}
ROWS = Rows(steps=300, longest=1024, mean=300)


def gpu(gib: float) -> Device:
    return Device("cuda", gib * GIB, 100e12)


def recipe_of(**settings) -> Recipe:
    tune, protect = settings.pop("tune", "full"), settings.pop("protect", "none")
    return Recipe.model_validate({"tune": tune, "protect": protect, "train": settings})


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """A model of seven billion parameters, of which nothing exists but the configuration."""
    folder = tmp_path_factory.mktemp("qwen")
    (folder / "config.json").write_text(json.dumps(QWEN_7B))
    return Weights(identity="qwen", model=str(folder))


def test_the_parameters_are_counted_without_weights(qwen, toy):
    assert shape_of(qwen, recipe_of().tune).total == 7_615_616_512
    assert shape_of(toy.base, recipe_of().tune).total == parameter_count(toy.base)


@pytest.mark.parametrize("tuner", TUNERS)
def test_what_trains_is_counted_as_the_tuner_counts_it(tuner, toy, tmp_path):
    tune = {"name": tuner} | ({"block_size": 16} if tuner == "oft" else {})
    trained = toy.learn(tmp_path, tune=tune, train={"max_steps": 1})
    said = next(note for note in trained.notes if "parameters train" in note)
    counted = int(said.split(": ")[1].split(" of ")[0].replace(",", ""))
    estimated = shape_of(toy.base, trained.recipe.tune).trained
    assert estimated == pytest.approx(counted, rel=0.1 if tuner == "p-tuning" else 0)


def test_full_training_of_seven_billion_needs_what_is_known_of_it(qwen):
    found = estimate(recipe_of(accumulation=16, gradient_checkpointing=True), qwen, ROWS, gpu(80))
    held = sum(found.parts[name] for name in ("weights", "gradients", "optimizer")) / GIB
    assert held == pytest.approx(7.616e9 * (4 + 2 + 4 + 8) / GIB, rel=0.01)
    assert found.flops == pytest.approx(300 * 16 * 300 * 7.07e9 * 8, rel=0.1)


def test_full_training_is_refused_on_24_gib_with_the_changes_that_make_it_fit(qwen):
    with pytest.raises(InputError) as refused:
        check_memory(recipe_of(accumulation=16, gradient_checkpointing=True), qwen, ROWS, gpu(24))
    assert "does not fit" in refused.value.what
    assert refused.value.where == "GPU, 24.0 GiB"
    assert refused.value.fix.startswith("tune lora saves 113.")
    with pytest.raises(InputError) as refused:
        check_memory(recipe_of(accumulation=16, gradient_checkpointing=True), qwen, ROWS, gpu(12))
    assert refused.value.fix.startswith("tune qlora, with 4 bits, saves 122.")
    assert "tune lora saves" in refused.value.fix, "what does not suffice is told too"


def test_qlora_of_seven_billion_fits_12_gib_with_checkpointing_and_not_without(qwen):
    fits = recipe_of(tune="qlora", accumulation=16, gradient_checkpointing=True)
    assert check_memory(fits, qwen, ROWS, gpu(12)).memory_bytes < 9 * GIB
    plain = recipe_of(tune="qlora", accumulation=16)
    assert advice(plain, qwen, ROWS, gpu(12)).startswith("gradient_checkpointing saves 6.")
    assert changes(plain, qwen, ROWS, gpu(12))[0].fits


def test_checkpointing_is_chosen_where_only_it_makes_the_training_fit(qwen):
    def needs(card_gib: float, **settings: object) -> bool:
        return needs_checkpointing(recipe_of(tune="qlora", accumulation=16, **settings), qwen, ROWS, gpu(card_gib))

    assert needs(12)
    assert not needs(24), "it fits as it is, and time is not for nothing"
    assert not needs(4), "it would not fit with it either: refused with the changes that help"
    assert not needs(12, gradient_checkpointing=False), "the user has decided"
    prefix = recipe_of(tune="prefix", accumulation=16)
    assert not any(needs_checkpointing(prefix, qwen, ROWS, gpu(card)) for card in range(4, 80, 4))


def test_the_cheapest_change_comes_first_and_the_smallest_cut_that_suffices(qwen):
    recipe = recipe_of(tune="lora", batch_size=16)
    assert advice(recipe, qwen, ROWS, gpu(80)).startswith("accumulation 2 saves 52.")
    assert advice(recipe, qwen, ROWS, gpu(40)).startswith("accumulation 8 saves")
    assert advice(recipe, qwen, ROWS, gpu(20)).startswith("together these make it fit")
    assert advice(recipe, qwen, ROWS, gpu(2)).startswith("nothing makes it fit")


def test_every_change_says_what_it_saves_when_it_is_made(qwen):
    recipe = recipe_of(batch_size=4, precision="fp32")
    needed = estimate(recipe, qwen, ROWS, gpu(24)).memory_bytes
    found = changes(recipe, qwen, ROWS, gpu(24))
    words = [change.words.split(" ")[0] for change in found]
    assert words == ["accumulation", "gradient_checkpointing", "max_length", "precision", "tune", "tune"]
    for change in found:
        after = estimate(change.recipe, qwen, ROWS, gpu(24)).memory_bytes
        assert change.saves_bytes == pytest.approx(needed - after)
        assert change.saves_bytes > 0


def test_an_estimate_a_little_beyond_the_memory_is_let_through(qwen):
    recipe = recipe_of(tune="qlora", accumulation=16, gradient_checkpointing=True)
    needed = estimate(recipe, qwen, ROWS, gpu(1)).memory_bytes / GIB
    check_memory(recipe, qwen, ROWS, gpu(needed / 1.09))
    with pytest.raises(InputError):
        check_memory(recipe, qwen, ROWS, gpu(needed / 1.11))
    unchecked = recipe_of(tune="qlora", accumulation=16, gradient_checkpointing=True, check_memory=False)
    assert check_memory(unchecked, qwen, ROWS, gpu(1)).memory_bytes > 5 * GIB


def test_protections_and_a_teacher_are_counted(qwen):
    plain = estimate(recipe_of(accumulation=16), qwen, ROWS, gpu(24)).memory_bytes
    ewc = estimate(recipe_of(accumulation=16, protect=["ewc"]), qwen, ROWS, gpu(24)).memory_bytes
    assert ewc - plain == pytest.approx(2 * 4 * 7_615_616_512)
    taught = estimate(recipe_of(accumulation=16, protect=["distill"]), qwen, ROWS, gpu(24)).memory_bytes
    assert taught - plain > 2 * 7_615_616_512
    lora, same = (
        estimate(recipe_of(accumulation=16, tune="lora", protect=protect), qwen, ROWS, gpu(24)).memory_bytes
        for protect in ("none", ["distill"])
    )
    assert same - lora < GIB, "an adapter's teacher is the base it sits on"


def test_the_processes_that_train_are_counted_not_those_that_settings_name(qwen, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    recipe = recipe_of(accumulation=2, gradient_checkpointing=True, sharding="zero3")
    needed = estimate(recipe, qwen, ROWS, gpu(80))
    assert needed.parts["weights"] == pytest.approx(7.616e9 * (4 + 2) / 8, rel=0.01)
    assert check_memory(recipe, qwen, ROWS, gpu(40)) == needed
    alone = estimate(recipe_of(accumulation=2, gradient_checkpointing=True), qwen, ROWS, gpu(80))
    assert needed.flops == pytest.approx(alone.flops / 8)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "16")
    assert estimate(recipe, qwen, ROWS, gpu(80)).parts["weights"] == pytest.approx(needed.parts["weights"] / 2)


def test_processes_of_a_machine_share_its_main_memory(monkeypatch):
    monkeypatch.setattr(memory, "device_now", lambda: Device("cpu", 8 * GIB, 1e12))
    monkeypatch.setenv("FORCE_TORCHRUN", "1")
    monkeypatch.setenv("NPROC_PER_NODE", "4")
    assert memory._here(recipe_of()).memory_bytes == 2 * GIB


def test_the_protections_that_auto_stands_for_are_counted(toy, tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(memory, "check_memory", lambda recipe, *_: counted.append(recipe.protect))
    job = replace(toy.job(tmp_path, protect="auto", memory=()), share=0.0, learned=True)
    memory.foreseen(job, job.recipe, load_tokenizer(toy.base))
    assert counted == [tuple(chosen_of(job)[0])]
    assert [entry["name"] for entry in counted[0]] == ["ewc", "distill"]


@pytest.mark.parametrize(
    ("protect", "copies"),
    [({"name": "ewc", "form": "per-task"}, 3), ("si", 5), ("osf", 2), ("average", 0)],
    ids=str,
)
def test_copies_that_protections_hold_are_counted(qwen, protect, copies):
    plain = estimate(recipe_of(), qwen, ROWS, gpu(24)).memory_bytes
    held = estimate(recipe_of(protect=[protect]), qwen, ROWS, gpu(24)).memory_bytes
    assert held - plain == pytest.approx(copies * 4 * 7_615_616_512)


def test_rows_are_measured_from_a_few_of_them(toy, tmp_path):
    job = toy.job(tmp_path, train={"epochs": 2.0})
    found = rows_of(job, job.recipe, load_tokenizer(toy.base))
    lengths = [
        len(toy.tokenizer(" ".join(turn.content for turn in (*row.prompt, *row.answers)))["input_ids"])
        for row in job.new
    ]
    assert found.steps == 12
    assert found.longest >= max(lengths)
    assert 0.1 < found.labelled < 0.5


def test_a_job_that_cannot_fit_is_refused_before_its_weights_are_touched(toy, tmp_path, monkeypatch):
    small = replace(device_now(), memory_bytes=1000.0)
    monkeypatch.setattr(memory, "device_now", lambda: small)
    torn = tmp_path / "torn"
    torn.mkdir()
    for path in Path(toy.base.model).iterdir():
        (torn / path.name).write_bytes(b"" if path.suffix == ".safetensors" else path.read_bytes())
    job = replace(toy.job(tmp_path, train={"max_steps": 1}), start=toy.base.changed(model=str(torn)))
    with pytest.raises(InputError, match="does not fit"):
        train(job)


def test_what_is_foreseen_is_said(toy: Toy, tmp_path):
    trained = toy.learn(tmp_path, train={"max_steps": 1})
    assert any(note.startswith("estimate: about ") and " of memory" in note for note in trained.notes)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_runs_out_is_told_with_what_to_change(error):
    with pytest.raises(NacreError, match="memory ran out") as told, memory_errors(lambda: "accumulation 2 saves 1 GiB"):
        raise error
    assert told.value.fix == "accumulation 2 saves 1 GiB"
    with pytest.raises(RuntimeError, match="another"), memory_errors(lambda: ""):
        raise RuntimeError("another")


def test_a_run_that_lacks_memory_says_what_would_save_some(toy, tmp_path, monkeypatch):
    def starved(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", starved)
    with pytest.raises(NacreError, match="memory ran out") as told:
        toy.learn(tmp_path, train={"max_steps": 1})
    assert "accumulation 8 saves" in told.value.fix


def test_sizes_are_written_for_people():
    assert (size(3 * GIB), size(0.25 * GIB), size(5 * 2**20)) == ("3.0 GiB", "0.2 GiB", "5 MiB")
