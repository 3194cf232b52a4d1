"""Teachers, adapters and what is saved: everything must load without nacre."""

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from train_kit import furthest, tensors
from transformers import AutoModelForCausalLM, AutoTokenizer

from nacre.base.errors import InputError
from nacre.data.convert import read_examples
from nacre.model.chat import IGNORED, encode, encode_text
from nacre.model.load import load_model
from nacre.model.tuners import apply
from nacre.model.vocabulary import Beside
from nacre.records.tune import Freeze, Full, Lora
from nacre.train.protect.distill import divergence
from nacre.train.protect.importance import files_key
from nacre.train.run import train
from nacre.train.teacher import FrozenCopy, SameBase
from nacre.train.teacher_cache import TeacherCache, bucketed_divergence, row_keys, top_of
from nacre.train.tuner import tuned_model
from toy_kit import weights_of

LORA = {"name": "lora", "rank": 4, "dropout": 0.1}
BRIEF = {"max_steps": 12, "learning_rate": 1e-2}
KEEP = ["replay", {"name": "distill", "weight": 1.0, "on": ["generic", "replayed"]}]


@pytest.fixture(scope="module")
def adapter(toy, tmp_path_factory):
    """An adapter that learned `feed` on the toy."""
    trained = toy.learn(tmp_path_factory.mktemp("adapter"), tune=LORA, train=BRIEF)
    return weights_of(trained, toy.base)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids [2, 9] with padding, mask, and some positions to ask at."""
    ids_BT = torch.arange(6, 24).reshape(2, 9)
    mask_BT = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    return ids_BT, mask_BT, mask_BT.bool() & (ids_BT % 2 == 0)


def state(model) -> tuple[dict[str, bool], dict[str, bool]]:
    return (
        {name: weight.requires_grad for name, weight in model.named_parameters() if ".previous." not in name},
        {name: module.training for name, module in model.named_modules() if "previous" not in name},
    )


@pytest.mark.parametrize("before", ["base", "adapter"])
def test_the_same_base_answers_as_a_frozen_copy_and_is_left_as_it_was(before, toy, adapter):
    previous = toy.base if before == "base" else adapter
    model = apply(load_model(adapter, train=True), Lora(rank=4)).model.train()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.add_(0.05)  # the one that trains has moved on
    as_it_was = state(model)
    assert any(as_it_was[0].values())
    assert all(as_it_was[1].values())
    ids_BT, mask_BT, where_BT = batch()
    trained_logits = model.eval()(ids_BT, attention_mask=mask_BT).logits[where_BT]
    model.train()
    said = SameBase(model, previous).logits(ids_BT, mask_BT, where_BT)
    copy = FrozenCopy(previous, torch.device("cpu")).logits(ids_BT, mask_BT, where_BT)
    plain = load_model(previous)(ids_BT, attention_mask=mask_BT).logits[where_BT]
    torch.testing.assert_close(said, copy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(copy, plain, rtol=1e-5, atol=1e-5)
    assert not said.requires_grad
    assert not copy.requires_grad
    assert (said - trained_logits).abs().max() > 0.1
    assert state(model) == as_it_was
    assert not any(weight.requires_grad for name, weight in model.named_parameters() if ".previous." in name)
    torch.testing.assert_close(model.eval()(ids_BT, attention_mask=mask_BT).logits[where_BT], trained_logits)


def test_a_teacher_that_fails_leaves_the_model_as_it_was(toy, adapter):
    model = apply(load_model(adapter, train=True), Lora(rank=4)).model.train()
    teacher = SameBase(model, adapter)
    as_it_was = state(model)
    with pytest.raises(IndexError):
        teacher.logits(torch.tensor([[10_000]]), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert state(model) == as_it_was


def test_an_adapter_goes_on_from_the_last_one_and_is_saved_alone(toy, adapter, tmp_path):
    job = replace(toy.job(tmp_path, task="place", tune=LORA, train=BRIEF, protect=KEEP), start=adapter)
    after = train(job)
    assert after.kind == "adapter"
    assert furthest(tensors(after), tensors(replace(after, folder=adapter.adapter))) > 1e-3
    assert sorted(path.name for path in after.folder.iterdir() if path.is_dir()) == []
    settings = json.loads((after.folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == toy.base.model
    assert settings["r"] == 4
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(toy.base.model), str(after.folder)).eval()
    ours = load_model(weights_of(after, toy.base))
    ids_BT, mask_BT, _ = batch()
    torch.testing.assert_close(
        plain(ids_BT, attention_mask=mask_BT).logits, ours(ids_BT, attention_mask=mask_BT).logits
    )
    assert list(plain.peft_config) == ["default"]
    assert AutoTokenizer.from_pretrained(after.folder).chat_template == toy.tokenizer.chat_template


@pytest.mark.slow
def test_distillation_protects_an_adapter_through_the_one_before(toy, adapter, tmp_path):
    def learn(folder, protect):
        job = toy.job(
            tmp_path / folder, task="place", memory=("paint", "feed"), tune=LORA, train=BRIEF, protect=protect
        )
        return weights_of(train(replace(job, start=adapter)), toy.base)

    plain, kept = learn("plain", "none"), learn("kept", KEEP)
    assert toy.loss(kept, "paint") < toy.loss(plain, "paint") - 1


def test_freezing_keeps_frozen_tensors_to_the_bit(toy, tmp_path):
    trained = toy.learn(tmp_path, tune={"name": "freeze", "trainable_layers": 1}, protect=KEEP, train=BRIEF)
    before, after = load_model(toy.base).state_dict(), AutoModelForCausalLM.from_pretrained(trained.folder).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("model.layers.1.") for name in changed)


def test_a_full_model_made_from_an_adapter_starts_where_it_was(toy, adapter, tmp_path):
    merged = apply(load_model(adapter, train=True), Full())
    ids_BT, mask_BT, _ = batch()
    before = load_model(adapter)(ids_BT, attention_mask=mask_BT).logits
    torch.testing.assert_close(merged.model.eval()(ids_BT, attention_mask=mask_BT).logits, before, rtol=1e-4, atol=1e-4)
    assert apply(load_model(adapter, train=True), Freeze(trainable_layers=1)).kind == "full"
    job = replace(toy.job(tmp_path, task="place", train=BRIEF, protect=KEEP), start=adapter)
    after = train(job)
    assert after.kind == "full"
    assert not (after.folder / "adapter_config.json").exists()
    plain = AutoModelForCausalLM.from_pretrained(after.folder)
    assert {type(module).__module__.split(".")[0] for module in plain.modules()} <= {"torch", "transformers"}
    torch.testing.assert_close(
        plain(ids_BT, attention_mask=mask_BT).logits,
        load_model(weights_of(after))(ids_BT, attention_mask=mask_BT).logits,
    )
    assert AutoTokenizer.from_pretrained(after.folder).chat_template == toy.tokenizer.chat_template


def test_a_full_model_is_kept_in_the_type_it_was_stored_in(toy, tmp_path):
    load_model(toy.base).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    toy.tokenizer.save_pretrained(tmp_path / "base")
    small = toy.base.changed(model=str(tmp_path / "base"))
    trained = train(replace(toy.job(tmp_path, train={"max_steps": 2}), start=small))
    assert {tensor.dtype for tensor in tensors(trained).values()} == {torch.bfloat16}


def test_terms_are_computed_where_trained_and_frozen_weights_may_meet(toy, tmp_path, monkeypatch):
    """As on a GPU: what trains is in float32, the rest in bfloat16, and only autocast multiplies the two."""

    def half(start, tune, work, dtype, **options):
        assert dtype is None
        return tuned_model(start, tune, work, torch.bfloat16, **options)

    monkeypatch.setattr("nacre.train.run.tuned_model", half)
    general = tmp_path / "general.txt"
    general.write_text("paint the fox red . " * 200)
    distill = {"name": "distill", "on": ["generic", "replayed"], "rows": 2, "length": 16}
    tune, protect = {"name": "freeze", "trainable_layers": 1}, ["replay", distill, {"name": "der", "top": 8}]
    job = toy.job(tmp_path, tune=tune, protect=protect, train={"precision": "bf16", "max_steps": 2})
    trained = train(replace(job, general=general))
    assert trained.final_loss < 10
    assert any(note.startswith("distill: the divergence") for note in trained.notes)


@pytest.mark.parametrize("tune", ["full", {"name": "lora", "rank": 4}], ids=["full", "lora"])
def test_a_cached_teacher_that_keeps_everything_teaches_what_the_live_one_does(tune, toy, spy, tmp_path, monkeypatch):
    """Where the head does not train, what was kept of replayed rows meets the scores of the rows' own loss."""
    along = []
    monkeypatch.setattr("nacre.train.trainer.Beside", lambda *given: along.append(given) or Beside(*given))
    other = weights_of(toy.learn(tmp_path / "other", task="place", train={"max_steps": 10}))
    settings = {"max_steps": 3, "scheduler": "constant", "warmup": 0, "batch_size": 16, "learning_rate": 1e-4}
    settings["accumulation"] = 2
    grads = {}
    for name, cache in (("live", {}), ("cached", {"cache": 10_000}), ("few", {"cache": 2})):
        spy.steps.clear()
        distill = {"name": "distill", "weight": 5.0, "on": ["replayed", "generic"], **cache}
        job = toy.job(tmp_path / name, tune=tune, protect=["replay", distill, "spy"], train=settings)
        train(replace(job, previous=other))
        grads[name] = list(spy.steps)
    assert len(along) == (0 if tune == "full" else 2 * 5), "all micro-batches but the first, which tries the head out"
    for step in range(3):
        assert furthest(grads["live"][step], grads["cached"][step]) < 1e-6
        assert furthest(grads["live"][step], grads["few"][step]) > 1e-4, "two tokens cannot say everything"


