"""Separate adapters and their router, over a sequence of three tasks: what stays, what answers, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from train_kit import furthest

from nacre.base.errors import InputError
from nacre.model.chat import prompt_ids
from nacre.model.generate import answer_all
from nacre.model.load import load_model, load_tokenizer
from nacre.model.losses import answer_losses
from nacre.model.routed import Routed
from nacre.model.router import BASE, TENSORS, Router
from nacre.records import Decoding, Weights
from nacre.records.weights import ROUTER
from nacre.train.run import train
from nacre.train.teacher import FrozenCopy
from toy_kit import ask, judge, prefer, weights_of

LORA = {"name": "lora", "rank": 8}
SEPARATE = {"tune": LORA, "protect": ["separate"], "train": {"learning_rate": 1e-2}}
LEARNED = 1.6  # nats per token on the toy, whose frozen head knows no better; 8 and more where a task was not learned
DECODING = Decoding(max_new_tokens=4, max_length=64)


def after(toy, work: Path, before: Weights | None, task: str, memory=(), **options):
    """A version that learned `task` on top of `before`, and what the run said."""
    job = toy.job(work / task, task=task, memory=memory, **{**SEPARATE, **options})
    trained = train(replace(job, start=before) if before else job)
    return weights_of(trained, toy.base), trained


@pytest.fixture(scope="module")
def plain(toy, tmp_path_factory) -> Weights:
    """`feed` learned on the same base without protection."""
    work = tmp_path_factory.mktemp("plain")
    return weights_of(toy.learn(work, **{**SEPARATE, "memory": (), "protect": "none"}), toy.base)


@pytest.fixture(scope="module")
def line(toy, tmp_path_factory):
    """The versions after `feed` and after `place`, on a base that knows `paint`; no old row but those of the base."""
    work = tmp_path_factory.mktemp("separate")
    first, said = after(toy, work, None, "feed", memory=("paint",))
    second, more = after(toy, work, first, "place")
    return {"feed": (first, said), "place": (second, more)}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"}


def test_every_task_is_answered_by_its_own_and_by_its_own_alone(toy, line):
    second = load_model(line["place"][0])
    assert isinstance(second, Routed)
    for task, own in (("paint", BASE), ("feed", "adapter_1"), ("place", "adapter_2")):
        prompts = [prompt_ids(row.prompt, toy.tokenizer) for row in toy.tasks[task]]
        assert second.choose(prompts) == [own] * 48
        assert toy.loss(line["place"][0], task) < LEARNED < 8 < toy.loss(toy.base, "place")
    assert [(route.task, route.adapter) for route in second.router.routes] == [
        ("paint", BASE),
        ("feed", "adapter_1"),
        ("place", "adapter_2"),
    ]


def test_old_adapters_stay_byte_for_byte_and_old_answers_number_for_number(toy, line):
    (first, _), (second, _) = line["feed"], line["place"]
    assert files(first.adapter / "adapter_1") == files(second.adapter / "adapter_1")
    assert toy.loss(second, "feed") == toy.loss(first, "feed")
    assert toy.loss(second, "paint") == toy.loss(toy.base, "paint")
    assert toy.loss(second, "place") < LEARNED


def test_rows_of_all_tasks_in_one_batch_are_answered_as_one_by_one(toy, line):
    model = load_model(line["place"][0])
    rows = [toy.tasks[task][place] for place in range(8) for task in ("paint", "feed", "place")]
    together = answer_losses(model, toy.tokenizer, rows, 64)
    alone = [answer_losses(model, toy.tokenizer, [row], 64)[0] for row in rows]
    assert [one.nll for one in together] == pytest.approx([one.nll for one in alone], abs=1e-4)
    said = answer_all(model, toy.tokenizer, rows, DECODING)
    assert [one.text for one in said] == [answer_all(model, toy.tokenizer, [row], DECODING)[0].text for row in rows]


def test_each_adapter_is_loaded_by_peft_alone(toy, line):
    folder = line["place"][0].adapter
    base = load_model(toy.base)
    model = PeftModel.from_pretrained(base, str(folder), adapter_name="adapter_1", subfolder="adapter_1").eval()
    model.load_adapter(str(folder), adapter_name="adapter_2", subfolder="adapter_2")
    for task, name in (("feed", "adapter_1"), ("place", "adapter_2")):
        model.set_adapter(name)
        found = answer_losses(model, toy.tokenizer, toy.tasks[task], 64)
        alone = sum(one.nll for one in found) / sum(one.tokens for one in found)
        assert alone == pytest.approx(toy.loss(line["place"][0], task), abs=1e-5)
    assert not (folder / "adapter_config.json").exists()


def test_one_adapter_alone_answers_everything_without_reading_prompts(toy, plain, tmp_path, monkeypatch):
    weights, trained = after(toy, tmp_path, None, "feed")
    assert any("with one adapter there is nothing to choose" in note for note in trained.notes)
    monkeypatch.setattr("nacre.model.routed.read_prompts", lambda *_: pytest.fail("a prompt was read"))
    for task in ("feed", "paint"):
        assert toy.loss(weights, task) == pytest.approx(toy.loss(plain, task), abs=1e-6)


def test_the_new_adapter_is_what_plain_training_on_the_base_makes(line, plain):
    ours = load_file(line["feed"][0].adapter / "adapter_1" / "adapter_model.safetensors")
    theirs = load_file(plain.adapter / "adapter_model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_plain_training_forgets_where_separate_adapters_lose_nothing(toy, line, plain):
    assert toy.loss(plain, "paint") > 2, "plain training must forget, or the toy shows nothing"
    assert toy.loss(line["feed"][0], "paint") == toy.loss(toy.base, "paint") < 1


def test_it_says_who_answers_what(line):
    notes = "\n".join(line["place"][1].notes)
    assert "adapter_2 was trained beside what was there" in notes
    assert "paint (base), feed (adapter_1), place (adapter_2)" in notes
    assert "no alarm, because earlier tasks are not answered by the adapter that was trained" in notes
    told = json.loads((line["place"][0].adapter / ROUTER).read_text())
    assert set(told["adapters"]) == {"adapter_1", "adapter_2"}


def test_a_task_learned_again_goes_on_from_its_adapter_and_takes_its_place(toy, line, tmp_path):
    before = line["place"][0]
    job = toy.job(tmp_path, task="feed", memory=("feed",), **{**SEPARATE, "train": {"epochs": 1.0, "max_steps": 1}})
    new = [ask(f"feed cat {row.prompt[0].content}", "corn") for row in toy.tasks["feed"][:8]]
    trained = train(replace(job, start=before, new=new))
    again = weights_of(trained, toy.base)
    router = Router.load(trained.folder)
    assert router.of_task("feed").adapter == "adapter_3"
    assert router.of_task("feed").prompts == 48 + 8
    assert router.adapters == (BASE, "adapter_3", "adapter_2")
    assert not (trained.folder / "adapter_1").exists()
    assert (before.adapter / "adapter_1").exists()
    assert toy.loss(again, "feed") < 2, "one step from scratch would have learned nothing"
    assert toy.loss(again, "place") == toy.loss(before, "place")
    notes = "\n".join(trained.notes)
    assert "feed was learned before: 50% of every batch from its old rows" in notes
    assert "adapter_1 answers no task any more" in notes


def test_a_plain_adapter_is_taken_over_for_the_tasks_whose_rows_are_kept(toy, plain, tmp_path):
    weights, trained = after(toy, tmp_path, plain, "place", memory=("feed",))
    assert (
        files(weights.adapter / "adapter_1")["adapter_model.safetensors"]
        == (plain.adapter / "adapter_model.safetensors").read_bytes()
    )
    assert toy.loss(weights, "feed") == toy.loss(plain, "feed")
    assert toy.loss(weights, "place") < LEARNED
    assert any("feed: answered by adapter_1" in note for note in trained.notes)


def test_a_version_of_which_no_rows_are_kept_is_refused_before_training_or_answers_what_is_far(toy, plain, tmp_path):
    job = toy.job(tmp_path, task="place", memory=(), **SEPARATE)
    for learned in (replace(job, start=plain), replace(job, learned=True)):
        with pytest.raises(InputError, match="nothing tells which prompts the version before is to answer") as refused:
            train(learned)
        assert not job.work.exists()
    assert "unknown: base" in refused.value.fix
    options = {**SEPARATE, "protect": [{"name": "separate", "unknown": "base"}]}
    trained = train(replace(toy.job(tmp_path, task="place", memory=(), **options), learned=True))
    assert toy.loss(weights_of(trained, toy.base), "paint") == toy.loss(toy.base, "paint")


def test_far_prompts_go_to_the_base_where_that_is_asked_for(toy, tmp_path):
    protect = [{"name": "separate", "unknown": "base"}]
    weights, _ = after(toy, tmp_path, None, "feed", protect=protect)
    assert toy.loss(weights, "feed") < 3, "nine prompts set aside let about one in ten of its own pass for far"
    assert toy.loss(weights, "paint") == toy.loss(toy.base, "paint")


def test_a_routed_version_teaches_each_row_as_its_own_adapter(toy, line):
    second = line["place"][0]
    teacher, model = FrozenCopy(second, torch.device("cpu")), load_model(second)
    ids_BT = torch.tensor(
        [load_tokenizer(second)(f"Human: {task} big cat Assistant:")["input_ids"] for task in toy.tasks]
    )
    mask_BT, where_BT = torch.ones_like(ids_BT), torch.zeros_like(ids_BT, dtype=torch.bool)
    where_BT[:, -1] = True
    logits_PV = teacher.logits(ids_BT, mask_BT, where_BT)
    for row in range(3):
        alone_1V = model(input_ids=ids_BT[row : row + 1], use_cache=False).logits[:, -1]
        torch.testing.assert_close(logits_PV[row : row + 1], alone_1V, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"tune": "full"}, "protection 'separate' does not work with the tuner 'full'"),
        ({"tune": {**LORA, "dora": True}}, "does not work with dora"),
        ({"tune": {**LORA, "init": "pissa"}}, "does not work with init pissa"),
        ({"protect": ["separate", "ewc"]}, "'separate' and 'ewc' contradict each other: earlier tasks are answered by"),
        ({"protect": ["separate", "merge"]}, "'separate' and 'merge' contradict each other: it makes one set"),
    ],
)
def test_what_cannot_stand_beside_others_is_refused(toy, tmp_path, options, what):
    with pytest.raises(InputError, match=what):
        toy.learn(tmp_path, **{**SEPARATE, **options})


def test_nothing_else_trains_on_from_a_routed_version(toy, line, tmp_path):
    job = replace(toy.job(tmp_path, task="place", tune=LORA, protect="none"), start=line["feed"][0])
    with pytest.raises(InputError, match="several adapters behind a router") as refused:
        train(job)
    assert "protect with separate" in refused.value.fix


def test_it_must_go_on_from_the_version_that_is_kept(toy, line, tmp_path):
    job = toy.job(tmp_path, task="place", memory=(), **SEPARATE)
    with pytest.raises(InputError, match="training starts from another one"):
        train(replace(job, start=line["place"][0], previous=line["feed"][0]))
    grown = train(replace(job, previous=line["feed"][0]))
    assert Router.load(grown.folder).adapters == (BASE, "adapter_1", "adapter_2")


@pytest.mark.slow
def test_a_run_that_broke_off_ends_as_an_unbroken_one(toy, line, bomb, tmp_path):
    """On top of an earlier adapter, of the task that goes on from it."""
    options = {**SEPARATE, "protect": ["separate", "bomb"], "train": {"max_steps": 6, "save_steps": 2}}
    before = line["feed"][0]
    broken, whole = (
        replace(toy.job(tmp_path / name, task="feed", memory=(), **options), start=before)
        for name in ("broken", "whole")
    )
    bomb.at = 5
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    bomb.at = None
    resumed, unbroken = train(broken), train(whole)
    assert "resumed from checkpoint-4" in resumed.notes
    saved = [load_file(one.folder / "adapter_2" / "adapter_model.safetensors") for one in (resumed, unbroken)]
    assert furthest(*saved) < 1e-6
    assert (resumed.folder / TENSORS).read_bytes() == (unbroken.folder / TENSORS).read_bytes()


@pytest.mark.parametrize(("stage", "make"), [("dpo", prefer), ("kto", judge), ("pt", None)])
def test_every_stage_adds_an_adapter(toy, line, stage, make, tmp_path):
    """Preferences have prompts; plain text is read whole."""
    train_settings = {"stage": stage, "max_steps": 2, "min_steps": 1}
    job = toy.job(tmp_path, task="place", memory=(), **{**SEPARATE, "train": train_settings})
    rows = [row.changed(kind="text", answers=()) for row in job.new] if make is None else make(job.new)
    trained = train(replace(job, start=line["feed"][0], new=rows))
    grown = weights_of(trained, toy.base)
    assert Router.load(trained.folder).of_task("place").adapter == "adapter_2"
    assert toy.loss(grown, "feed") == toy.loss(line["feed"][0], "feed")
