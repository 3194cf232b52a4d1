"""The embedded engine beside `transformers serve --continuous-batching`: tokens per second, memory, mixed adapters.

    python benchmarks/serving/engine.py --out benchmarks/results/serving-engine.json [--rounds 3] [--peer PYTHON]

Both servers run on one thread with the same small Llama of chance and are asked over HTTP by the same client, in turn,
round by round; PYTHON is an interpreter with `transformers[serving]`. Prompts and answers are of unequal length. Ratios
are taken within a round, and their median is told: of tokens per second, and of tokens per second of processor time,
which a busy machine falsifies less. Then, in this process: three adapters mixed against one, and answers
given together against the same answers given alone.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nacre.records import Message, Weights
from nacre.serve.engines import ChatPrompt, Delta, Sampling, Target
from nacre.serve.engines.embedded import EmbeddedEngine
from nacre.serve.run import serve
from nacre.serve.settings import Serve

WORDS = ("layer", "by", "grows", "old", "ones", "stay", "pearl", "mother", "of", "shell", "sea", "slow", "bright")


@dataclass(frozen=True)
class Request:
    """What one client asks."""

    text: str
    tokens: int


def requests(count: int, seed: int) -> list[Request]:
    draw = random.Random(seed)
    return [
        Request(" ".join(draw.choices(WORDS, k=draw.choice((5, 20, 60, 200)))), draw.randrange(8, 97))
        for _ in range(count)
    ]


def make_model(folder: Path) -> None:
    """A Llama of 7M parameters that has learned nothing, and a tokenizer of 2,000 tokens."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    raw.train_from_iterator((" ".join(request.text for request in requests(200, seed)) for seed in range(4)), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2000,
        hidden_size=320,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    model.lm_head.weight.data[1] = 0.0  # the end is as likely as any token, and not likely to come
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_adapters(folder: Path, out: Path, count: int) -> list[Path]:
    places = []
    for seed in range(count):
        torch.manual_seed(seed)
        config = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(out / str(seed))
        places.append(out / str(seed))
    return places


