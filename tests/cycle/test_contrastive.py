"""Two increments of pictures and captions on a model of two encoders: recall in the matrix, replay keeps the first."""

import random
import shutil

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
    ViTConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.clip.modeling_clip import image_text_contrastive_loss
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from nacre.model.align import info_nce, retrieve
from nacre.model.load import load_model, load_tokenizer
from nacre.records import Weights
from nacre.records.recipe import Recipe
from nacre.train.protect import PROTECTIONS
from nacre.train.run import Job, train
from picture_kit import COLOURS, SHAPES, SIDE, draw, picture_row
from workspace_kit import Place, assert_clear, write_lines

WORDS = ["<pad>", "<unk>", "<s>", "a", "picture", "of", "thing", *COLOURS, *SHAPES, "</s>"]


def tokens(folder):
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", WORDS.index("<s>")), ("</s>", WORDS.index("</s>"))]
    raw.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    special = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **special)


def sizes(**more):
    common = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return common | more


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A model of CLIP's kind that has learned nothing."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    end = WORDS.index("</s>")
    text = sizes(vocab_size=len(WORDS), max_position_embeddings=16, eos_token_id=end, bos_token_id=2, pad_token_id=0)
    vision = sizes(image_size=SIDE, patch_size=8)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)).save_pretrained(folder)
    tokens(folder).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False).save_pretrained(folder)
    return folder


def write_captions(dataset, name, kinds, *, train=96, dev=48, seed=1):
    """Pictures of these (colour, shape), with captions that name both."""
    chance, rows = random.Random(seed), []
    (dataset / name / "pictures").mkdir(parents=True)
    for place in range(train + dev):
        colour, shape = kinds[place % len(kinds)]
        path = f"pictures/{place}.png"
        (dataset / name / path).write_bytes(draw(colour, shape, chance))
        rows.append({"instruction": "<image>", "output": f"a {colour} {shape}", "images": [path]})
    write_lines(dataset / name / "train.json", rows[dev:])
    write_lines(dataset / name / "dev.json", rows[:dev])


@pytest.fixture(scope="module")
def aligned(clip, tmp_path_factory):
    root = tmp_path_factory.mktemp("aligned")
    assert Place(root).nacre("init", "pairs", "--model", str(clip)).code == 0
    place = Place(root / "pairs")
    train = {"stage": "clip", "epochs": 20, "batch_size": 16, "learning_rate": 3e-3, "max_length": 16}
    place.settings(train=train, evaluate={"max_length": 16}, keep={"max_drop": 0.1}, protect="none")
    first = [(colour, shape) for colour in ("red", "green") for shape in SHAPES]
    second = [(colour, shape) for colour in ("blue", "yellow") for shape in SHAPES]
    write_captions(place.dataset, "warm", first, seed=1)
    write_captions(place.dataset, "cold", second, seed=2)
    assert place.json("evolve", "warm")["promoted"]
    return place


def recall(place, version, task):
    found = place.json("matrix", version)
    return found["cells"][-1][found["tasks"].index(task)]


@pytest.mark.slow
@pytest.mark.parametrize("replayed", [True, False])
def test_recall_of_the_first_captions_is_kept_with_replay(aligned, tmp_path, replayed):
    shutil.copytree(aligned.root, tmp_path / "pairs")
    place = Place(tmp_path / "pairs")
    place.settings(protect=[{"name": "replay", "share": 0.4}] if replayed else "none")
    before = recall(place, 1, "warm")
    assert before >= 0.8
    found = place.json("evolve", "cold", code=0 if replayed else 3)
    assert recall(place, 2, "cold") >= 0.8
    lost = before - recall(place, 2, "warm")
    assert lost <= 0.1 if replayed else lost >= 0.2
    assert found["verdict"] == ("pass" if replayed else "fail")


def test_infonce_is_the_mean_of_both_directions():
    """By hand, and equal to transformers' own loss."""
    torch.manual_seed(1)
    image_BD, text_BD = torch.randn(4, 8), torch.randn(4, 8)
    scale = torch.tensor(5.0)
    found = info_nce(image_BD, text_BD, scale)
    logits_BB = 5 * functional.normalize(image_BD, dim=1) @ functional.normalize(text_BD, dim=1).T
    own = torch.arange(4)
    by_hand = (functional.cross_entropy(logits_BB, own) + functional.cross_entropy(logits_BB.T, own)) / 2
    torch.testing.assert_close(found, by_hand)
    torch.testing.assert_close(found, image_text_contrastive_loss(logits_BB.T))


