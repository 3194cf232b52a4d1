"""Every protection acts on rows with pictures, and on them changes what it claims to change."""

import itertools
import json
import random
import shutil

import pytest
import torch

from nacre.base.errors import InputError
from nacre.model.chat import encode, ensure_template, prompt_ids
from nacre.model.load import load_model
from nacre.model.losses import answer_losses, text_losses
from nacre.model.pictures import FIRST, Reader, see, vision_names
from nacre.model.router import Router, read_prompts
from nacre.records import Weights
from nacre.records.recipe import Recipe
from nacre.train.protect import PROTECTIONS
from nacre.train.protect.auto import Past, ladder
from nacre.train.protect.base import predictable
from nacre.train.protect.build import fitting
from nacre.train.protect.sdft import DEMONSTRATION
from nacre.train.run import Job, Trained, train
from picture_kit import COLOURS, SHAPES, Seer, make_llava, make_processor, picture_rows
from toy_kit import ask, weights_of

LORA = {"name": "lora", "rank": 8}
ON_ROWS_AND_WEIGHTS = {
    "agem": [{"name": "agem"}],
    "average": [{"name": "average"}],
    "der": [{"name": "replay"}, {"name": "der"}],
    "distill": [{"name": "replay"}, {"name": "distill", "on": ["replayed", "generic"], "rows": 1}],
    "ewc": [{"name": "ewc", "strength": 1000.0}],
    "freeze": [{"name": "freeze", "first": 1}],
    "l2": [{"name": "l2", "strength": 10.0}],
    "merge": [{"name": "merge"}],
    "mofo": [{"name": "mofo"}],
    "osf": [{"name": "osf"}],
    "rehearse": [{"name": "rehearse"}],
    "replay": [{"name": "replay", "share": 0.4}],
    "si": [{"name": "si", "strength": 1e4}],
}
ON_ADAPTERS = {
    "intruder": [{"name": "intruder", "keep": 0.0}],
    "orthogonal": [{"name": "orthogonal"}],
    "separate": [{"name": "separate"}],
}
FIRM = ("replay", "distill", "ewc", "l2", "osf", "rehearse", "si", "intruder", "separate")
OF_THEIR_OWN = ("block-expansion", "general", "lm", "sdft")  # each has a test of what else it claims


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return {ask: picture_rows(folder, ask, 48, seed) for seed, ask in enumerate(("colour", "shape"), 5)}


def learn(seer: Seer, rows, start: Weights, task: str, work, *, protect=(), tune=None, memory=(), **job) -> Trained:
    settings = {"epochs": 6.0, "batch_size": 8, "max_length": 64, "learning_rate": 3e-3, "min_steps": 1}
    recipe = {"protect": protect, "tune": tune or {"name": "full"}, "train": settings}
    return train(
        Job(
            start=start,
            recipe=Recipe.model_validate(recipe),
            new=rows[task],
            memory={name: rows[name] for name in memory},
            task=task,
            work=work / "run",
            shared=work / "memory",
            base=seer.base.identity,
            **{"learned": bool(memory), **job},
        )
    )


@pytest.fixture(scope="module")
def first(seer, rows, tmp_path_factory):
    """A version that knows colours, with what ewc and si must remember of it."""
    work = tmp_path_factory.mktemp("first")
    made = learn(seer, rows, seer.base, "colour", work, protect=[{"name": "ewc"}, {"name": "si"}])
    return weights_of(made), work


@pytest.fixture(scope="module")
def first_adapter(seer, rows, tmp_path_factory):
    """An adapter that knows colours."""
    return weights_of(learn(seer, rows, seer.base, "colour", tmp_path_factory.mktemp("adapter"), tune=LORA), seer.base)


def loss_of(seer, weights, rows):
    losses = answer_losses(load_model(weights), seer.tokenizer, rows, 64)
    return sum(one.nll for one in losses) / sum(one.tokens for one in losses)


