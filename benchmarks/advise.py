"""Holds the estimate of memory against real trainings: each configuration in a process of its own, a few steps long.

    python benchmarks/advise.py [--only NAME …] [--steps 3] [--out result.json]

Models are drawn at random from a configuration and written to a temporary folder, rows are random tokens of the
lengths asked for. What is measured is the peak of the resident set (`ru_maxrss`) of the process that trains, less what
it held when everything was imported and nothing loaded: the estimate is about what a training adds to that. `CHECK`
are configurations that had no part in finding the estimate's constants.
"""

import argparse
import gc
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import bitsandbytes  # imported before anything is measured: a program belongs to no estimate
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from nacre.model.load import load_tokenizer
from nacre.records import Example, Message, Recipe, Weights
from nacre.train.estimate import device_now, estimate
from nacre.train.job import Job
from nacre.train.memory import rows_of
from nacre.train.run import train as run

LLAMA_100M = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 150_016,
    "tie_word_embeddings": True,
}
LLAMA_30M = {
    "model_type": "llama",
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "vocab_size": 32_000,
    "tie_word_embeddings": False,
}
QWEN = {  # in the proportions of the small Qwen2.5; as a Llama, since a model called Qwen is given Qwen's tokenizer
    "model_type": "llama",
    "hidden_size": 640,
    "intermediate_size": 3456,
    "num_hidden_layers": 12,
    "num_attention_heads": 10,
    "num_key_value_heads": 2,
    "vocab_size": 60_032,
    "tie_word_embeddings": True,
}
SHORT, LONG = (24, 8), (208, 32)  # tokens of the prompt, tokens of the answer
CASES: dict[str, dict[str, Any]] = {
    "full fp32, 100M": {"model": LLAMA_100M, "tune": "full", "rows": SHORT},
    "lora fp32, 100M": {"model": LLAMA_100M, "tune": "lora", "rows": SHORT},
    "lora bf16, 100M": {"model": LLAMA_100M, "tune": "lora", "rows": SHORT, "train": {"precision": "bf16"}},
    "qlora 4 bits, Qwen": {"model": QWEN, "tune": "qlora", "rows": SHORT},
    "top 2 layers, 100M": {"model": LLAMA_100M, "tune": "freeze", "rows": SHORT},
    "full fp32, 30M, long rows": {"model": LLAMA_30M, "tune": "full", "rows": LONG, "train": {"batch_size": 4}},
    "lora fp32, Qwen, batch 32": {"model": QWEN, "tune": "lora", "rows": (48, 16), "train": {"batch_size": 32}},
    "lora, Qwen, long, checkpointing": {
        "model": QWEN,
        "tune": "lora",
        "rows": LONG,
        "train": {"batch_size": 4, "gradient_checkpointing": True},
    },
    "full bf16, Qwen": {"model": QWEN, "tune": "full", "rows": SHORT, "train": {"precision": "bf16"}},
    "full, Qwen, accumulation 4": {"model": QWEN, "tune": "full", "rows": SHORT, "train": {"accumulation": 4}},
    "lora bf16, Qwen, long, accumulation 2": {
        "model": QWEN,
        "tune": "lora",
        "rows": LONG,
        "train": {"precision": "bf16", "batch_size": 8, "accumulation": 2},
    },
    "lora fp32, Qwen stored in bf16": {"model": QWEN, "tune": "lora", "rows": SHORT, "stored": "bfloat16"},
    "full, 100M, accumulation 2": {"model": LLAMA_100M, "tune": "full", "rows": SHORT, "train": {"accumulation": 2}},
}
CHECK = ("lora bf16, Qwen, long, accumulation 2", "full, 100M, accumulation 2")
COUNT = 64  # rows of a training
TOLD = 5  # lines of a trace
FORK = multiprocessing.get_context("fork")


