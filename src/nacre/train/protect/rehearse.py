"""Rehearsal without old data: the previous version writes rows itself, and they are mixed into every batch.

Where the prompts of past tasks may be kept, or others like them, the previous version answers those (on-policy
replay). Where nothing may be kept, it writes the prompts too: self-synthesised rehearsal (LAMOL, Sun et al. 2020,
arXiv 1909.03329; Huang et al. 2024, arXiv 2403.01244), sampled where the chat template lets a user speak.

Fine-tuning teaches answers alone, so by itself a model writes prompts as before its tasks. That is why, as in LAMOL,
this protection also teaches the prompts of all rows of its run: `learn_prompts` times their cross-entropy is added
(a mean over the tokens of the whole batch). The version trained so can write prompts of its tasks; one that was
trained without it hardly can, and then this protection says that nothing is rehearsed. It takes some of what a small
model can learn: LAMOL's weight is 0.25, of which a small model learns to write few prompts that can be used.
Kept prompts are answered with their pictures; prompts that it writes have none, and patches are not taught.

Cost: `share` / (1 - `share`) more rows than plain training; before it, up to `attempts` times `rows` sampled prompts
and `rows` greedy answers, kept for the next run from the same version; with `learn_prompts` the output layer for
the tokens of the prompts.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.base.hashing import canonical_json, content_hash
from nacre.data.convert import read_examples
from nacre.data.curriculum import by_dataset
from nacre.data.pictures import from_memory, in_memory
from nacre.data.strata import choose
from nacre.model.chat import IGNORED
from nacre.model.load import load_model
from nacre.records import Example, Message, Origin
from nacre.train.protect.base import Batch, MixIn, TrainingRows, predictable
from nacre.train.protect.mixing import Mixing, summed_loss
from nacre.train.rehearsal import Sampling, answered, sample_prompts

SAMPLED = "sampled"  # the task of rows whose prompts the previous version wrote
FEWEST = 8  # rows; a share of every batch out of fewer would be learned by heart


class Rehearse(Mixing):
    """Draw a share of every batch from rows that the previous version wrote."""

    name = "rehearse"
    pictures = True
    stages = ("sft", "pt")

    class Config(Settings):
        """Options of rehearsal."""

        share: float = Field(0.2, gt=0, lt=1, description="share of every batch that is rehearsed rows")
        rows: int = Field(300, ge=1, description="rows the previous version writes, at most")
        prompts: Path | None = Field(
            None, description="file with prompts it answers; default: those of kept rows, else it writes them itself"
        )
        seeds: int = Field(
            0, ge=0, description="kept rows of each task that are shown to it while it writes prompts itself"
        )
        attempts: float = Field(4.0, ge=1, description="prompts it begins for each row that is wanted, at most")
        prompt_tokens: int = Field(256, ge=2, description="a longer prompt is left out")
        answer_tokens: int = Field(128, ge=1, description="a longer answer is left out")
        top_k: int = Field(20, ge=1, description="prompts are sampled from the so many likeliest next tokens")
        learn_prompts: float = Field(
            1.0, ge=0, description="weight of the prompts' own loss, so that this version can write some; 0: none"
        )

    def rows(self, rows: TrainingRows) -> TrainingRows:
        """Add what the previous version wrote as one stream.

        Raises:
            InputError: the file of prompts cannot be used.
        """
        known = {task: list(kept) for task, kept in self.context.memory.items() if kept}
        prompts: list[Example] = []
        if self.config.prompts is not None:
            prompts = self._from_file(self.config.prompts)
        elif known and not self.config.seeds:
            prompts = self._of_kept(known)
        shown = {task: self._chosen(kept, self.config.seeds) for task, kept in known.items() if self.config.seeds}
        if self.config.seeds and not shown:
            self.notes.append("rehearse: no row is kept that could be shown to it as a seed")
        if not prompts:
            self._check_pictures(rows, known)
        written, left_out = self._written(prompts, shown or {"": []})
        source = f"answers to {len(prompts)} prompts" if prompts else "prompts and answers"
        counted = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "none"
        if len(written) < FEWEST:
            self.notes.append(
                f"rehearse: nothing is rehearsed, the previous version wrote {len(written)} rows that can be used "
                f"(left out: {counted}); it has not learned to write prompts, or not this way: give prompts in a "
                "file, show it seeds, or allow longer ones (prompt_tokens, answer_tokens)"
            )
            return rows
        self.notes.append(
            f"rehearse: {self.config.share:.0%} of every batch from {len(written)} rows, {source} by the previous "
            f"version; left out: {counted}"
        )
        return self.mix(rows, MixIn("rehearse", self.config.share, tuple(by_dataset(written).values())))

    def loss(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> torch.Tensor | None:
        """The prompts' own cross-entropy, a mean over the batch's tokens without a label, times `learn_prompts`."""
        total = batch["predicted_tokens"] - batch["labelled_tokens"]
        if not self.config.learn_prompts or total <= 0:
            return None
        ids_BT, labels_BT = batch["input_ids"][:, 1:], batch["labels"][:, 1:]
        where_BT = (labels_BT == IGNORED) & predictable(batch)
        part = self.config.learn_prompts * batch["micro_batches"] / total
        return part * summed_loss(model, hidden_BTD[:, :-1], ids_BT, where_BT)

    def _from_file(self, path: Path) -> list[Example]:
        if not path.is_file():
            raise InputError("the file with prompts does not exist", where=str(path), fix="check the path")
        found = read_examples(path, task=path.stem)
        if found.dropped:
            self.notes.append(f"rehearse: {len(found.dropped)} rows of {path} cannot be used as prompts")
        return self._chosen(found.examples, self.config.rows)

    def _of_kept(self, known: dict[str, list[Example]]) -> list[Example]:
        """Prompts of kept rows, evenly over the tasks; their answers are not used."""
        each = max(1, self.config.rows // len(known))
        return [
            row.model_copy(update={"origin": Origin(task=task)})
            for task, kept in known.items()
            for row in self._chosen(kept, each)
        ]

    def _check_pictures(self, rows: TrainingRows, known: dict[str, list[Example]]) -> None:
        """It writes words: with rows about pictures before it, it would ask about pictures that are not there.

        Raises:
            InputError: rows that are shown to it have pictures.
        """
        if self.config.seeds and any(row.images for kept in known.values() for row in kept):
            what = "kept rows have pictures, and shown as examples they would be answered by questions without any"
            fix = "leave seeds out: then the kept rows' own prompts are answered, pictures included"
            raise InputError(what, where="protect: rehearse, seeds", fix=fix)
        if any(row.images for row in rows.new):
            self.notes.append("rehearse: prompts are written in words, so nothing about pictures is rehearsed")

    def _chosen(self, rows: list[Example], count: int) -> list[Example]:
        return choose(rows, count, floor=0, seed=self.context.seed).rows if len(rows) > count else list(rows)

    def _written(self, prompts: list[Example], shown: dict[str, list[Example]]) -> tuple[list[Example], Counter[str]]:
        """The rows, made anew or read from the file of an earlier run with the same version, prompts and options."""
        context = self.context
        options = self.config.model_dump(mode="json", exclude={"share", "learn_prompts", "prompts"})
        given = [row.content_id for rows in (prompts, *shown.values()) for row in rows]
        key = content_hash([context.previous.identity, context.seed, context.max_length, options, given])
        cache = context.folder / "rehearsed" / f"{context.previous.identity[:16]}-{key[:16]}.json"
        if cache.exists():
            kept = json.loads(cache.read_text(encoding="utf-8"))
            rows = [from_memory(Example.model_validate(row), context.folder) for row in kept["rows"]]
            return rows, Counter(kept["left_out"])
        written, left_out = self._write(prompts, shown)
        lasting = [in_memory(row, context.folder) for row in written]  # a memory folder may be moved
        record = {"left_out": dict(left_out), "rows": [row.model_dump(mode="json") for row in lasting]}
        atomic_write(cache, canonical_json(record))
        return written, left_out

    def _write(self, prompts: list[Example], shown: dict[str, list[Example]]) -> tuple[list[Example], Counter[str]]:
        config, context = self.config, self.context
        model, left_out = load_model(context.previous), Counter[str]()
        each = -(-config.rows // len(shown))
        sampling = Sampling(
            rows=each,
            attempts=round(config.attempts * each),
            prompt_tokens=config.prompt_tokens,
            answer_tokens=min(config.answer_tokens, context.max_length // 2),
            max_length=context.max_length,
            top_k=config.top_k,
            seed=context.seed,
        )
        if not prompts:
            prompts = [
                Example(prompt=(Message(role="user", content=text),), origin=Origin(task=task or SAMPLED))
                for task, seeds in shown.items()
                for text in sample_prompts(model, context.tokenizer, sampling, left_out, seeds)
            ]
        written = answered(model, context.tokenizer, prompts, sampling, left_out)
        distinct = {row.content_id: row for row in written}
        left_out["repeated rows"] += len(written) - len(distinct)
        return list(distinct.values()), +left_out