@pytest.fixture(scope="module")
def plain(seer, rows, first, tmp_path_factory):
    """What became of the version without any protection."""
    return weights_of(learn(seer, rows, first[0], "shape", tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def plain_adapter(seer, rows, first_adapter, tmp_path_factory):
    """The same of the adapter."""
    work = tmp_path_factory.mktemp("plain_adapter")
    return weights_of(learn(seer, rows, first_adapter, "shape", work, tune=LORA), seer.base)


def seen_alike(one, other) -> bool:
    """Whether all that sees is bit for bit the same in two versions."""
    models = [load_model(weights) for weights in (one, other)]
    return all(
        torch.equal(before, after)
        for part in vision_names(models[0])
        for before, after in zip(*(getattr(model.base_model, part).parameters() for model in models), strict=True)
    )


def test_every_protection_has_its_test_on_rows_with_pictures():
    tested = {*ON_ROWS_AND_WEIGHTS, *ON_ADAPTERS, *OF_THEIR_OWN}
    assert tested == set(PROTECTIONS.names())
    assert all(PROTECTIONS.load(name).pictures for name in tested)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_ROWS_AND_WEIGHTS)
def test_a_protection_acts_on_rows_with_pictures(seer, rows, first, plain, tmp_path, name):
    shutil.copytree(first[1] / "memory", tmp_path / "memory", dirs_exist_ok=True)
    made = learn(seer, rows, first[0], "shape", tmp_path, protect=ON_ROWS_AND_WEIGHTS[name], memory=("colour",))
    assert torch.isfinite(torch.tensor(made.final_loss))
    kept, lost = (loss_of(seer, weights, rows["colour"]) for weights in (weights_of(made), plain))
    assert kept != lost
    if name in FIRM:
        assert kept < 0.8 * lost
    assert seen_alike(first[0], weights_of(made))


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_ADAPTERS)
def test_a_protection_of_adapters_acts_on_rows_with_pictures(seer, rows, first_adapter, plain_adapter, tmp_path, name):
    made = learn(seer, rows, first_adapter, "shape", tmp_path, protect=ON_ADAPTERS[name], tune=LORA, memory=("colour",))
    weights = weights_of(made, seer.base)
    kept, lost = (loss_of(seer, one, rows["colour"]) for one in (weights, plain_adapter))
    assert kept < 0.8 * lost
    assert loss_of(seer, weights, rows["shape"]) < loss_of(seer, first_adapter, rows["shape"])
    if name == "separate":  # what it claims: the old one is not touched, and the router finds it
        assert kept < 2 * loss_of(seer, first_adapter, rows["colour"]) + 0.2
    if name == "orthogonal":
        old, new = (load_model(one).state_dict() for one in (first_adapter, weights))
        read = [key for key in old if ".lora_A." in key]
        assert read
        assert all(torch.equal(new[key][: len(old[key])], old[key]) for key in read)


@pytest.mark.slow
def test_blocks_that_are_new_learn_from_pictures_and_the_old_ones_stay(seer, rows, first, tmp_path):
    made = weights_of(learn(seer, rows, first[0], "shape", tmp_path, protect=[{"name": "block-expansion"}]))
    assert loss_of(seer, made, rows["shape"]) < 0.5 * loss_of(seer, first[0], rows["shape"])
    old, new = (load_model(one).get_decoder().layers for one in (first[0], made))
    assert len(new) == len(old) + 1
    for before, after in zip(old, new, strict=False):  # the new block is the last one
        assert all(torch.equal(one, other) for one, other in zip(before.parameters(), after.parameters(), strict=True))
    assert seen_alike(first[0], made)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["general", "lm"])
