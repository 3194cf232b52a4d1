"""Models of many families: rows side by side say what the model says alone, or are read one after the other."""

import asyncio
from pathlib import Path

import pytest
import torch
from engine_kit import loaded, said, with_engine
from serving_kit import Shelf
from transformers import AutoConfig, AutoModelForCausalLM

from nacre.model.load import load_model, load_tokenizer
from nacre.records import Weights
from nacre.serve.engines import Sampling, TextPrompt

SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = SIZE | {"num_key_value_heads": 2, "head_dim": 8}
FAMILIES: dict[str, tuple[dict, bool]] = {  # options, and whether its rows are read side by side
    "llama": (GROUPED, True),
    "mistral": (GROUPED | {"sliding_window": 12}, True),
    "qwen2": (GROUPED | {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1}, True),
    "qwen3": (GROUPED, True),
    "phi3": (SIZE | {"num_key_value_heads": 2, "pad_token_id": 0}, True),
    "gemma2": (GROUPED | {"sliding_window": 12}, False),
    "gemma3_text": (GROUPED | {"sliding_window": 12}, True),
    "mixtral": (GROUPED | {"num_local_experts": 4, "sliding_window": None}, True),
    "gpt_neox": (SIZE, True),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4}, True),
    "bloom": ({"hidden_size": 32, "n_layer": 2, "n_head": 4}, False),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_says_what_transformers_generates(family: str, shelf: Shelf, tmp_path: Path) -> None:
    options, packed = FAMILIES[family]
    tokenizer = load_tokenizer(shelf.weights(0))
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), max_position_embeddings=256, **options)
    config.bos_token_id = config.eos_token_id = None
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data.mul_(4)  # so that what it says depends on what it reads
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = Weights(identity="1" * 64, model=str(tmp_path))
    prompts = [tuple((7 * step + 11 * size) % 200 + 5 for step in range(size)) for size in (3, 9, 17, 40)]
    model, expected = load_model(weights), []
    for ids in prompts:
        made = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=20, eos_token_id=None)
        new = made[0, len(ids) :].tolist()
        stop = tokenizer.eos_token_id
        expected.append(tokenizer.decode(new[: new.index(stop)] if stop in new else new, skip_special_tokens=True))

    async def scenario(engine):
        target = await loaded(engine, 1, weights)
        asked = (TextPrompt(ids) for ids in prompts)
        greedy = Sampling(temperature=0, max_tokens=20)
        texts = await asyncio.gather(*(said(engine, target, prompt, greedy) for prompt in asked))
        return texts, engine._residents[target].base.bank is not None

    texts, side_by_side = with_engine(scenario, prefill_tokens=12)
    assert [text.rstrip("\ufffd") for text in texts] == [text.rstrip("\ufffd") for text in expected]
    assert side_by_side == packed