def test_ranks_are_counted_in_both_directions(clip, tmp_path):
    weights = Weights(identity="clip", model=str(clip))
    model, tokenizer = load_model(weights), load_tokenizer(weights)
    chance, pairs = random.Random(0), []
    for place, (colour, shape) in enumerate([("red", "dot"), ("blue", "bar"), ("red", "dot")]):
        path = tmp_path / f"{place}.png"
        path.write_bytes(draw(colour, shape, chance))
        pairs.append((str(path), f"a {colour} {shape}"))
    found = retrieve(model, tokenizer, pairs, 16)
    assert all(1 <= one.ranks[0] <= 2 and 1 <= one.ranks[1] <= 3 for one in found)
    assert all((one.caption == caption) == (one.ranks[0] == 1) for one, (_, caption) in zip(found, pairs, strict=True))
    assert found[0].ranks[1] == found[2].ranks[1]  # either picture of the caption is right


@pytest.mark.slow
def test_a_vit_with_a_bert_is_aligned_too(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "dual"
    vision = ViTConfig(**sizes(image_size=SIDE, patch_size=8))
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    text = BertConfig(**sizes(vocab_size=len(WORDS), max_position_embeddings=16), **dropout)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=32)
    VisionTextDualEncoderModel(config).save_pretrained(folder)
    pixels = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    VisionTextDualEncoderProcessor(pixels, tokens(folder)).save_pretrained(folder)
    assert Place(tmp_path).nacre("init", "pairs", "--model", str(folder)).code == 0
    place = Place(tmp_path / "pairs")
    place.settings(train={"stage": "clip", "epochs": 30, "batch_size": 16, "learning_rate": 3e-3, "max_length": 16})
    write_captions(place.dataset, "warm", [("red", "dot"), ("blue", "bar"), ("green", "dot"), ("yellow", "bar")])
    found = place.json("evolve", "warm")
    assert found["promoted"]
    assert recall(place, 1, "warm") >= 0.8


@pytest.mark.slow
def test_the_stage_and_the_kind_of_model_must_agree(aligned, tmp_path, fresh):
    shutil.copytree(aligned.root, tmp_path / "pairs")
    place = Place(tmp_path / "pairs")
    place.settings(train={"stage": "sft"})
    assert_clear(place.nacre("evolve", "cold"), "kind clip", "stage sft does not train")
    place.settings(train={"stage": "clip"}, protect=[{"name": "agem"}])
    assert_clear(place.nacre("evolve", "cold"), "in the stage clip nothing is said", "replay")
    place.settings(protect="none", tune={"name": "lora"})
    assert_clear(place.nacre("evolve", "cold"), "does not go with this setting", "tune")
    fresh.settings(train={"stage": "clip"})
    write_captions(fresh.dataset, "warm", [("red", "dot")], train=24, dev=8)
    assert_clear(fresh.nacre("evolve", "warm"), "kind llama", "stage clip does not train")


@pytest.mark.parametrize("name", [name for name in PROTECTIONS.names() if PROTECTIONS.load(name).aligns])
def test_a_protection_of_rows_or_weights_acts_on_two_encoders(clip, tmp_path, name):
    chance, rows = random.Random(0), []
    for place, (colour, shape) in enumerate(
        [("red", "dot"), ("blue", "bar"), ("green", "post"), ("yellow", "dot")] * 6
    ):
        path = tmp_path / f"{place}.png"
        path.write_bytes(draw(colour, shape, chance))
        rows.append(picture_row(path, "", f"a {colour} {shape}"))
    train_settings = {"stage": "clip", "epochs": 2.0, "batch_size": 8, "max_length": 16, "learning_rate": 3e-3}
    start = Weights(identity="clip", model=str(clip))
    moved = {}
    for protect in ([], [{"name": name, **({"strength": 50.0} if name == "l2" else {})}]):
        recipe = Recipe.model_validate({"protect": protect, "train": train_settings | {"min_steps": 6}})
        work = tmp_path / f"work{len(protect)}"
        job = Job(start, recipe, rows[:12], work / "run", work / "memory", memory={"old": rows[12:]}, learned=True)
        made = load_model(Weights(identity="made", model=str(train(job).folder)))
        before = dict(load_model(start).named_parameters())
        moved[len(protect)] = sum(float((w - before[n]).detach().square().sum()) for n, w in made.named_parameters())
    assert moved[0] > 0
    assert moved[1] != moved[0]
    if name == "l2":
        assert moved[1] < moved[0]