def make(folder: Path, case: dict[str, Any]) -> None:
    """A model of random weights and a tokenizer of one word for each token, as files."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**case["model"], max_position_embeddings=2048, bos_token_id=None, eos_token_id=1)
    AutoModelForCausalLM.from_config(config).to(getattr(torch, case.get("stored", "float32"))).save_pretrained(folder)
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"w{place}": place for place in range(3, 3000)}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def train(folder: Path, case: dict[str, Any], steps: int, trace: bool) -> dict[str, Any]:
    """Estimate and train in this process; bytes and seconds of both."""
    draw = random.Random(0)
    said = [" ".join(f"w{draw.randrange(3, 3000)}" for _ in range(n)) for _ in range(COUNT) for n in case["rows"]]
    rows = [
        Example(
            prompt=(Message(role="user", content=said[2 * place]),),
            answers=(Message(role="assistant", content=said[2 * place + 1]),),
        )
        for place in range(COUNT)
    ]
    settings = {"learning_rate": 1e-5, "batch_size": 16, "epochs": 1.0, "min_steps": steps, "max_steps": steps}
    settings |= {"precision": "fp32", "max_length": 1024, "check_memory": False} | case.get("train", {})
    recipe = Recipe.model_validate({"tune": case["tune"], "protect": "none", "train": settings})
    start = Weights(identity="advise" * 10, model=str(folder))
    job = Job(start=start, recipe=recipe, new=rows, work=folder / "work" / "run", shared=folder / "shared")
    foreseen = estimate(recipe, start, rows_of(job, recipe, load_tokenizer(start)), device_now("cpu"))
    gc.collect()
    before = _rss()
    watch = _Watch() if trace else None
    started = time.perf_counter()
    trained = run(job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if watch:
        watch.stop()
    return {
        "estimated_bytes": round(foreseen.memory_bytes),
        "measured_bytes": peak - before,
        "program_bytes": before,
        "parts": {name: round(needed) for name, needed in foreseen.parts.items()},
        "estimated_s": foreseen.seconds,
        "measured_s": time.perf_counter() - started,
        "steps": trained.steps,
        "bitsandbytes": bitsandbytes.__version__,
    } | ({"trace": watch.told(before)} if watch else {})


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Watch:
    """Looks at the resident set every few milliseconds, and at where the program is when it grows."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int, int, str]] = []
        self._main = threading.get_ident()
        self._go = True
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        started = time.perf_counter()
        while self._go:
            page = os.sysconf("SC_PAGE_SIZE")
            words = Path("/proc/self/statm").read_text().split()
            frame, where = sys._current_frames().get(self._main), []
            while frame is not None:
                if not where or "/nacre/" in frame.f_code.co_filename:
                    where.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}:{frame.f_lineno}")
                frame = frame.f_back
            self.seen.append(
                (time.perf_counter() - started, int(words[1]) * page, int(words[2]) * page, " < ".join(where[:4]))
            )
            time.sleep(0.004)

    def stop(self) -> None:
        self._go = False
        self._thread.join()

    def told(self, before: int) -> list[str]:
        """New maxima, each 4 % above the one before; the last ones."""
        found, top = [], 0
        for moment, rss, shared, where in self.seen:
            if rss > 1.04 * top:
                top = rss
                found.append(f"{moment:6.2f}s {(rss - before) / 2**20:8.0f} MiB, file {shared / 2**20:6.0f}: {where}")
        return found[-TOLD:]


def main() -> None:
    given = _arguments()
    found = {}
    for name in given.only or CASES:
        with tempfile.TemporaryDirectory() as scratch:
            _apart(make, Path(scratch), CASES[name])
            result = _apart(train, Path(scratch), CASES[name], given.steps, given.trace)
        result["error"] = result["estimated_bytes"] / result["measured_bytes"] - 1
        result["fitted"] = name not in CHECK
        found[name] = result
        _tell(name, result)
        if given.out:
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _apart(action: Any, *given: Any) -> Any:
    """What `action` gives in a process of its own: a copy of this one, in which everything is imported and no more."""
    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: there.send(action(*given)))
    process.start()
    there.close()
    try:
        found = here.recv()
    except EOFError:
        raise SystemExit(f"{action.__name__} failed") from None
    process.join()
    return found


def _tell(name: str, result: dict[str, Any]) -> None:
    mib = {key: result[f"{key}_bytes"] / 2**20 for key in ("estimated", "measured")}
    print(f"{name:38} {mib['estimated']:7.0f} {mib['measured']:7.0f} MiB {result['error']:+7.1%}", flush=True)
    print("   ", {key: round(value / 2**20) for key, value in result["parts"].items() if value > 2**20})
    print(f"    {result['estimated_s']:.1f} s estimated, {result['measured_s']:.1f} s measured")
    for line in result.get("trace", ()):
        print("   ", line)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of configurations")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--trace", action="store_true", help="also say where memory grew")
    return parser.parse_args()


if __name__ == "__main__":
    main()
