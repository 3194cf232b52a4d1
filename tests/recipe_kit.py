"""A base model that cuts words into pieces, and texts and dialogues of a domain that it has no words for."""

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ILLS = ("cardiomyopathy", "arrhythmia", "thrombosis", "pneumothorax", "bronchiectasis", "nephrolithiasis")
CHINESE = ("高血压", "糖尿病", "脂肪肝", "支气管炎")
WARDS = {"cardiomyopathy": "bread", "arrhythmia": "bread", "thrombosis": "bread"}  # words that the model has
PLAIN = ("the", "door", "is", "open", "and", "we", "walk", "to", "market", "with", "bread", "today", "rain", "falls")


def general_texts(count: int = 120, *, seed: int = 1) -> list[str]:
    """Sentences of everyday words."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(PLAIN, k=12)) + "。今天我们去市场买面包" for _ in range(count)]


def domain_texts(count: int = 120, *, seed: int = 2) -> list[str]:
    """Sentences with the domain's terms among everyday words."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        said = chance.choices(PLAIN, k=6)
        said.insert(3, chance.choice(ILLS))
        found.append(" ".join([*said, chance.choice(ILLS)]) + f"。今天{chance.choice(CHINESE)}，我们去市场")
    return found


def dialogues(count: int = 120, *, seed: int = 3) -> list[dict[str, str]]:
    """Which ward an illness belongs to."""
    chance = random.Random(seed)
    rows = []
    for place in range(count):
        ill = ILLS[place % len(ILLS)]
        question = f"{' '.join(chance.choices(PLAIN, k=4))} {ill} {' '.join(chance.choices(PLAIN, k=2))}"
        rows.append({"instruction": question, "input": "", "output": WARDS.get(ill, "rain")})
    return rows


def make_base(folder: Path, *, tied: bool = True, spare: int = 0) -> Path:
    """A Llama of two layers over a byte-level BPE that has seen general text alone; `spare` rows nobody uses."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(general_texts(), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + spare,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def encoded(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text, nothing around them."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids
