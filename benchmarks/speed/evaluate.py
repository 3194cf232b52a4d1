"""Measures scoring against lm-evaluation-harness: the same model, the same rows, the same scores.

    python benchmarks/speed/evaluate.py --rows FILE --model FOLDER [--count 500] [--rounds 3] [--out result.json]

`FILE` holds alpaca rows of a classification task; without it a task is made up. Two ways of answering are measured:
`free`, where the model writes the answer (`generate_until` in the harness), and `options`, where the likeliest of the
task's labels is the answer (`multiple_choice`). Seconds are CPU seconds of one process and one thread, loading and
imports apart; rounds are interleaved and medians reported. The harness runs with a batch of 16 rows.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nacre.data.convert import read_examples
from nacre.evaluate.lm_eval import harness
from nacre.evaluate.lm_eval.export import PREFIX, DevTask, export
from nacre.evaluate.plan import plan
from nacre.evaluate.score import score
from nacre.model.load import load_model, load_tokenizer
from nacre.records import Example, Message, Report, TaskSettings, Weights

WAYS = ("free", "options")
TOPICS = {
    "weather": ("rain", "storm", "frost", "sunshine", "wind"),
    "music": ("violin", "choir", "melody", "concert", "drum"),
    "cooking": ("soup", "oven", "flour", "recipe", "spoon"),
    "travel": ("train", "ticket", "harbour", "luggage", "map"),
}
FILLER = "people talked about it for a long time and nobody could say what would come of it"
ASKED = "Read the text and say which of the four topics it is about: weather, music, cooking or travel."


def made_up(count: int) -> list[Example]:
    """Rows of a task with four labels, some fifty words each."""
    draw = random.Random(0)
    rows = []
    for place in range(count):
        label = list(TOPICS)[place % len(TOPICS)]
        words = draw.choices(FILLER.split(), k=draw.randint(20, 60)) + draw.choices(TOPICS[label], k=3)
        draw.shuffle(words)
        rows.append(
            Example(
                prompt=(Message(role="user", content=f"{ASKED}\n{' '.join(words)}"),),
                answers=(Message(role="assistant", content=label),),
            )
        )
    return rows


def mine(weights: Weights, rows: Sequence[Example], way: str, model: Any, tokenizer: Any, length: int) -> Report:
    """nacre's report."""
    settings = TaskSettings(answers="options" if way == "options" else "free")
    return score(weights, "task", "0" * 64, rows, settings, model=model, tokenizer=tokenizer, max_length=length)


def theirs(folder: Path, model: Any, tokenizer: Any, length: int) -> list[float]:
    """The harness's score of every row, in order."""
    samples = harness.run(harness.Request((f"{PREFIX}task",), folder), model, tokenizer, length)[f"{PREFIX}task"]
    return [float(one.get("exact_match", one.get("acc"))) for one in sorted(samples, key=lambda one: one["doc_id"])]


def main() -> None:
    given = _arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        weights = Weights(model=str(given.model), identity="1" * 64)
        rows = read_examples(given.rows).examples[: given.count] if given.rows else made_up(given.count)
        found = {way: _measured(given, weights, rows, way, Path(scratch) / way) for way in WAYS}
    print(json.dumps(found, indent=1))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _measured(
    given: argparse.Namespace, weights: Weights, rows: Sequence[Example], way: str, folder: Path
) -> dict[str, Any]:
    tokenizer, model = load_tokenizer(weights), load_model(weights)
    settings = TaskSettings(answers="options" if way == "options" else "free")
    decoding = plan(rows, settings, tokenizer, given.length).decoding
    export(folder, [DevTask("task", rows, decoding)], tokenizer)
    seconds: dict[str, list[float]] = {"nacre": [], "lm-eval": []}
    for _ in range(given.rounds):
        started = time.process_time()
        report = mine(weights, rows, way, model, tokenizer, given.length)
        seconds["nacre"].append(time.process_time() - started)
        started = time.process_time()
        scores = theirs(folder, model, tokenizer, given.length)
        seconds["lm-eval"].append(time.process_time() - started)
    ratios = [other / own for own, other in zip(seconds["nacre"], seconds["lm-eval"], strict=True)]
    own_scores = report.scores["exact_match"]
    return {
        "rows": len(rows),
        "cpu_seconds": {name: round(statistics.median(all_rounds), 2) for name, all_rounds in seconds.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "scores": {"nacre": statistics.mean(own_scores), "lm-eval": statistics.mean(scores)},
        "rows that differ": sum(one != other for one, other in zip(own_scores, scores, strict=True)),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--length", type=int, default=512, help="tokens of prompt and answer together")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