def test_texts_beside_pictures_are_practised(seer, rows, first, plain, tmp_path, name):
    said = [ask(f"say {word}", word) for word in (*COLOURS, *SHAPES)]
    file = tmp_path / "general.json"
    file.write_text(json.dumps([{"instruction": row.prompt[0].content, "output": row.answer} for row in said * 8]))
    protect = {"general": {"name": "general"}, "lm": {"name": "lm", "weight": 1.0, "length": 16}}[name]
    made = weights_of(learn(seer, rows, first[0], "shape", tmp_path, protect=[protect], general=file))

    def losses(weights):
        if name == "general":
            return loss_of(seer, weights, said)
        texts = [f"{row.prompt[0].content}\n{row.answer}" for row in said]
        return sum(one.nll for one in text_losses(load_model(weights), seer.tokenizer, texts, 64))

    assert losses(made) < 0.8 * losses(plain)
    assert loss_of(seer, made, rows["shape"]) < 0.5 * loss_of(seer, first[0], rows["shape"])


@pytest.mark.slow
def test_a_teacher_that_is_shown_the_answer_sees_the_picture_too(seer, rows, tmp_path):
    reader = learn_to_read_demonstrations(seer, rows, tmp_path / "reader")
    protect = [{"name": "sdft", "answer_tokens": 4}]
    made = learn(seer, rows, reader, "shape", tmp_path, protect=protect)
    assert any(note.startswith("sdft: 48 rows are taught by demonstration") for note in made.notes), made.notes
    assert loss_of(seer, weights_of(made), rows["shape"]) < 0.7 * loss_of(seer, reader, rows["shape"])


def learn_to_read_demonstrations(seer, rows, folder) -> Weights:
    """A model that sees and repeats, of a picture, the answer it is shown."""
    shutil.copytree(seer.base.model, folder)
    start = Weights(identity="reader" * 4, model=str(folder))
    model, draw = load_model(start, train=True), random.Random(0)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=3e-3)
    for _ in range(250):
        batch = []
        for row in draw.sample(rows["shape"], 16):
            answer = draw.choice(SHAPES)
            asked = DEMONSTRATION.format(question="<image> shape", answer=answer)
            said = ask(asked, answer).model_copy(update={"images": row.images})
            batch.append(encode(said, seer.tokenizer, 64))
        ids_BT, labels_BT = (torch.tensor([getattr(row, what) for row in batch]) for what in ("input_ids", "labels"))
        optimizer.zero_grad()
        model(input_ids=ids_BT, labels=labels_BT).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return start


@pytest.mark.slow
def test_adapters_learn_from_pictures_and_go_on(seer, rows, tmp_path):
    tune = {"name": "lora", "rank": 8}
    made = learn(seer, rows, seer.base, "colour", tmp_path / "one", tune=tune)
    weights = weights_of(made, seer.base)
    before, after = (loss_of(seer, one, rows["colour"]) for one in (seer.base, weights))
    assert after < 0.7 * before
    replay = [{"name": "replay", "share": 0.4}]
    more = learn(seer, rows, weights, "shape", tmp_path / "two", tune=tune, protect=replay, memory=("colour",))
    assert loss_of(seer, weights_of(more, seer.base), rows["shape"]) < loss_of(seer, weights, rows["shape"])


def test_a_version_of_a_model_that_sees_can_be_loaded_by_transformers_alone(first, rows):
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = first[0].model
    processor, model = AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)
    row = rows["colour"][0]
    text = "Human: <image> colour\nAssistant:"
    given = processor(images=[Image.open(row.images[0])], text=[text], return_tensors="pt")
    said = model(**given).logits[0, -1].argmax()
    assert processor.tokenizer.decode([said]) == row.answer


def test_a_protection_that_was_not_tried_with_pictures_is_refused(seer, rows, spy, tmp_path):
    with pytest.raises(InputError, match="'spy' was never tried on rows with pictures") as caught:
        learn(seer, rows, seer.base, "shape", tmp_path, protect=[{"name": "spy"}])
    assert "replay" in caught.value.fix


def test_patches_are_no_words_to_be_taught(seer, rows):
    ids_1T = torch.tensor([[*encode(rows["colour"][0], seer.tokenizer, 64).input_ids, 0]])
    mask_1T = torch.ones_like(ids_1T)
    mask_1T[0, -1] = 0
    taught_1T = predictable({"input_ids": ids_1T, "attention_mask": mask_1T})
    patches_1T = ids_1T[:, 1:] >= FIRST
    assert int(patches_1T.sum()) == 4
    assert not taught_1T[patches_1T].any()
    assert int(taught_1T.sum()) == ids_1T.shape[1] - 1 - 4 - 1


