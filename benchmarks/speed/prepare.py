"""Models drawn at random and rows of text, the same for every contestant: made once into a folder."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nacre.model.chat import ensure_template
from nacre.model.load import load_tokenizer
from nacre.records import Example, Message, Weights
from nacre.train.rows import encode_rows

VOCABULARY = 151_936
WORDS = 6000
LENGTHS = (120, 135, 150, 172, 190, 205, 217, 240, 268, 300, 350, 494)  # tokens of a row: median 211, like instructions
LABELLED = 0.223  # share of a row's tokens that are its answer


@dataclass(frozen=True)
class Case:
    """A model, what trains of it, and how many rows and steps.

    Attributes:
        batch: rows of an optimizer step.
        rows: distinct rows; each is seen once an epoch.
        tune: nacre's words for what trains.
    """

    kind: type[LlamaConfig]
    sizes: dict[str, Any]
    tune: dict[str, Any]
    batch: int
    rows: int


LLAMA = {"hidden_size": 512, "intermediate_size": 1536, "num_attention_heads": 8, "num_key_value_heads": 4}
LORA = {"name": "lora", "rank": 8}
CASES = {
    "w1": Case(LlamaConfig, LLAMA | {"num_hidden_layers": 8}, LORA, batch=4, rows=4),
    "w2": Case(LlamaConfig, LLAMA | {"num_hidden_layers": 12}, {"name": "freeze", "trainable_layers": 2}, 4, rows=12),
    "w3": Case(LlamaConfig, LLAMA | {"num_hidden_layers": 8}, LORA, batch=16, rows=12),
    "w4": Case(
        LlamaConfig,  # with Qwen2's own, transformers would read the tokenizer as Qwen2's and find no word in it
        {
            "attention_bias": True,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "num_hidden_layers": 24,
        },
        LORA,
        batch=2,
        rows=2,
    ),
}
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}


def words_of(text: Path | None) -> list[str]:
    """The words of a file; without one, words of invented syllables, frequent ones first."""
    if text is not None:
        return text.read_text(errors="replace").split()[:200_000]
    draw = random.Random(0)
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    known = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(WORDS)]
    return draw.choices(known, weights=[1 / (place + 3) for place in range(WORDS)], k=60_000)


def make_tokenizer(words: list[str]) -> Any:
    """One token a word."""
    vocabulary = ["<pad>", "</s>", "<unk>", *sorted(set(words))]
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(vocabulary)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def examples(words: list[str], count: int, offset: int = 0) -> list[Example]:
    """Questions and answers of the usual lengths, cut out of the words one after another."""
    draw, at, found = random.Random(offset), offset * 997, []
    lengths = [LENGTHS[(place * len(LENGTHS)) // count % len(LENGTHS)] for place in range(count)]
    for length in draw.sample(lengths, count):
        answer = max(2, round(LABELLED * length))
        asked, said = (words[(at + place) % len(words)] for place in range(length - answer)), []
        asked = " ".join(asked)
        at += length - answer
        said = " ".join(words[(at + place) % len(words)] for place in range(answer))
        at += answer
        prompt = (Message(role="user", content=asked),)
        found.append(Example(prompt=prompt, answers=(Message(role="assistant", content=said),)))
    return found


def prepare(name: str, folder: Path, text: Path | None, tiny: bool) -> dict[str, Any]:
    """Write model, tokenizer and rows of a case; returns what there is to compute in one row of tokens."""
    case, words = CASES[name], words_of(text)
    sizes = case.sizes | (TINY | {"num_hidden_layers": 4} if tiny else {})
    tokenizer = make_tokenizer(words)
    vocabulary = max(2 * len(tokenizer), 4096) if tiny else VOCABULARY
    torch.manual_seed(0)
    config = case.kind(
        **sizes,
        vocab_size=vocabulary,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    ensure_template(tokenizer)
    new, old = examples(words, case.rows), examples(words, 4, offset=1)
    for kind, rows in (("new", new), ("old", old)):
        lines = [row.model_dump_json() for row in rows]
        (folder / f"{kind}.jsonl").write_text("\n".join(lines))
    (folder / "general.txt").write_text(" ".join(words[:130]))
    encoded = encode_rows(new, tokenizer, 1024, [])
    rows = [{"input_ids": row.input_ids, "labels": row.labels} for row in encoded]
    if encode_rows(new, load_tokenizer(Weights(identity=name, model=str(folder / "model"))), 1024, []) != encoded:
        raise SystemExit(f"{name}: the tokenizer is read as another one than was written")
    (folder / "tokens.json").write_text(json.dumps(rows))
    linear = sum(
        weight.numel() for place, weight in model.named_parameters() if ".layers." in place and weight.dim() > 1
    )
    told = {
        "case": name,
        "parameters": model.num_parameters(),
        "linear": linear,
        "head": vocabulary * sizes["hidden_size"],
        "hidden": sizes["hidden_size"],
        "layers": sizes["num_hidden_layers"],
        "batch": case.batch,
        "steps_per_epoch": max(1, case.rows // case.batch),
        "tune": case.tune,
        "tokens": [len(row["input_ids"]) for row in rows],
        "labelled": [sum(label != -100 for label in row["labels"][1:]) for row in rows],
    }
    (folder / "case.json").write_text(json.dumps(told))
    return told
