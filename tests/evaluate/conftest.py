"""A tiny random Llama with a tokenizer of whole words, so that some answers end early and some do not."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nacre.model.chat import ensure_template
from nacre.records import Example, Message

WORDS = ["red", "green", "blue", "one", "two", "three", "cat", "dog", "bird", "sun", "moon", "sea"]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "Human", "Assistant", ":", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    ensure_template(made)
    return made


@pytest.fixture(scope="session")
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.5,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).eval()


def ask(question: str, answer: str) -> Example:
    return Example(
        prompt=(Message(role="user", content=question),), answers=(Message(role="assistant", content=answer),)
    )


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """Twenty-four questions of one to twelve words, each answered by its first word."""
    return [ask(" ".join(WORDS[i % 12 :] + WORDS[: i % 12])[: 4 + 3 * i], WORDS[i % 12]) for i in range(24)]
