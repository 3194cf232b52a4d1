"""Decoding with CTranslate2's int8 weights beside transformers in bf16, on the CPU, in one run.

    python benchmarks/serving/int8.py [--rounds 5] [--tokens 64] [--sizes small,medium] [--threads 1] [--out FILE]

Llamas of chance: `small` has 11M parameters, and shows what is won on Python between the layers more than on int8;
`medium` has 110M. Both sides read the same prompt and write the same number of tokens greedily, one answer at a time,
in turns, round by round, so that whatever else the machine does meets both. The ratio is taken within each round and
its median told. Also told: the size of the weights on the disk, and how many greedy tokens are equal.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ctranslate2
import torch
from tokenizers import Tokenizer, models
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nacre.model.export.ct2 import convert
from nacre.records import Weights

SIZES = {
    "small": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4},
    "medium": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
}
VOCABULARY, PROMPT = 16_000, 64


def make(folder: Path, size: str) -> Weights:
    """A Llama of this size that has learned nothing, in bf16, and a tokenizer of as many words."""
    raw = Tokenizer(models.WordLevel({f"w{place}": place for place in range(VOCABULARY)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="w0", eos_token="w1", pad_token="w1").save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=1024, eos_token_id=1, **SIZES[size])
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return Weights(identity=size * 8, model=str(folder))


def by_transformers(model: Any, prompt: list[int], tokens: int) -> tuple[list[int], float]:
    """The tokens, and the seconds that they took."""
    chosen = GenerationConfig(do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=1)
    ids_1T = torch.tensor([prompt])
    started = time.perf_counter()
    with torch.inference_mode():
        whole_1T = model.generate(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T), generation_config=chosen)
    return whole_1T[0, len(prompt) :].tolist(), time.perf_counter() - started


def by_ctranslate2(generator: Any, prompt: list[int], tokens: int) -> tuple[list[int], float]:
    """The same."""
    started = time.perf_counter()
    found = generator.generate_batch(
        [[f"w{token}" for token in prompt]],
        max_length=tokens,
        min_length=tokens,
        include_prompt_in_result=False,
        sampling_topk=1,
    )
    return found[0].sequences_ids[0], time.perf_counter() - started


def bytes_of(folder: Path, *endings: str) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in endings)


def measure(size: str, rounds: int, tokens: int, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as root:
        weights = make(Path(root) / "model", size)
        converted = Path(root) / "int8"
        converted.mkdir()
        convert(weights, converted, "int8")
        model = LlamaForCausalLM.from_pretrained(weights.model, dtype=torch.bfloat16).eval()
        generator = ctranslate2.Generator(str(converted), device="cpu", intra_threads=threads)
        prompt = [(7 * place) % (VOCABULARY - 2) + 2 for place in range(PROMPT)]
        theirs, ours, equal = [], [], []
        for place in range(rounds + 1):
            one, slow = by_transformers(model, prompt, tokens)
            other, fast = by_ctranslate2(generator, prompt, tokens)
            if place:  # the first round warms both up
                theirs.append(slow)
                ours.append(fast)
                equal.append(sum(a == b for a, b in zip(one, other, strict=False)) / tokens)
        return {
            "parameters": model.num_parameters(),
            "bf16_tokens_per_s": round(tokens / statistics.median(theirs), 2),
            "int8_tokens_per_s": round(tokens / statistics.median(ours), 2),
            "ratio": round(statistics.median(a / b for a, b in zip(theirs, ours, strict=True)), 3),
            "ratios": [round(a / b, 3) for a, b in zip(theirs, ours, strict=True)],
            "bf16_bytes": bytes_of(Path(weights.model), ".safetensors"),
            "int8_bytes": bytes_of(converted, ".bin"),
            "equal_tokens_free_running": round(statistics.median(equal), 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--sizes", default="small,medium")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = {size: measure(size, given.rounds, given.tokens, given.threads) for size in given.sizes.split(",")}
    load = os.getloadavg()[0]
    told = {"threads": given.threads, "tokens": given.tokens, "load": load, "sizes": found}
    print(json.dumps(told, indent=1))
    if given.out:
        given.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
