"""What answers gain by documents: a tiny model that learned to read is asked with the passages of a store, and without.

    python benchmarks/knowledge_answers.py [--steps 2000]

The model copies what stands behind a name in its prompt; names and values were drawn anew for each row it learned, so
that what it answers it must have read. It says nothing of how well a large model reads, only that the whole way works:
files, store, search, passages, answer.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from knowledge import FIRST, LAST
from transformers import LlamaConfig, LlamaForCausalLM

from nacre.serve.knowledge.build import renew
from nacre.serve.knowledge.guard import quoted
from nacre.serve.knowledge.search import Searcher
from nacre.serve.knowledge.settings import Knowledge
from nacre.serve.knowledge.snapshots import Source, Where


def answers(steps: int) -> dict[str, Any]:
    """Share of questions that a tiny reader answers exactly, with the passages that the store finds and without."""

    draw = random.Random(0)
    names = [f"{one}{other}".lower() for one in FIRST for other in LAST]
    values = [f"code{number}" for number in range(200)]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "texts").mkdir()
        known = {name: draw.choice(values) for name in names}
        for name, value in known.items():
            (root / "texts" / f"{name}.txt").write_text(f"The door of {name} opens with {value}.\n")
        where = Where(root, root / "store", Knowledge())
        renew(where, [Source(path="texts")])
        searcher = Searcher(where)
        asked = {name: f"What opens the door of {name}?" for name in names}
        found = {name: quoted(hits.passages) for name, text in asked.items() if (hits := searcher.search(text))}
    reader = _Reader(names, values, steps)
    return {
        "facts": len(known),
        "reader_on_its_own_training_task": round(reader.trained, 3),
        "exact_with_passages": round(
            sum(reader.answer(found[name], name) == known[name] for name in names) / len(names), 3
        ),
        "exact_without": round(sum(reader.answer("", name) == known[name] for name in names) / len(names), 3),
    }


class _Reader:
    """A Llama of two layers that learned to say what stands behind a name in its prompt, drawn anew each time."""

    def __init__(self, names: list[str], values: list[str], steps: int) -> None:
        words = ["<pad>", "ask", *names, *values]
        self._places = {word: place for place, word in enumerate(words)}
        self._words = words
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(words),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
        )
        self._model = LlamaForCausalLM(config)
        optimizer = torch.optim.AdamW(self._model.parameters(), lr=2e-3, weight_decay=0.01)
        draw = random.Random(1)
        right: list[float] = []
        for _ in range(steps):
            count = draw.randint(1, 4)
            rows = [self._drawn(draw, names, values, count) for _ in range(64)]
            ids_BT = torch.tensor(rows)
            logits_BTV = self._model(input_ids=ids_BT[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten())
            last_BV, want_B = logits_BTV[:, -1], ids_BT[:, -1]
            (loss * 0.1 + torch.nn.functional.cross_entropy(last_BV, want_B)).backward()
            optimizer.step()
            optimizer.zero_grad()
            right.append(float((last_BV.argmax(-1) == want_B).float().mean()))
        self.trained = sum(right[-50:]) / len(right[-50:])

    def _drawn(self, draw: random.Random, names: list[str], values: list[str], count: int) -> list[int]:
        some = draw.sample(names, count)
        said = {name: draw.choice(values) for name in some}
        wanted = draw.choice(some)
        words = [word for pair in said.items() for word in pair]
        return [self._places[word] for word in (*words, "ask", wanted, said[wanted])]

    def answer(self, block: str, name: str) -> str:
        """What it says to a question about a name, given a system message of which it knows names and values alone."""
        seen = [word for word in block.lower().replace(".", " ").split() if word in self._places]
        ids = [self._places[word] for word in (*seen, "ask", name)][-60:]
        with torch.inference_mode():
            logits_BTV = self._model(input_ids=torch.tensor([ids])).logits
        return self._words[int(logits_BTV[0, -1].argmax())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of training")
    print(json.dumps(answers(parser.parse_args().steps)))


if __name__ == "__main__":
    main()
