"""Every adapter tuner from end to end: it learns, what it saves loads without nacre, answers everywhere, goes on."""

import asyncio
import json
from dataclasses import dataclass, replace

import pytest
import torch
from peft import PeftModel
from train_kit import furthest, tensors
from transformers import AutoModelForCausalLM

from nacre.base.errors import InputError
from nacre.model.generate import answer_all
from nacre.model.load import load_model
from nacre.model.losses import answer_losses
from nacre.model.tuners import apply
from nacre.records import Decoding, Weights
from nacre.records.tune import QLora
from nacre.serve.engines import ENGINES, ChatPrompt, Delta, Sampling, Target
from nacre.serve.settings import Serve
from nacre.train import fit as fitting
from nacre.train.run import Trained, train
from toy_kit import Toy, weights_of

FAST = {"learning_rate": 1e-2, "max_steps": 36, "epochs": 6.0}
FASTER = FAST | {"learning_rate": 5e-2}
TUNES = {
    "lora": ({"name": "lora"}, FAST),
    "lora-all": (
        {"name": "lora", "rslora": True, "dora": True, "lr_ratio": 4, "modules_to_save": ["lm_head"], "rank": 4},
        FAST,
    ),
    "pissa": ({"name": "lora", "init": "pissa", "rank": 4, "lr_ratio": 2}, FAST),
    "olora": ({"name": "lora", "init": "olora", "rank": 4, "rslora": True}, FAST),
    "orthogonal": ({"name": "lora", "init": "orthogonal"}, FAST),
    "qlora-4": ({"name": "qlora"}, FAST),
    "qlora-8": ({"name": "qlora", "bits": 8}, FAST),
    "adapter": ({"name": "adapter"}, FAST),
    "ia3": ({"name": "ia3"}, FASTER),
    "adalora": ({"name": "adalora", "rank": 4}, FAST),
    "oft": ({"name": "oft", "block_size": 16}, FAST),
    "prompt": ({"name": "prompt", "tokens": 8}, FASTER),
    "p-tuning": ({"name": "p-tuning", "tokens": 8}, FAST),
    "prefix": ({"name": "prefix", "tokens": 8}, FASTER),
}
QUICK = ("pissa", "adalora", "p-tuning")  # which keep something of their own beside a checkpoint
VIRTUAL = ("prompt", "p-tuning")  # for which PEFT's logits are longer than the text


@dataclass(frozen=True)
class Case:
    """A tuner that has learned `feed`."""

    label: str
    tune: dict
    train: dict
    trained: Trained
    weights: Weights
    before: float
    after: float


