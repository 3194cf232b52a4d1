"""A small Llama over byte-level BPE that knows some answers by heart: what programs outside can hold."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nacre.model.chat import encode
from nacre.model.templates import chat_template
from nacre.records import Example, Message

ANSWERS = {
    "Hello.": "Good day to you.",
    "What can you do?": "I grow, layer by layer.",
    "1 2 3 4": "5 6 7 8",
    "你好。": "珍珠母，你好。",
}


def make_speaker(folder: Path, *, template: str = "chatml", **options: object) -> Path:
    """Two layers of width 64, grouped heads, an untied head; a hundred steps on `ANSWERS`."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    raw.train_from_iterator([*ANSWERS, *ANSWERS.values(), "user assistant system layer by layer"] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="<|im_end|>", pad_token="</s>", padding_side="left"
    )
    tokenizer.chat_template = chat_template(template)
    torch.manual_seed(0)
    given = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model = LlamaForCausalLM(LlamaConfig(**(given | options)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rows = [encode(said(question, answer), tokenizer, 200) for question, answer in ANSWERS.items()]
    for _ in range(100):
        loss = sum(
            model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss for row in rows
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1, "the model did not learn its answers"
    model.generation_config.temperature = 0.5
    model.generation_config.do_sample = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def said(question: str, answer: str) -> Example:
    return Example(
        prompt=(Message(role="user", content=question),), answers=(Message(role="assistant", content=answer),)
    )