def test_what_a_few_tokens_leave_out_is_bounded_by_the_mass_outside_them():
    torch.manual_seed(0)
    teacher_PV, student_PV = 3 * torch.randn(6, 40), torch.randn(6, 40, requires_grad=True)
    whole = divergence(student_PV, teacher_PV)
    whole_grad = torch.autograd.grad(whole, student_PV)[0] * 6  # the mean is over six positions
    before = torch.tensor(0.0)
    for k in (1, 2, 4, 8, 20, 39, 40):
        top = top_of(teacher_PV, k)
        found = bucketed_divergence(student_PV, top)
        assert before <= found + 1e-6 <= whole + 2e-6, "more tokens say more, never more than all"
        before = found.detach()
        missed = torch.autograd.grad(found, student_PV)[0] * 6 - whole_grad
        assert bool((missed.abs().sum(-1) <= 2 * top.rest_P.exp() + 1e-5).all())
        assert float(missed.gather(-1, top.ids_PK.long()).abs().max()) < 1e-5, "on the tokens kept it is the whole one"
    assert float(found.detach()) == pytest.approx(float(whole.detach()), abs=1e-6)


@pytest.mark.slow
def test_the_teacher_is_asked_once_about_a_row_and_never_again_by_a_later_run(toy, tmp_path):
    keep = ["replay", {"name": "distill", "on": ["replayed", "generic"], "cache": 8}]
    job = toy.job(tmp_path, protect=keep, train={"max_steps": 30})
    first = train(job)
    asked = next(note for note in first.notes if "was asked about" in note)
    count = int(asked.split("asked about ")[1].split()[0])
    texts = len({tuple(row) for row in blocks(toy, job)})
    assert 20 < count <= 48 + texts, "48 past rows and the blocks of text, each once at most"
    second = train(replace(job, work=tmp_path / "again"))
    assert "distill: the previous version was asked about 0 rows and texts anew" in second.notes
    assert furthest(tensors(first), tensors(second)) == 0


