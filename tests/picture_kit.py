"""A tiny model that sees, and generated pictures: coloured shapes on black, of which one increment asks the colour and
another the shape.

The model is of the LLaVA kind: CLIP's vision tower over four patches, a projector, and the toy's Llama. It was taught
to name colour and shape together, so its tower knows both; the increments ask for one of them in words it does not
know.
"""

import io
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from nacre.model.chat import encode, ensure_template
from nacre.model.load import load_tokenizer
from nacre.model.pictures import Reader, see
from nacre.records import Example, Message, Weights
from workspace_kit import Place, write_lines

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 60, 230), "yellow": (230, 220, 40)}
SHAPES = ("square", "bar", "post", "dot")
WORDS = ["<pad>", "</s>", "<unk>", "Human", "Assistant", ":", "describe", "colour", "shape", "say", *COLOURS, *SHAPES]
SIDE = 16  # pixels
SPANS = {"square": (16, 16), "bar": (16, 8), "post": (8, 16), "dot": (8, 8)}  # how far to the right and down
SETTINGS = {
    "train": {"epochs": 8, "batch_size": 8, "learning_rate": 3e-3, "max_length": 64},
    "evaluate": {"max_length": 64},
}


def draw(colour: str, shape: str, chance: random.Random) -> bytes:
    """A PNG of the shape, its edges, shade and ground a little by chance."""
    ground = chance.randrange(40)
    picture = Image.new("RGB", (SIDE, SIDE), (ground, ground, ground))
    ink = tuple(max(0, min(255, part + chance.randrange(-20, 21))) for part in COLOURS[colour])
    wide, high = SPANS[shape]
    left, top, right, low = (chance.randrange(3) for _ in range(4))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((left, top, wide - 1 - right, high - 1 - low), fill=ink)
    written = io.BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()


def drawn(count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """So many pictures, of every colour and shape alike, in an order of chance."""
    chance = random.Random(seed)
    kinds = list(itertools.islice(itertools.cycle(itertools.product(COLOURS, SHAPES)), count))
    for colour, shape in chance.sample(kinds, count):
        yield colour, shape, draw(colour, shape, chance)


def write_pictures(dataset: Path, name: str, ask: str, *, train: int = 96, dev: int = 64, seed: int = 1) -> None:
    """An increment whose rows ask for `colour` or `shape` of a picture; its pictures lie beside its rows."""
    folder = dataset / name
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for place, (colour, shape, data) in enumerate(drawn(train + dev, seed)):
        path = f"pictures/{place}.png"
        (folder / path).write_bytes(data)
        answer = colour if ask == "colour" else shape
        said = [{"role": "user", "content": f"<image> {ask}"}, {"role": "assistant", "content": answer}]
        rows.append({"messages": said, "images": [path]})
    write_lines(folder / "train.json", rows[dev:])
    write_lines(folder / "dev.json", rows[:dev])


def picture_row(path: Path | str, question: str, answer: str) -> Example:
    """One row about one picture."""
    return Example(
        prompt=(Message(role="user", content=f"<image> {question}"),),
        answers=(Message(role="assistant", content=answer),),
        images=(str(path),),
    )


def make_processor(folder: Path, patch: int = 8) -> Any:
    """Whole words and `<image>` as tokens; pictures of 16 by 16 pixels make four, or more of smaller patches."""
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, extra_special_tokens={"image_token": "<image>"}, **special
    )
    size = {"height": SIDE, "width": SIDE}
    pixels = CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False)
    how = {"patch_size": patch, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    processor = LlavaProcessor(image_processor=pixels, tokenizer=tokenizer, **how)
    processor.save_pretrained(folder)
    return processor


def make_llava(tokenizer: Any, seed: int = 0, patch: int = 8) -> LlavaForConditionalGeneration:
    """Two layers that see and two that answer, of width 32."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    vision = CLIPVisionConfig(image_size=SIDE, patch_size=patch, projection_dim=32, **sizes)
    image = tokenizer.convert_tokens_to_ids("<image>")
    return LlavaForConditionalGeneration(
        LlavaConfig(text_config=text, vision_config=vision, image_token_index=image, vision_feature_layer=-1)
    )


@dataclass(frozen=True)
class Seer:
    """The tiny model that sees, in a folder."""

    base: Weights
    tokenizer: Any


def make_seer(folder: Path, *, steps: int = 250) -> Seer:
    """Teach it to name the colour and the shape of pictures, the tower and the projector included."""
    tokenizer = make_processor(folder).tokenizer
    ensure_template(tokenizer)
    tokenizer.pictures = reader = Reader(str(folder))
    model = make_llava(tokenizer)
    see(model, reader, fixed=False)
    chance, optimizer = random.Random(0), torch.optim.AdamW(model.parameters(), lr=2e-3)
    (folder / "drawn").mkdir()
    rows = []
    for place, (colour, shape, data) in enumerate(drawn(256, seed=0)):
        path = folder / "drawn" / f"{place}.png"
        path.write_bytes(data)
        rows.append(encode(picture_row(path, "describe", f"{colour} {shape}"), tokenizer, 64))
    for _ in range(steps):
        batch = chance.sample(rows, 32)
        input_ids = torch.tensor([row.input_ids for row in batch])
        labels = torch.tensor([row.labels for row in batch])
        loss = model(input_ids=input_ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    base = Weights(identity="seer" * 8, model=str(folder))
    return Seer(base, load_tokenizer(base))


def see_place(seer: Seer, root: Path, **settings: Any) -> Place:
    """A workspace on the model that sees."""
    root.mkdir(parents=True, exist_ok=True)
    assert Place(root).nacre("init", "eye", "--model", seer.base.model).code == 0
    place = Place(root / "eye")
    place.settings(**SETTINGS, **settings)
    return place


def picture_rows(folder: Path, ask: str, count: int, seed: int) -> Sequence[Example]:
    """Rows about pictures that are written into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for place, (colour, shape, data) in enumerate(drawn(count, seed)):
        path = folder / f"{seed}-{place}.png"
        path.write_bytes(data)
        found.append(picture_row(path, ask, colour if ask == "colour" else shape))
    return found