@pytest.fixture(scope="module", params=TUNES)
def case(request: pytest.FixtureRequest, toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Case:
    tune, settings = TUNES[request.param]
    trained = toy.learn(tmp_path_factory.mktemp("tuner"), tune=tune, train=settings)
    weights = weights_of(trained, toy.base)
    before, after = toy.loss(toy.base, "feed"), toy.loss(weights, "feed")
    return Case(request.param, tune, settings, trained, weights, before, after)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [2, 9], the second row padded on the right, and the mask."""
    return torch.arange(6, 24).reshape(2, 9), torch.tensor([[1] * 9, [1] * 6 + [0] * 3])


def test_it_learns_and_says_what_trains(case):
    assert case.trained.kind == "adapter"
    assert case.after < case.before - 3
    assert any("parameters train" in note for note in case.trained.notes)


@torch.no_grad()
def test_peft_alone_computes_the_same(case, toy):
    ids_BT, mask_BT = batch()
    bare = AutoModelForCausalLM.from_pretrained(toy.base.model)
    alone = PeftModel.from_pretrained(bare, str(case.trained.folder)).eval()
    theirs = alone(input_ids=ids_BT, attention_mask=mask_BT).logits[:, -ids_BT.shape[1] :]
    ours = load_model(case.weights)(input_ids=ids_BT, attention_mask=mask_BT).logits
    torch.testing.assert_close(theirs[mask_BT.bool()], ours[mask_BT.bool()], rtol=1e-4, atol=1e-4)
    if case.label in VIRTUAL:
        assert alone(input_ids=ids_BT, attention_mask=mask_BT).logits.shape[1] == ids_BT.shape[1] + 8


def test_one_by_one_in_batches_and_in_the_engine_it_says_the_same(case, toy):
    model, feed = load_model(case.weights), toy.tasks["feed"]
    rows = [*feed[:3], *toy.tasks["paint"][:3], feed[0].changed(system="old sun moon")]
    decoding = Decoding(max_new_tokens=4, max_length=64)
    one_by_one = answer_all(model, toy.tokenizer, rows, decoding, batch_rows=1)
    assert answer_all(model, toy.tokenizer, rows, decoding, batch_rows=8) == one_by_one

    target = Target(1, case.weights)

    async def served() -> list[str]:
        engine = ENGINES.load("embedded")(Serve(max_waiting=8))
        try:
            await engine.load(target)
            return [await said(engine, row) for row in rows]
        finally:
            await engine.close()

    async def said(engine, row) -> str:
        prompt, text = ChatPrompt(row.prompt, row.system), ""
        generation = await engine.generate(target, prompt, Sampling(temperature=0, max_tokens=4))
        while isinstance(piece := await generation.next(), Delta):
            text += piece.text
        return text

    assert asyncio.run(served()) == [answer.text for answer in one_by_one]


def test_the_next_increment_goes_on_from_it(case, toy, tmp_path):
    job = toy.job(tmp_path, task="place", tune=case.tune, train=case.train | {"max_steps": 24})
    after = train(replace(job, start=case.weights))
    assert toy.loss(weights_of(after, toy.base), "place") < toy.loss(case.weights, "place") - 0.1
    job = toy.job(tmp_path / "b", tune=case.tune, train={"learning_rate": 1e-9, "max_steps": 1})
    still = train(replace(job, start=case.weights))
    assert abs(toy.loss(weights_of(still, toy.base), "feed") - case.after) < 0.02, "it starts where the last one ended"


@pytest.mark.parametrize("name", [*(pytest.param(n, marks=pytest.mark.slow) for n in TUNES if n not in QUICK), *QUICK])
def test_a_run_that_was_cut_goes_on_as_if_nothing_had_been(name, toy, bomb, tmp_path, monkeypatch):
    tune, settings = TUNES[name]
    options = {"tune": tune, "train": settings | {"max_steps": 12, "save_steps": 8}, "protect": ["bomb"]}
    whole = toy.learn(tmp_path / "whole", **options)
    monkeypatch.setattr(bomb, "at", 9)
    with pytest.raises(KeyboardInterrupt):
        toy.learn(tmp_path / "cut", **options)
    monkeypatch.setattr(bomb, "at", None)
    resumed = toy.learn(tmp_path / "cut", **options)
    assert any("resumed from checkpoint-8" in note for note in resumed.notes)
    assert furthest(tensors(whole), tensors(resumed)) < 1e-5


# --- what single tuners promise


def test_pissa_and_olora_change_the_base_only_while_they_train(toy, tmp_path):
    for init in ("pissa", "olora"):
        tune = {"name": "lora", "init": init, "rank": 4}
        still = toy.learn(tmp_path / init, tune=tune, train={"learning_rate": 1e-12, "max_steps": 1})
        ids_BT, mask_BT = batch()
        before = load_model(toy.base)(ids_BT, attention_mask=mask_BT).logits
        after = load_model(weights_of(still, toy.base))(ids_BT, attention_mask=mask_BT).logits
        torch.testing.assert_close(after[mask_BT.bool()], before[mask_BT.bool()], rtol=1e-3, atol=1e-3)


def test_the_teacher_of_a_moved_base_is_the_version_as_it_was(toy, tmp_path):
    protect = [{"name": "distill", "weight": 100.0, "on": ["replayed"]}]
    tune = {"name": "lora", "init": "pissa", "rank": 4}
    held = toy.learn(tmp_path, tune=tune, protect=["replay", *protect], train={"learning_rate": 1e-3, "max_steps": 20})
    assert toy.loss(weights_of(held, toy.base), "paint") < toy.loss(toy.base, "paint") + 0.2


def test_a_quantised_base_stays_quantised_and_float_weights_stay_float(toy):
    for bits, kind in ((4, torch.uint8), (8, torch.int8)):
        tune = QLora(bits=bits)
        model = apply(load_model(toy.base, train=True, quantised=tune), tune).model
        held = model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight
        assert held.dtype == kind
        assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}


def test_quantisation_costs_something_and_the_manifest_decides_who_answers(toy, tmp_path):
    trained = toy.learn(tmp_path, tune={"name": "qlora", "answers": "quantised"}, train=FAST)
    weights = weights_of(trained, toy.base)
    as_stored = answer_losses(load_model(weights), toy.tokenizer, toy.tasks["feed"], 64)
    manifest = {"recipe": trained.recipe.model_dump(mode="json")}
    (trained.folder / "nacre.json").write_text(json.dumps(manifest))
    quantised = load_model(weights)
    assert quantised.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.uint8
    as_trained = answer_losses(quantised, toy.tokenizer, toy.tasks["feed"], 64)
    assert as_trained != as_stored
    gap = abs(sum(one.nll for one in as_trained) - sum(one.nll for one in as_stored)) / sum(o.tokens for o in as_stored)
    assert gap < 0.5
    plain = toy.learn(tmp_path / "plain", tune="qlora", train={"max_steps": 2})
    (plain.folder / "nacre.json").write_text(json.dumps({"recipe": plain.recipe.model_dump(mode="json")}))
    base = load_model(weights_of(plain, toy.base)).get_base_model()
    assert base.model.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.float32


def test_ranks_fall_to_the_mean_that_was_asked_for(toy, tmp_path):
    trained = toy.learn(tmp_path, tune={"name": "adalora", "rank": 4, "start_rank": 8}, train=FAST)
    ranks = [len(tensor) for name, tensor in tensors(trained).items() if "lora_E" in name]
    assert sum(ranks) <= 4 * len(ranks)
    assert len(set(ranks)) > 1, "they were given where they matter"


def test_the_second_matrices_learn_faster(toy, tmp_path, monkeypatch):
    seen = []
    real = fitting.set_optimizer
    monkeypatch.setattr(fitting, "set_optimizer", lambda trainer, tune: (real(trainer, tune), seen.append(trainer)))
    toy.learn(
        tmp_path,
        tune={"name": "lora", "lr_ratio": 8},
        train={"learning_rate": 1e-4, "max_steps": 2, "scheduler": "constant", "warmup": 0},
    )
    rates = {group["lr"]: len(group["params"]) for group in seen[0].optimizer.param_groups if group["params"]}
    assert rates == {1e-4: 14, 8e-4: 14}


@pytest.mark.parametrize(
    ("first", "then", "way"),
    [
        ("ia3", "lora", "tune with ia3, or full"),
        ("prompt", "full", "tune with prompt"),
        ("lora", "prefix", "tune with lora"),
    ],
)
def test_another_kind_of_tuner_cannot_go_on_and_says_which_can(first, then, way, toy, tmp_path):
    start = toy.learn(tmp_path / "a", tune=first, train={"max_steps": 1})
    job = toy.job(tmp_path / "b", tune=then, train={"max_steps": 1})
    with pytest.raises(InputError) as refused:
        train(replace(job, start=weights_of(start, toy.base)))
    assert refused.value.fix.startswith(way)


@pytest.mark.slow
def test_full_training_goes_on_from_every_adapter_that_can_be_merged(toy, tmp_path):
    for name in ("ia3", "oft", "adalora"):
        tune, settings = TUNES[name]
        start = weights_of(toy.learn(tmp_path / name, tune=tune, train=settings), toy.base)
        job = toy.job(tmp_path / f"{name}-full", tune="full", train={"max_steps": 1, "learning_rate": 1e-9})
        merged = train(replace(job, start=start))
        assert merged.kind == "full"
        assert abs(toy.loss(weights_of(merged), "feed") - toy.loss(start, "feed")) < 1e-2