def serve_here(folder: str, port: int) -> None:
    serve(Weights(identity="0" * 64, model=folder), Serve(port=port, name="m"), announce=print)


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[int]:
    """A server of ours or theirs; yields its process id once it answers."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(answers(port, process))
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def answers(port: int, process: subprocess.Popen[bytes]) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f"the server on port {port} ended with {process.returncode}")
            try:
                async with session.get(f"http://127.0.0.1:{port}/health") as response:
                    if response.status < 500:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.5)
    raise SystemExit(f"the server on port {port} does not answer")


async def ask(port: int, model: str, asked: Sequence[Request], at_once: int) -> tuple[float, int]:
    """Seconds and tokens of all requests, `at_once` of them at a time."""
    waiting = list(asked)
    tokens = 0

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal tokens
        while waiting:
            request = waiting.pop(0)
            body = {"model": model, "max_tokens": request.tokens, "temperature": 0, "stream": False}
            body["messages"] = [{"role": "user", "content": request.text}]
            async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body) as response:
                said = await response.json()
                if response.status != 200:
                    raise SystemExit(f"{response.status}: {said}")
                tokens += said["usage"]["completion_tokens"]

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1200)) as session:
        started = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(at_once)))
        return time.perf_counter() - started, tokens


def peak_bytes(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def side_by_side(folder: Path, peer: str, rounds: int, ports: tuple[int, int], blocks: int) -> dict[str, Any]:
    ours = [sys.executable, __file__, "--serve", str(folder), str(ports[0])]
    theirs = [peer, "-m", "transformers.cli.transformers", "serve", str(folder), "--port", str(ports[1])]
    theirs += ["--host", "127.0.0.1", "--continuous-batching", "--device", "cpu"]
    theirs += ["--cb-num-blocks", str(blocks)] if blocks else []
    found: dict[str, Any] = {"peer_blocks": blocks or "its own choice", "c32": [], "c1": []}
    with running(ours, ports[0]) as our_process, running(theirs, ports[1]) as their_process:
        processes = {"nacre": our_process, "transformers": their_process}
        both = {"nacre": (ports[0], "m"), "transformers": (ports[1], str(folder))}
        for port, model in both.values():
            asyncio.run(ask(port, model, requests(4, 99), 4))
        for number in range(rounds):
            for name, asked, at_once in (("c32", requests(64, number), 32), ("c1", requests(10, number), 1)):
                row = {}
                for who in sorted(both, reverse=bool(number % 2)):
                    before_s = cpu_s(processes[who])
                    seconds, tokens = asyncio.run(ask(*both[who], asked, at_once))
                    busy_s = cpu_s(processes[who]) - before_s
                    row[who] = {"seconds": seconds, "cpu_s": busy_s, "tokens": tokens, "tokens_per_s": tokens / seconds}
                    print(number, name, who, f"{tokens / seconds:.1f} tokens/s", flush=True)
                found[name].append(row)
        found["peak_bytes"] = {"nacre": peak_bytes(our_process), "transformers": peak_bytes(their_process)}
    for name in ("c32", "c1"):
        ratios = [row["nacre"]["tokens_per_s"] / row["transformers"]["tokens_per_s"] for row in found[name]]
        found[f"{name}_ratio"] = statistics.median(ratios)
        work = [
            row["transformers"]["cpu_s"]
            / row["transformers"]["tokens"]
            * row["nacre"]["tokens"]
            / row["nacre"]["cpu_s"]
            for row in found[name]
        ]
        found[f"{name}_cpu_ratio"] = statistics.median(work)
    found["memory_ratio"] = found["peak_bytes"]["nacre"] / found["peak_bytes"]["transformers"]
    return found


def cpu_s(process: int) -> float:
    """Processor time of a server so far: what else the machine does hardly changes it."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def in_process(folder: Path, adapters: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Three adapters in turn against one for all; and together against alone."""
    engine = EmbeddedEngine(Serve(max_waiting=256, embedded={"prefix_tokens": 0}))
    base = Weights(identity="0" * 64, model=str(folder))
    targets = [Target(number, base.changed(adapter=adapter)) for number, adapter in enumerate(adapters, 1)]

    async def say(target: Target, request: Request, **options: Any) -> str:
        prompt = ChatPrompt((Message(role="user", content=request.text),))
        sampling = Sampling(max_tokens=request.tokens, **options)
        generation, text = await engine.generate(target, prompt, sampling), ""
        while isinstance(piece := await generation.next(), Delta):
            text += piece.text
        return text

    async def timed(among: Sequence[Target], seed: int) -> float:
        started = time.perf_counter()
        asked = requests(32, seed)
        await asyncio.gather(*(say(among[n % len(among)], one, temperature=0) for n, one in enumerate(asked)))
        return time.perf_counter() - started

    for target in targets:
        await engine.load(target)
    await timed(targets, 99)
    pairs = []
    for number in range(3 * rounds):
        both = {
            len(among): await timed(among, number)
            for among in ((targets[:1], targets), (targets, targets[:1]))[number % 2]
        }
        pairs.append({"one_s": both[1], "three_s": both[len(targets)]})
    asked = [(targets[n % 3], one, n) for n, one in enumerate(requests(32, 7))]
    same = {}
    for name, options in (("greedy", {"temperature": 0}), ("sampled", {"temperature": 1.0})):
        alone = [await say(target, one, seed=n, **options) for target, one, n in asked]
        together = await asyncio.gather(*(say(target, one, seed=n, **options) for target, one, n in asked))
        same[name] = sum(a == b for a, b in zip(alone, together, strict=True))
    await engine.close()
    ratio = statistics.median(pair["three_s"] / pair["one_s"] for pair in pairs)
    return {"adapters": pairs, "adapters_ratio": ratio, "same_as_alone": same, "of": len(asked)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--blocks", type=int, default=256, help="of the peer's cache; 0 leaves it to the peer")
    parser.add_argument("--ports", type=int, nargs=2, default=(18431, 18432))
    parser.add_argument("--only", choices=("http", "adapters"))
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve_here(given.serve[0], int(given.serve[1]))
        return
    found: dict[str, Any] = {"cpus": os.cpu_count(), "load": os.getloadavg()}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "model")
        make_model(folder)
        if given.only in (None, "http"):
            found["http"] = side_by_side(folder, given.peer, given.rounds, tuple(given.ports), given.blocks)
        if given.only in (None, "adapters"):
            places = make_adapters(folder, Path(work, "adapters"), 3)
            found["in_process"] = asyncio.run(in_process(folder, places, given.rounds))
    print(json.dumps(found, indent=1))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