def blocks(toy, job):
    texts = read_examples(next((job.shared / "generic").iterdir())).examples
    encoded = encode_text([row.prompt[0].content for row in texts], toy.tokenizer, 64)
    return [row.input_ids for row in encoded]


def test_rows_and_positions_name_what_was_asked_and_padding_does_not(tmp_path):
    ids_BT, mask_BT, where_BT = batch()
    keys = row_keys(ids_BT, mask_BT, where_BT)
    wider = [torch.nn.functional.pad(each, (0, 3)) for each in (ids_BT, mask_BT, where_BT)]
    assert row_keys(*wider) == keys
    elsewhere = where_BT.clone()
    elsewhere[0, 0] = ~elsewhere[0, 0]
    assert row_keys(ids_BT, mask_BT, elsewhere)[0] != keys[0]
    assert row_keys(ids_BT, mask_BT, elsewhere)[1] == keys[1]


def test_dark_experience_is_from_when_a_row_was_learned(toy, tmp_path):
    """Logits of `feed` come from the first increment, those of `paint` (learned without it) from the second's start."""
    protect = ["replay", {"name": "der", "top": 6}]
    job = toy.job(tmp_path / "first", task="feed", memory=(), protect=protect, train={"max_steps": 20})
    first = train(job)
    assert any("no rows of past tasks yet" in note for note in first.notes)
    middle = replace(
        toy.job(tmp_path / "middle", task="place", memory=("feed",), protect=protect, train={"max_steps": 20}),
        start=weights_of(first),
        shared=job.shared,
    )
    second = train(middle)
    assert any("asked about 0 rows" in note for note in second.notes), "logits of feed were stored as it was learned"
    last = replace(
        toy.job(tmp_path / "last", task="place", memory=("feed", "paint"), protect=protect, train={"max_steps": 20}),
        start=weights_of(second),
        shared=job.shared,
    )
    third = train(last)
    asked = int(next(note for note in third.notes if "asked about" in note).split("asked about ")[1].split()[0])
    assert 0 < asked <= 48, "only rows of paint"
    stored = TeacherCache(job.shared / "teacher" / f"der-6-{files_key(third.folder)}.safetensors", 6, None)
    for task, learned_by in (("feed", first), ("place", second)):
        row = encode(toy.tasks[task][0], toy.tokenizer, 64)
        ids_1T = torch.tensor([row.input_ids])
        where_1T = torch.tensor([[label != IGNORED for label in (*row.labels[1:], IGNORED)]])
        said = stored.look(ids_1T, torch.ones_like(ids_1T), where_1T)
        logits_PV = load_model(weights_of(learned_by))(ids_1T).logits[where_1T]
        expected, places = logits_PV.topk(6)
        torch.testing.assert_close(said.logs_PK + said.norm_P[:, None], expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(said.ids_PK.long(), places)


def test_dark_experience_needs_rows_that_are_replayed(toy, tmp_path):
    with pytest.raises(InputError, match="needs rows that are replayed"):
        toy.learn(tmp_path, protect=["der"])


def test_rows_beyond_the_limit_are_asked_about_each_time(monkeypatch, tmp_path):
    class Voice:
        def logits(self, input_ids_BT, attention_mask_BT, where_BT):
            return input_ids_BT[where_BT][:, None] * torch.linspace(0, 1, 10)

    rows_BT = torch.arange(1, 13).view(3, 4)
    where_BT = torch.tensor([[True, True, False, False]] * 3)
    monkeypatch.setattr("nacre.train.teacher_cache.LIMIT_BYTES", 1)
    cache = TeacherCache(tmp_path / "kept", 4, Voice)
    asked = []
    for place in (0, 0, 1, 1):
        one = slice(place, place + 1)
        found = cache.look(rows_BT[one], torch.ones(1, 4), where_BT[one])
        expected = top_of(Voice().logits(rows_BT[one], None, where_BT[one]), 4)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        asked.append(cache.asked)
    assert asked == [1, 1, 2, 3], "the first found room, the second did not"
