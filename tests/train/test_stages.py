"""What the stages beside sft teach, and that protections mean in them what they mean there."""

import json
import math
from dataclasses import replace

import pytest
import torch
from train_kit import Bomb, furthest, tensors
from transformers import AutoModelForSequenceClassification

from nacre.base.errors import InputError
from nacre.model.chat import IGNORED
from nacre.model.load import is_reward_model, load_model
from nacre.model.losses import answer_losses, rewards
from nacre.records.recipe import Preference
from nacre.train.rows import encode_rows
from nacre.train.run import train
from nacre.train.stages.judged import JudgedCollator, _others, encode_judged
from nacre.train.stages.losses import PAIR_LOSSES, Side, kto
from nacre.train.stages.pairs import PairCollator, encode_pairs
from toy_kit import judge, prefer, weights_of

STEADY = {"max_steps": 3, "scheduler": "constant", "warmup": 0, "batch_size": 16, "learning_rate": 1e-3}
MAKERS = {"dpo": prefer, "kto": judge, "rm": prefer}


def job_of(toy, folder, stage, *, train=(), **options):
    """A job whose new rows are those of `feed` as the stage wants them."""
    job = toy.job(folder, train={"stage": stage, **dict(train)}, **options)
    return replace(job, new=MAKERS[stage](job.new))


def preferred(toy, weights, pairs) -> float:
    """How far the chosen answers lie above the rejected ones: mean difference in nats per token, or of rewards."""
    model, sides = load_model(weights), (pairs, [row.changed(answers=row.answers[::-1]) for row in pairs])
    if is_reward_model(weights):
        found = [rewards(model, toy.tokenizer, side, 64) for side in sides]
    else:
        found = [[-one.nll / one.tokens for one in answer_losses(model, toy.tokenizer, side, 64)] for side in sides]
    return sum(one - other for one, other in zip(*found, strict=True)) / len(pairs)


# -- the formulas, by hand ---------------------------------------------------------------------------------------

CHOSEN = Side(torch.tensor([-2.0, -6.0]), torch.tensor([2, 3]), torch.tensor([-3.0, -5.0]))
REJECTED = Side(torch.tensor([-4.0, -1.5]), torch.tensor([4, 1]), torch.tensor([-3.5, -1.0]))


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def by_hand(loss: str, how: Preference, place: int) -> float:
    (c, nc, c0), (r, nr, r0) = ([float(of[place]) for of in side] for side in (CHOSEN, REJECTED))
    margin = how.beta * ((c - c0) - (r - r0))
    p, q = math.exp(c / nc), math.exp(r / nr)
    return {
        "sigmoid": softplus(-margin),
        "hinge": max(0.0, 1 - margin),
        "ipo": ((c - c0) / nc - (r - r0) / nr - 1 / (2 * how.beta)) ** 2,
        "orpo": -c / nc + how.beta * softplus(-math.log((p / (1 - p)) / (q / (1 - q)))),
        "simpo": softplus(-(how.beta * (c / nc - r / nr) - how.gamma)),
    }[loss]


@pytest.mark.parametrize("loss", PAIR_LOSSES)
def test_the_losses_of_pairs_are_the_papers(loss):
    how = Preference(loss=loss, beta=0.3, gamma=0.7)
    found = PAIR_LOSSES[loss](how, CHOSEN, REJECTED)
    assert found.tolist() == pytest.approx([by_hand(loss, how, place) for place in (0, 1)], rel=1e-5)