def test_examples_with_pictures_are_not_shown_to_what_writes_words(seer, rows, tmp_path):
    protect = [{"name": "rehearse", "seeds": 2}]
    with pytest.raises(InputError, match="kept rows have pictures"):
        learn(seer, rows, seer.base, "shape", tmp_path, protect=protect, memory=("colour",))


def test_a_router_tells_questions_apart_however_many_patches_a_picture_has(tmp_path):
    processor = make_processor(tmp_path, patch=2)
    tokenizer = processor.tokenizer
    ensure_template(tokenizer)
    tokenizer.pictures = reader = Reader(str(tmp_path))
    model = make_llava(tokenizer, patch=2).eval()
    see(model, reader, fixed=True)

    def read(question, seed):
        asked = picture_rows(tmp_path / "drawn", question, 24, seed)
        return read_prompts(model, [prompt_ids(row.prompt, tokenizer, images=row.images) for row in asked])

    router, questions = Router(), ("colour", "shape")
    for seed, question in enumerate(questions):
        router = router.with_task(question, question, read(question, seed))
    for seed, question in enumerate(questions, 5):
        assert router.choose(read(question, seed)).count(question) >= 23


def test_all_that_auto_may_choose_bears_pictures():
    tunes = ({"name": "full"}, LORA, {**LORA, "dora": True}, {"name": "freeze", "trainable_layers": 1})
    kinds = itertools.product((False, True), (False, True), (0.0, 0.05, 1.0), (False, True))
    chosen = set()
    for (learned, old, share, routed), tune in itertools.product(kinds, tunes):
        asked = Recipe.model_validate({"tune": tune})
        rungs = fitting(ladder(asked, Past(learned, old, share, routed)), asked)
        assert rungs
        chosen |= {entry["name"] for rung in rungs for entry in rung.protect}
    assert {"replay", "distill", "ewc", "separate"} <= chosen
    assert all(PROTECTIONS.load(name).pictures for name in chosen)


@pytest.mark.slow
def test_auto_keeps_pictures_where_few_old_rows_may_be_kept(seer, rows, plain, tmp_path):
    auto = {"protect": "auto", "share": 0.05}
    one = learn(seer, rows, seer.base, "colour", tmp_path / "one", **auto)
    begun = weights_of(one, seer.base)
    few = {**rows, "colour": rows["colour"][:4]}
    made = learn(seer, few, begun, "shape", tmp_path / "two", memory=("colour",), **auto)
    for run in (one, made):
        assert any(note.startswith("protect auto: ") and "an adapter of its own" in note for note in run.notes), (
            run.notes
        )
    weights = weights_of(made, seer.base)
    assert loss_of(seer, weights, rows["colour"]) < 0.8 * loss_of(seer, plain, rows["colour"])
    assert loss_of(seer, weights, rows["shape"]) < loss_of(seer, begun, rows["shape"])


@pytest.mark.slow
def test_auto_holds_weights_where_no_old_row_is_there(seer, rows, first, plain, tmp_path):
    shutil.copytree(first[1] / "memory", tmp_path / "memory")
    auto = {"protect": "auto", "learned": True, "share": 0.0}
    made = learn(seer, rows, first[0], "shape", tmp_path, **auto)
    assert any(note.startswith("protect auto: ") and "weights that mattered" in note for note in made.notes), made.notes
    assert any(note.startswith("ewc: strength") and "so nothing is held" not in note for note in made.notes), made.notes
    weights = weights_of(made)
    assert loss_of(seer, weights, rows["colour"]) < loss_of(seer, plain, rows["colour"])
    assert loss_of(seer, weights, rows["shape"]) < loss_of(seer, first[0], rows["shape"])
