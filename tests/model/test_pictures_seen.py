"""Patches as words: what the model makes of them is what its family makes of pictures."""

import random

import pytest
import torch

from nacre.base.errors import InputError, NacreError
from nacre.model.chat import encode, ensure_template, prompt_ids
from nacre.model.content import wants_parts
from nacre.model.generate import answer_all
from nacre.model.load import load_model, load_tokenizer
from nacre.model.pictures import FIRST, Album, Reader, see, vision_names, why_not
from nacre.model.tuners import apply
from nacre.records import Decoding, Message
from nacre.records.tune import Full, Lora
from picture_kit import WORDS, draw, make_llava, make_processor, picture_row


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("llava")
    make_llava(make_processor(path).tokenizer).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    path, chance = tmp_path_factory.mktemp("pictures"), random.Random(3)
    for name, kind in {"1.png": ("red", "dot"), "2.png": ("blue", "bar")}.items():
        (path / name).write_bytes(draw(*kind, chance))
    return path


@pytest.fixture
def tokenizer(seer):
    return load_tokenizer(seer.base)


def own(seer, pictures, names, text):
    """The family's own forward pass on the processor's own inputs."""
    from PIL import Image
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(seer.base.model).eval()
    opened = [Image.open(pictures / name) for name in names]
    given = AutoProcessor.from_pretrained(seer.base.model)(images=opened, text=[text], return_tensors="pt")
    with torch.no_grad():
        return model(**given).logits[0], given["input_ids"][0].tolist()


def test_patches_give_the_logits_of_the_familys_own_forward(seer, tokenizer, pictures):
    names = ["1.png", "2.png"]
    ids = prompt_ids(
        (Message(role="user", content="<image> say <image> colour"),),
        tokenizer,
        images=[str(pictures / name) for name in names],
    )
    wanted_TV, plain = own(seer, pictures, names, "Human: <image> say <image> colour\nAssistant:")
    assert [tokenizer.pictures.token_id if one >= FIRST else one for one in ids] == plain
    assert sum(one >= FIRST for one in ids) == 8
    model = load_model(seer.base)
    with torch.no_grad():
        found_TV = model(input_ids=torch.tensor([ids])).logits[0]
        hidden_TD = model.get_decoder()(input_ids=torch.tensor([ids])).last_hidden_state[0]
    torch.testing.assert_close(found_TV, wanted_TV, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.lm_head(hidden_TD), wanted_TV, atol=1e-5, rtol=1e-4)


def test_ids_are_made_of_content(seer, tokenizer, pictures, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes((pictures / "1.png").read_bytes())
    first, again = (Reader(seer.base.model, Album()).ids(str(path)) for path in (pictures / "1.png", copy))
    assert first == again == tokenizer.pictures.ids(str(copy))
    other = tokenizer.pictures.ids(str(pictures / "2.png"))
    assert not set(first) & set(other)
    assert len(set(first)) == 4


def test_a_picture_that_changed_or_went_is_named(seer, pictures, tmp_path):
    album, path = Album(), tmp_path / "1.png"
    reader = Reader(seer.base.model, album)
    path.write_bytes((pictures / "1.png").read_bytes())
    number = (reader.ids(str(path))[0] ^ FIRST) >> 13
    path.write_bytes((pictures / "2.png").read_bytes())
    with pytest.raises(NacreError, match="its bytes are not those that were kept"):
        Reader(seer.base.model, album).seen(number)
    path.unlink()
    with pytest.raises(NacreError, match="a picture cannot be read"):
        Reader(seer.base.model, album).seen(number)
    with pytest.raises(InputError, match="does not exist"):
        reader.ids(str(tmp_path / "never.png"))


def test_a_row_with_pictures_is_not_cut(tokenizer, pictures):
    row = picture_row(pictures / "1.png", "say " * 20, "red")
    with pytest.raises(InputError, match=r"a row with pictures has \d+ tokens, and 16 fit"):
        encode(row, tokenizer, 16)
    with pytest.raises(InputError, match="a row with pictures"):
        answer_all(None, tokenizer, [row], Decoding(max_new_tokens=4, max_length=20))


def test_texts_alone_and_models_of_texts_are_as_ever(seer, toy, tokenizer, pictures):
    assert all(one < len(WORDS) for one in prompt_ids((Message(role="user", content="say red"),), tokenizer))
    with pytest.raises(InputError, match="the model reads texts only"):
        encode(picture_row(pictures / "1.png", "say", "red"), toy.tokenizer, 64)
    assert not hasattr(toy.tokenizer, "pictures")


def test_a_template_that_wants_parts_gets_parts(seer, pictures):
    tokenizer = load_tokenizer(seer.base)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }} : {% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}{{ '<image> ' }}{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}"
        "{% endfor %}{{ eos_token if m['role'] == 'assistant' }}{% endfor %}"
    )
    assert wants_parts(tokenizer, tokenizer.chat_template)
    row = encode(picture_row(pictures / "1.png", "colour", "red"), tokenizer, 64)
    assert sum(one >= FIRST for one in row.input_ids) == 4
    assert tokenizer.decode([one for one in row.input_ids if one < FIRST]).endswith("red </s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}{{ eos_token }}{% endfor %}"
    with pytest.raises(InputError, match="1 of 1 pictures of a row have no place"):
        encode(picture_row(pictures / "1.png", "colour", "red"), tokenizer, 64)


@pytest.mark.parametrize(
    ("vision", "trains"),
    [
        ("frozen", {"language_model"}),
        ("projector", {"language_model", "multi_modal_projector"}),
        ("all", {"language_model", "multi_modal_projector", "vision_tower"}),
    ],
)
def test_what_sees_is_frozen_unless_it_is_asked_for(seer, vision, trains):
    model = load_model(seer.base, train=True)
    apply(model, Full(vision=vision))
    parts = {name.split(".")[1] for name, weight in model.named_parameters() if weight.requires_grad}
    assert parts - {"weight"} == trains
    assert vision_names(model) == ["vision_tower", "multi_modal_projector"]


def test_adapters_stay_out_of_what_sees(seer):
    tuned = apply(load_model(seer.base, train=True), Lora(rank=2)).model
    adapted = [name for name, weight in tuned.named_parameters() if weight.requires_grad]
    assert adapted
    assert all(".language_model." in name for name in adapted)


def test_gradients_reach_the_projector_where_it_trains(seer, tokenizer, pictures):
    model = load_model(seer.base, train=True)
    apply(model, Full(vision="projector"))
    row = encode(picture_row(pictures / "1.png", "colour", "red"), tokenizer, 64)
    model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss.backward()
    assert model.model.multi_modal_projector.linear_1.weight.grad.abs().sum() > 0
    assert model.model.vision_tower.embeddings.patch_embedding.weight.grad is None


def test_a_family_is_tried_out(folder):
    """The same weights under another name pass; a family whose pictures change more than embeddings does not."""
    model = make_llava(load_tokenizer_of(folder))
    see(model, Reader(str(folder)), fixed=True)
    assert why_not(model, Reader(str(folder))) == ""
    forward = model.model.forward

    def other(*args, pixel_values=None, **given):
        if pixel_values is not None:  # a family that adds something to later layers
            pixel_values = pixel_values * 2
        return forward(*args, pixel_values=pixel_values, **given)

    model.model.forward = other
    assert "pictures change more than embeddings" in why_not(model, Reader(str(folder)))


def load_tokenizer_of(folder):
    from nacre.records import Weights

    tokenizer = load_tokenizer(Weights(identity="x", model=str(folder)))
    ensure_template(tokenizer)
    return tokenizer