def test_the_loss_of_judged_answers_is_the_papers():
    how = Preference(beta=0.3, desirable_weight=2.0, undesirable_weight=0.5)
    found = kto(how, CHOSEN, torch.tensor([True, False]), torch.tensor(0.4))
    gains = [1.0, -1.0]
    expected = [
        2.0 * (1 - 1 / (1 + math.exp(-0.3 * (gains[0] - 0.4)))),
        0.5 * (1 - 1 / (1 + math.exp(-0.3 * (0.4 - gains[1])))),
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_certain_answer_has_finite_odds():
    sure = Side(torch.tensor([0.0], requires_grad=True), torch.tensor([1]), torch.tensor([0.0]))
    loss = PAIR_LOSSES["orpo"](Preference(loss="orpo"), sure, REJECTED._replace(logs=torch.tensor([-4.0])))
    assert bool(loss.isfinite().all())


# -- rows --------------------------------------------------------------------------------------------------------


def test_a_pair_is_rendered_as_a_supervised_row_is(toy):
    rows = toy.tasks["feed"][:3]
    notes = []
    pairs = encode_pairs([*prefer(rows), toy.tasks["paint"][0]], toy.tokenizer, 64, notes)
    plain = encode_rows([*rows, toy.tasks["paint"][0]], toy.tokenizer, 64, [])
    assert [(pair.input_ids, pair.labels) for pair in pairs] == [(row.input_ids, row.labels) for row in plain]
    assert [bool(pair.rejected_ids) for pair in pairs] == [True, True, True, False]
    assert notes == []
    batch = PairCollator(toy.tokenizer.pad_token_id)(
        [{**vars(pair), "source": place} for place, pair in enumerate(pairs)]
    )
    assert batch["role"].tolist() == [1, 1, 1, 2, 2, 2, 0]
    assert batch["source"].tolist() == [0, 1, 2, 0, 0, 0, 3]
    assert batch["shown"].tolist() == [True] * 3 + [False] * 3 + [True]


def test_what_is_cut_or_left_out_is_said(toy):
    notes = []
    pairs = encode_pairs(prefer(toy.tasks["feed"][:4]), toy.tokenizer, 8, notes)
    assert len(pairs) == 4
    assert any("4 of 4 pairs were longer than 8 tokens" in note for note in notes)
    assert all(len(pair.input_ids) <= 8 for pair in pairs)


def test_a_judged_row_has_another_prompts_answer_beside_it(toy):
    rows = judge(toy.tasks["feed"][:2])
    found = encode_judged([*rows, toy.tasks["paint"][0]], toy.tokenizer, 64, [])
    answers = [[token for token in row.labels if token != IGNORED] for row in found]
    others = [[token for token in row.other_labels if token != IGNORED] for row in found]
    assert others == [*answers[2:4], *answers[:2], []], "another prompt's good answer by a good one, bad by bad"
    batch = JudgedCollator(toy.tokenizer.pad_token_id)([{**vars(row), "source": 1} for row in found])
    assert batch["role"].tolist() == [1, 2, 1, 2, 0]
    assert batch["shown"].tolist() == [True, False, True, False, True]
    assert batch["source"].tolist() == [1, 0, 1, 0, 1]
    assert len(batch["other_input_ids"]) == 4


@pytest.mark.parametrize("sizes", [(3, 1, 1), (1, 1), (2, 2, 2), (5, 1)])
def test_the_other_answer_is_never_the_own_prompts(sizes, toy):
    rows = [
        row.changed(desirable=place % 2 == 0, kind="kto")
        for row, size in zip(toy.tasks["feed"], sizes, strict=False)
        for place in range(size)
    ]
    assert all(rows[other].prompt != row.prompt for row, other in zip(rows, _others(rows), strict=True))
    assert len(set(_others(rows))) > 1
    assert _others(rows[: sizes[0]]) is None


def test_supervised_learning_takes_the_chosen_and_leaves_the_bad_answers(toy):
    notes = []
    rows = toy.tasks["feed"][:3]
    found = encode_rows([*prefer(rows), *judge(rows)], toy.tokenizer, 64, notes)
    plain = encode_rows(rows, toy.tokenizer, 64, [])
    assert [row.input_ids for row in found] == [row.input_ids for row in [*plain, *plain]]
    assert any("3 preference pairs are learned from as supervised rows" in note for note in notes)
    assert any("3 rows were left out: their answers were judged bad" in note for note in notes)


# -- what is learned ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(toy, tmp_path_factory):
    """By stage: what a short run made."""
    options = {"epochs": 12.0, "preference": {"beta": 0.5}}
    # at a larger rate every answer word of the toy becomes likelier at once, the bad ones with the good
    rates = {"dpo": 3e-3, "rm": 3e-3, "kto": 1e-3}
    return {
        stage: train(job_of(toy, tmp_path_factory.mktemp(stage), stage, train=options | {"learning_rate": rate}))
        for stage, rate in rates.items()
    }


def test_pairs_make_the_chosen_answers_likelier_than_the_rejected(toy, learned):
    pairs = prefer(toy.tasks["feed"])
    before, after = preferred(toy, toy.base, pairs), preferred(toy, weights_of(learned["dpo"]), pairs)
    assert after > before + 2
    log = [json.loads(line) for line in (learned["dpo"].folder / "trainer_log.jsonl").read_text().splitlines()]
    assert log[-1]["rewards/margins"] > log[0]["rewards/margins"]
    assert log[-1]["rewards/accuracies"] > 0.9


def test_judgements_make_good_answers_likelier_and_bad_ones_less_likely(toy, learned):
    rows = judge(toy.tasks["feed"])
    good, bad = rows[::2], rows[1::2]

    def mean(weights, side) -> float:
        losses = answer_losses(load_model(weights), toy.tokenizer, side, 64)
        return sum(-one.nll for one in losses) / len(losses)

    made = weights_of(learned["kto"])
    assert mean(made, good) > mean(toy.base, good) + 0.5
    assert mean(made, bad) < mean(toy.base, bad) - 0.5


def test_a_reward_model_tells_answers_apart_and_loads_with_transformers_alone(toy, learned):
    made = weights_of(learned["rm"])
    pairs = prefer(toy.tasks["feed"])
    sides = (pairs, [row.changed(answers=row.answers[::-1]) for row in pairs])
    numbers = [rewards(load_model(made), toy.tokenizer, side, 64) for side in sides]
    right = sum(one > other for one, other in zip(*numbers, strict=True))
    assert right >= 0.95 * len(pairs)
    plain = AutoModelForSequenceClassification.from_pretrained(made.model).eval()
    ids = torch.tensor([encode_rows(pairs[:1], toy.tokenizer, 64, [])[0].input_ids])
    with torch.no_grad():
        assert float(plain(ids).logits) == pytest.approx(numbers[0][0], abs=1e-5)


@pytest.mark.parametrize("tune", ["lora", {"name": "freeze", "trainable_layers": 1}])
def test_the_head_of_a_reward_model_is_trained_and_saved_by_every_tuner(tune, toy, tmp_path):
    job = job_of(toy, tmp_path, "rm", tune=tune, train={"max_steps": 25, "learning_rate": 1e-2})
    trained = train(job)
    made = weights_of(trained, toy.base)
    assert is_reward_model(made)
    assert any("score" in name for name in tensors(trained))
    assert preferred(toy, made, job.new) > 0.3
    assert any("and the head" in note for note in trained.notes)


def test_what_a_reward_model_cannot_do_is_refused(toy, learned, tmp_path):
    reward = weights_of(learned["rm"])
    with pytest.raises(InputError, match="cannot learn to answer"):
        train(replace(toy.job(tmp_path / "sft"), start=reward))
    with pytest.raises(InputError, match="these rows are none"):
        train(toy.job(tmp_path / "rows", train={"stage": "rm"}))
    with pytest.raises(InputError, match="'distill' does not work in the stage 'rm'"):
        train(job_of(toy, tmp_path / "distill", "rm", protect=["distill"]))
    with pytest.raises(InputError, match="learned prompts"):
        train(job_of(toy, tmp_path / "prompt", "rm", tune="prompt"))
    for name in ("lm", "merge", "block-expansion", "osf"):
        with pytest.raises(InputError, match=f"'{name}' does not work in the stage 'rm'"):
            train(job_of(toy, tmp_path / name, "rm", protect=[name]))
    by_loss = job_of(toy, tmp_path / "loss", "rm", train={"curriculum": "loss"})
    surprise = job_of(toy, tmp_path / "surprise", "rm", protect=[{"name": "replay", "order": "surprise"}])
    for job in (by_loss, surprise):
        memory = {"paint": prefer(toy.tasks["paint"])}
        with pytest.raises(InputError, match="cannot say how likely a row is"):
            train(replace(job, start=reward, memory=memory))


def test_a_reward_model_learns_on_and_keeps_what_it_preferred(toy, learned, tmp_path):
    job = job_of(toy, tmp_path, "rm", protect=["replay", "l2"], train={"max_steps": 10}, task="place")
    kept = prefer(toy.tasks["feed"])
    trained = train(replace(job, start=weights_of(learned["rm"]), memory={"feed": kept}))
    made = weights_of(trained)
    assert preferred(toy, made, job.new) > preferred(toy, weights_of(learned["rm"]), job.new)
    assert preferred(toy, made, kept) > 1


@pytest.mark.parametrize("loss", ["hinge", "ipo", "orpo", "simpo"])
def test_every_loss_of_pairs_trains(loss, toy, tmp_path):
    options = {"max_steps": 12, "preference": {"loss": loss, "beta": 2.0 if loss == "simpo" else 0.5}}
    job = job_of(toy, tmp_path, "dpo", train=options)
    assert preferred(toy, weights_of(train(job)), job.new) > preferred(toy, toy.base, job.new) + 0.3


def test_the_chosen_answers_own_loss_keeps_them_likely(toy, tmp_path):
    chosen = {}
    for weight in (0.0, 1.0):
        job = job_of(toy, tmp_path / str(weight), "dpo", train={"max_steps": 12, "preference": {"sft_weight": weight}})
        losses = answer_losses(load_model(weights_of(train(job))), toy.tokenizer, job.new, 64)
        chosen[weight] = sum(one.nll for one in losses)
    assert chosen[1.0] < chosen[0.0]


# -- protections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["dpo", "kto", "rm"])
def test_cutting_the_batch_changes_nothing(stage, toy, spy, tmp_path):
    other = weights_of(toy.learn(tmp_path / "other", task="place", train={"max_steps": 5}))
    both = {"name": "distill", "weight": 2.0, "rows": 6, "on": ["generic", "replayed"]}
    protect = ["l2", "spy"] if stage == "rm" else [{"name": "replay", "share": 0.3}, both, "spy"]
    grads, weights = {}, {}
    for parts in (1, 4):
        spy.steps.clear()
        job = job_of(toy, tmp_path / str(parts), stage, protect=protect, train=STEADY | {"accumulation": parts})
        weights[parts] = tensors(train(replace(job, previous=other)))
        grads[parts] = list(spy.steps)
    assert [furthest(*pair) for pair in zip(grads[1], grads[4], strict=True)] == pytest.approx([0, 0, 0], abs=1e-6)
    assert furthest(weights[1], weights[4]) < 1e-5  # three steps of AdamW, which divides by small numbers


def test_kept_rows_count_as_their_part_of_the_batch(toy, spy, tmp_path):
    job = job_of(toy, tmp_path, "dpo", protect=[{"name": "replay", "share": 0.25}, "spy"], train=STEADY)
    job = replace(
        job, recipe=job.recipe.model_copy(update={"train": job.recipe.train.model_copy(update={"max_steps": 1})})
    )
    trained = train(job)
    batch = spy.batches[0]
    kept = batch["source"] > 0
    assert kept.sum() == 4
    assert len(kept) == 16, "twelve chosen answers and four kept rows, no rejected answer"
    labels = batch["labels"][kept]
    with torch.no_grad():
        model = load_model(toy.base)
        loss = model(
            input_ids=batch["input_ids"][kept], attention_mask=batch["attention_mask"][kept], labels=labels
        ).loss
    assert batch["mixed_in_tokens"] == int((labels[:, 1:] != IGNORED).sum())
    expected = (12 * math.log(2) + 4 * float(loss)) / 16  # nothing was gained yet: each pair's loss is log 2
    assert trained.final_loss == pytest.approx(expected, abs=1e-5)


def test_no_rejected_answer_is_ever_shown_to_a_protection(toy, spy, tmp_path):
    job = job_of(toy, tmp_path, "dpo", protect=["replay", "spy"], train=STEADY)
    train(replace(job, memory={"paint": toy.tasks["paint"], "taste": prefer(toy.tasks["place"])}))
    imitated = [row for task in ("feed", "paint", "place") for row in toy.tasks[task]]
    known = {tuple(row.input_ids) for row in encode_rows(imitated, toy.tokenizer, 64, [])}
    shown = [
        (source, tuple(ids[: sum(mask)]))
        for one in spy.batches
        for source, ids, mask in zip(
            *(one[key].tolist() for key in ("source", "input_ids", "attention_mask")), strict=True
        )
    ]
    assert {source for source, _ in shown} == {0, 1}
    assert {ids for _, ids in shown} <= known
    assert len(shown) == 3 * 16


@pytest.fixture(scope="module")
def forgetful(toy, tmp_path_factory):
    """What dpo leaves of the old task by protection: its loss, and the drop of the weights' likeness."""
    options = {"epochs": 8.0, "learning_rate": 5e-3, "preference": {"beta": 0.5}}
    lists = {
        "plain": [],
        "replay": ["replay"],
        "distill": ["replay", {"name": "distill", "weight": 5.0, "on": ["replayed"]}],
        "ewc": [{"name": "ewc", "strength": 1e6}],
    }
    return {
        name: weights_of(train(job_of(toy, tmp_path_factory.mktemp(name), "dpo", protect=given, train=options)))
        for name, given in lists.items()
    }


def test_replayed_rows_keep_the_old_task_while_preferences_are_learned(toy, forgetful):
    pairs = prefer(toy.tasks["feed"])
    plain, replay = (toy.loss(forgetful[name], "paint") for name in ("plain", "replay"))
    assert replay < 0.5 * plain
    assert preferred(toy, forgetful["replay"], pairs) > preferred(toy, toy.base, pairs) + 1


@pytest.mark.parametrize("name", ["distill", "ewc"])
def test_other_protections_act_while_preferences_are_learned(name, toy, forgetful):
    beside = "replay" if name == "distill" else "plain"
    one, other = (load_model(forgetful[key]).state_dict() for key in (name, beside))
    assert furthest(one, other) > 1e-3
    if name == "ewc":
        assert toy.loss(forgetful["ewc"], "paint") < toy.loss(forgetful["plain"], "paint")


# -- runs --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["full", {"name": "lora", "rank": 4, "dropout": 0.2}])
def test_a_dpo_run_that_was_killed_goes_on_as_if_it_had_not_been(tune, toy, bomb, tmp_path):
    given = {"tune": tune, "protect": ["replay", "distill", "bomb"], "train": {"save_steps": 2, "max_steps": 5}}
    unbroken = tensors(train(job_of(toy, tmp_path / "unbroken", "dpo", **given)))
    broken = job_of(toy, tmp_path / "broken", "dpo", **given)
    Bomb.at = 3
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    Bomb.at = None
    resumed = train(broken)
    assert "resumed from checkpoint-2" in resumed.notes
    assert furthest(tensors(resumed), unbroken) < 1e-6


@pytest.mark.slow
def test_what_an_adapter_went_on_from_is_the_reference(toy, tmp_path):
    first = train(job_of(toy, tmp_path / "first", "dpo", tune="lora", train={"max_steps": 10, "learning_rate": 1e-2}))
    job = job_of(toy, tmp_path / "second", "dpo", tune="lora", task="place", train=STEADY | {"max_steps": 1})
    second = train(replace(job, start=weights_of(first, toy.base)))
    assert second.final_loss == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize(("stage", "tune"), [("dpo", "lora"), ("kto", "full"), ("rm", "lora")])
def test_checkpointed_activations_change_nothing(stage, tune, toy, tmp_path):
    found = {}
    for asked in (False, True):
        settings = STEADY | {"max_steps": 2, "gradient_checkpointing": asked, "batch_size": 8}
        found[asked] = tensors(train(job_of(toy, tmp_path / str(asked), stage, tune=tune, train=settings)))
    assert furthest(found[False], found[True]) < 1e-5


@pytest.mark.parametrize("stage", ["dpo", "rm"])
def test_bf16_trains_every_stage(stage, toy, tmp_path):
    trained = train(job_of(toy, tmp_path, stage, train=STEADY | {"precision": "bf16"}))
    assert math.isfinite(trained.final_loss)
