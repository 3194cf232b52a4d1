"""Smaller versions: what each way of `nacre compress` gains and costs, on real tasks and on a model of some size.

    python benchmarks/compress.py --data FOLDER --model FOLDER

Two parts. The first teaches a small model the tasks in turn (FOLDER/TASK/{train,dev}.json hold alpaca rows), then makes
the last version smaller in every way; the gate judges each against it, on all dev rows. The second measures size and
decoding of a Llama of a size of one's choice with random weights: what the bytes of large layers are worth on this
machine, all ways in turn, bf16 beside them. Its answers mean nothing and are not compared.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from nacre.cycle.increment.compress import compress
from nacre.cycle.increment.evolve import evolve
from nacre.cycle.scores.weighing import weights_bytes
from nacre.cycle.workspace import Workspace
from nacre.model.environment import environment
from nacre.model.load import load_model
from nacre.model.smaller import COMPRESSIONS
from nacre.model.smaller.base import whole_model
from nacre.records import Weights

TASKS = ("waimai_zh", "dbpedia", "thucnews_zh", "agnews")
WAYS = (
    ("int8", "weight-only", None),
    ("int8", "dynamic", None),
    ("int4", "nf4", None),
    ("pruned", "magnitude", None),
    ("pruned", "wanda", None),
    ("pruned", "wanda", 0.0),
    ("pruned", "2:4", None),
)
LENGTH = 256


def main() -> None:
    given = _arguments()
    found: dict[str, Any] = {"environment": environment().model_dump(), "threads": torch.get_num_threads()}
    found["model"] = given.model.name
    found["tasks"] = on_tasks(given)
    found["size"] = on_size(given)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(table(found)))


def on_tasks(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Every way, made of the version that knows all tasks."""
    shutil.rmtree(given.work, ignore_errors=True)
    train = {"max_length": LENGTH, "epochs": given.epochs}
    settings = {"train": train, "evaluate": {"max_length": LENGTH}, "keep": {"tries": 1}}
    workspace = Workspace.init(given.work, str(given.model.resolve()), settings)
    for name in given.tasks:
        for split, rows in (("train", given.train_rows), ("dev", given.dev_rows)):
            lines = (given.data / name / f"{split}.json").read_text(encoding="utf-8").splitlines(keepends=True)
            path = workspace.dataset_dir / name / f"{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines[:rows]), encoding="utf-8")
    newest: int | None = None
    with workspace:
        for name in given.tasks:
            newest = evolve(workspace, name, promote="never", parent=newest).version.number
        assert newest is not None
        workspace.ledger.promote(newest, actor="benchmark", why="what the others are held against")
        return [_made(workspace, newest, *way) for way in WAYS]


def _made(workspace: Workspace, number: int, to: str, method: str, heal: float | None) -> dict[str, Any]:
    started = time.perf_counter()
    found = compress(workspace, number, to, method=method, heal=heal, promote="never").as_dict()
    kept = ("compressed", "before", "after", "size_ratio", "zeros", "same_answers", "same_tokens", "verdict", "tasks")
    told = {key: found[key] for key in kept} | {"seconds": time.perf_counter() - started}
    print(json.dumps({key: value for key, value in told.items() if key != "tasks"}), flush=True)
    return told


def on_size(given: argparse.Namespace) -> dict[str, Any]:
    """Bytes, and tokens a second, of a larger model with random weights, in float32, bf16 and the rounded ways."""
    width = given.width
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=given.layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        dense = Path(folder) / "dense"
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(dense)
        weights = Weights(identity="dense", model=str(dense))
        halved = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.bfloat16)
        models = {"float32": load_model(weights), "bf16": halved}
        sizes = {"float32": weights_bytes(weights)}
        for to, method, _ in WAYS[:3]:
            target = Path(folder) / f"{to}-{method}"
            target.mkdir()
            way = COMPRESSIONS.load(to)()
            way.write(whole_model(weights), target, way.settled(method, None, None), [])
            small = Weights(identity=target.name, model=str(target))
            models[target.name], sizes[target.name] = load_model(small), weights_bytes(small)
        sizes["bf16"] = sizes["float32"] // 2
        speed = _in_turn(models, given.rounds)
    parameters = sum(weight.numel() for weight in models["float32"].parameters())
    return {
        "parameters": parameters,
        "ways": {
            name: {
                "size_bytes": sizes[name],
                "size_ratio": sizes[name] / sizes["float32"],
                "tokens_s": statistics.median(speed[name]),
                "to_bf16": statistics.median(a / b for a, b in zip(speed[name], speed["bf16"], strict=True)),
                "to_float32": statistics.median(a / b for a, b in zip(speed[name], speed["float32"], strict=True)),
            }
            for name in models
        },
    }


@torch.no_grad()
def _in_turn(models: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Tokens a second of each model, 16 after a prompt of 64, in rounds: a busy moment slows all alike."""
    found: dict[str, list[float]] = {name: [] for name in models}
    prompt_BT = torch.arange(64)[None]
    for number in range(rounds + 1):
        for name, model in models.items():
            out = model(input_ids=prompt_BT, use_cache=True, logits_to_keep=1)
            started = time.perf_counter()
            for _ in range(16):
                next_B1 = out.logits[:, -1:].argmax(-1)
                out = model(input_ids=next_B1, past_key_values=out.past_key_values, use_cache=True)
            found[name] += [16 / (time.perf_counter() - started)] if number else []
    return found


def table(found: dict[str, Any]) -> list[str]:
    """Two Markdown tables."""
    lines = [
        "| way | size | decoding | perplexity | same answers | same tokens | zeros | gate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found["tasks"]:
        how, before, after = one["compressed"], one["before"], one["after"]
        name = f"{how['to']} {how['method']}" + (", not healed" if how["to"] == "pruned" and not how["heal"] else "")
        lines.append(
            f"| {name} | {one['size_ratio']:.3f} | {after['tokens_s'] / before['tokens_s']:.2f} | "
            f"{before['perplexity']:.3f} → {after['perplexity']:.3f} | {one['same_answers']:.1%} | "
            f"{one['same_tokens']:.1%} | {one['zeros']:.1%} | {one['verdict']} |"
        )
    lines += [
        "",
        f"A Llama of {found['size']['parameters']:,} weights, {found['threads']} threads:",
        "",
        "| way | bytes | of float32 | tokens/s | to float32 | to bf16 |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in found["size"]["ways"].items():
        lines.append(
            f"| {name} | {one['size_bytes']:,} | {one['size_ratio']:.3f} | {one['tokens_s']:.1f} | "
            f"{one['to_float32']:.2f} | {one['to_bf16']:.2f} |"
        )
    return lines


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder per task")
    parser.add_argument("--model", type=Path, required=True, help="base model, Hugging Face layout")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--train-rows", type=int, default=600)
    parser.add_argument("--dev-rows", type=int, default=300)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--width", type=int, default=1024, help="hidden size of the larger model")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/compress.json"))
    parser.add_argument("--work", type=Path, default=Path("outputs/compress"), help="workspace; replaced")
    return parser.parse_args()


if __name__ == "__main__":
    main()
