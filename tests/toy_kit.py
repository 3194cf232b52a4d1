"""Toys for the training tests: a tiny Llama over whole words, and tasks whose answers no two share."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nacre.model.chat import encode, ensure_template
from nacre.model.load import load_model, load_tokenizer
from nacre.model.losses import answer_losses
from nacre.records import Example, Message, Weights
from nacre.records.recipe import Recipe
from nacre.train.run import Job, Trained, train

THINGS = ("cat", "dog", "bird", "sun", "moon", "sea", "tree", "stone")
SIZES = ("big", "small", "old", "new", "long", "round")
ANSWERS = {
    "paint": ("red", "green", "blue", "grey"),
    "feed": ("hay", "fish", "corn", "meat"),
    "place": ("hill", "lake", "town", "road"),
}
WORDS = ["<pad>", "</s>", "<unk>", "Human", "Assistant", ":", *THINGS, *SIZES, *ANSWERS, *sum(ANSWERS.values(), ())]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word; no chat template."""
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def make_model(tokenizer: Any, seed: int = 0, **options: Any) -> LlamaForCausalLM:
    """Two layers of width 32, drawn from `seed`."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        | options
    )
    return LlamaForCausalLM(config)


def ask(question: str, answer: str) -> Example:
    """One row."""
    return Example(
        prompt=(Message(role="user", content=question),), answers=(Message(role="assistant", content=answer),)
    )


def task_rows(task: str) -> list[Example]:
    """All 48 rows of a task in an order of chance: which thing it is decides the answer, its size does not."""
    answers = ANSWERS[task]
    rows = [
        ask(f"{task} {size} {thing}", answers[(place * (1 + len(task))) // 2 % 4])
        for size, (place, thing) in itertools.product(SIZES, enumerate(THINGS))
    ]
    return random.Random(task).sample(rows, len(rows))


def prefer(rows: Sequence[Example]) -> list[Example]:
    """Each row as a pair: its answer was chosen, another one of the task's was rejected."""
    known = sorted({row.answer for row in rows})
    others = [Message(role="assistant", content=known[(known.index(row.answer) + 1) % len(known)]) for row in rows]
    return [
        row.changed(kind="preference", answers=(*row.answers, other)) for row, other in zip(rows, others, strict=True)
    ]


def judge(rows: Sequence[Example]) -> list[Example]:
    """Each row twice: its answer was judged good, another one bad."""
    return [
        pair.changed(kind="kto", answers=(answer,), desirable=place == 0)
        for pair in prefer(rows)
        for place, answer in enumerate(pair.answers)
    ]


@dataclass(frozen=True)
class Toy:
    """A base model that knows the task `paint`, and the rows of all tasks."""

    base: Weights
    tokenizer: Any
    tasks: dict[str, list[Example]]

    def job(self, work: Path, *, task: str = "feed", memory: Sequence[str] = ("paint",), **recipe: Any) -> Job:
        """Learn a task on top of the base; `recipe` has `tune`, `train` and `protect`."""
        settings = {"epochs": 5.0, "batch_size": 8, "max_length": 64, "learning_rate": 3e-3, "min_steps": 1}
        return Job(
            start=self.base,
            recipe=Recipe.model_validate({"protect": "none", **recipe, "train": settings | recipe.get("train", {})}),
            new=self.tasks[task],
            memory={name: self.tasks[name] for name in memory},
            task=task,
            work=work / "run",
            shared=work / "memory",
        )

    def learn(self, work: Path, *, job: Mapping[str, Any] | None = None, **options: Any) -> Trained:
        """Run such a job, with these of its fields changed."""
        return train(replace(self.job(work, **options), **(job or {})))

    def loss(self, weights: Weights, task: str) -> float:
        """Mean loss of a task's answers, in nats per token."""
        losses = answer_losses(load_model(weights), self.tokenizer, self.tasks[task], 64)
        return sum(one.nll for one in losses) / sum(one.tokens for one in losses)


def make_toy(folder: Path) -> Toy:
    """Teach a tiny model whole rows of `paint`, question and answer, so that it also says such rows unasked."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    ensure_template(tokenizer)
    model = make_model(tokenizer)
    end = [tokenizer.eos_token_id]
    input_ids = torch.tensor([end + encode(row, tokenizer, 64).input_ids for row in task_rows("paint")])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = model(input_ids=input_ids, labels=input_ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return open_toy(folder)


def open_toy(folder: Path) -> Toy:
    """The toy in a folder that `make_toy` wrote."""
    base = Weights(identity="toy" * 8, model=str(folder))
    return Toy(base, load_tokenizer(base), {task: task_rows(task) for task in ANSWERS})


def weights_of(trained: Trained, base: Weights | None = None) -> Weights:
    """What a run made, as weights."""
    if trained.kind == "adapter":
        assert base is not None
        return Weights(identity=str(trained.folder), model=base.model, adapter=trained.folder)
    return Weights(identity=str(trained.folder), model=str(trained.folder))
