"""Every protection with every tuner, and protections with each other: refused with a reason, or it really trains.

What is in the table of protections is tried, so a new one is tried too; its own options, if it needs some to act in
two steps on a toy, go into `OPTIONS`.
"""

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nacre.base.errors import InputError
from nacre.model.load import load_model
from nacre.model.losses import answer_losses
from nacre.records import Recipe, Weights
from nacre.records.tune import TUNERS
from nacre.train.protect import PROTECTIONS, sdft
from nacre.train.protect.build import check_protections
from nacre.train.run import train
from toy_kit import Toy, weights_of

OPTIONS: dict[str, dict[str, Any]] = {
    "average": {"alpha": 0.5},
    "distill": {"length": 8},
    "ewc": {"samples": 4, "strength": 10.0},
    "freeze": {"first": 1},
    "lm": {"length": 8},
    "rehearse": {"rows": 4, "prompt_tokens": 16, "answer_tokens": 8},
    "sdft": {"answer_tokens": 4},
}
NEEDS = {"der": "replay"}  # which act on the rows of another
MAIN = ("full", "lora", "freeze", "qlora")
QUICK = MAIN[:2]
TUNE_OPTIONS: dict[str, dict[str, Any]] = {
    "freeze": {"trainable_layers": 1},
    "oft": {"block_size": 16},
    "prompt": {"tokens": 4},
    "p-tuning": {"tokens": 4},
    "prefix": {"tokens": 4},
}
ADAPTERS = ("lora", "qlora")  # for these the version before has an adapter too
SETTINGS = {"max_steps": 2, "learning_rate": 1e-2, "warmup": 0, "epochs": 1.0}
NAMES = PROTECTIONS.names()


@pytest.fixture(scope="module")
def before(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """An adapter on the toy, and some general text beside it."""
    trained = toy.learn(tmp_path_factory.mktemp("before"), task="place", tune="lora", train=SETTINGS)
    return weights_of(trained, toy.base)


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("general") / "general.jsonl"
    path.write_text('{"text": "paint the big old cat red and the small sun blue on a long hill"}\n' * 12)
    return path


@pytest.fixture(autouse=True)
def a_model_that_reads_demonstrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy cannot, and `sdft` refuses such models; here it is to train."""
    monkeypatch.setattr(sdft, "HELPS", float("inf"))


def tune_of(name: str) -> dict[str, Any]:
    return {"name": name, **TUNE_OPTIONS.get(name, {})}


def protect_of(*names: str) -> list[dict[str, Any]]:
    """Their options; with what they need, and replay first, where something acts on what is replayed."""
    names = tuple({*names, *(NEEDS[name] for name in names if name in NEEDS)})
    return [
        {"name": name, **OPTIONS.get(name, {})} for name in sorted(names, key=lambda name: (name != "replay", name))
    ]


def refusal(tuner: str, *names: str) -> str | None:
    """Why these cannot go together, as the configuration alone tells."""
    try:
        check_protections(Recipe.model_validate({"tune": tune_of(tuner), "protect": protect_of(*names)}))
    except InputError as error:
        return error.what
    return None


def said(weights: Weights, toy: Toy) -> torch.Tensor:
    """Losses of the new task's answers."""
    losses = answer_losses(load_model(weights), toy.tokenizer, toy.tasks["feed"], 64)
    return torch.tensor([one.nll for one in losses])


def try_it(tuner: str, names: tuple[str, ...], toy: Toy, start: Weights, general: Path, work: Path) -> None:
    start = start if tuner in ADAPTERS else toy.base
    recipe = {"tune": tune_of(tuner), "protect": protect_of(*names), "train": SETTINGS}
    job = replace(toy.job(work, memory=("paint", "place"), **recipe), start=start, general=general)
    why = refusal(tuner, *names)
    if why is not None:
        with pytest.raises(InputError, match=r"contradict|does not work with the tuner"):
            train(job)
        return
    trained = train(job)
    now, then = said(weights_of(trained, toy.base), toy), said(start, toy)
    assert now.isfinite().all()
    assert (now - then).abs().max() > 1e-6, "nothing was learned"


@pytest.mark.parametrize("tuner", [*QUICK, *(pytest.param(tuner, marks=pytest.mark.slow) for tuner in MAIN[2:])])
@pytest.mark.parametrize("name", [*NAMES, "none"])
def test_every_protection_with_every_main_tuner(name, tuner, toy, before, general, tmp_path):
    try_it(tuner, () if name == "none" else (name,), toy, before, general, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("tuner", [tuner for tuner in TUNERS if tuner not in MAIN])
@pytest.mark.parametrize("name", NAMES)
def test_every_protection_with_every_other_tuner(name, tuner, toy, before, general, tmp_path):
    try_it(tuner, (name,), toy, before, general, tmp_path)


PAIRS = list(itertools.combinations(NAMES, 2))
SAMPLE = random.Random(3).sample(PAIRS, 10)


def tuner_for(names: tuple[str, ...]) -> str:
    """The first main tuner that all of them work with, or the first of all where none is."""
    return next((tuner for tuner in MAIN if refusal(tuner, *names) is None), MAIN[0])


@pytest.mark.parametrize("names", SAMPLE, ids="+".join)
def test_a_sample_of_pairs(names, toy, before, general, tmp_path):
    try_it(tuner_for(names), names, toy, before, general, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("tuner", MAIN)
@pytest.mark.parametrize("names", PAIRS, ids="+".join)
def test_every_pair_with_every_main_tuner(names, tuner, toy, before, general, tmp_path):
    try_it(tuner, names, toy, before, general, tmp_path)


@pytest.mark.parametrize("names", [("distill", "ewc", "replay"), ("agem", "average", "l2")], ids="+".join)
def test_three_at_once(names, toy, before, general, tmp_path):
    assert refusal("lora", *names) is None
    try_it("lora", names, toy, before, general, tmp_path)
