"""Rows that a model writes itself: questions sampled in chat form, or given, and its own greedy answers.

Self-synthesised rehearsal (LAMOL, Sun et al. 2020, arXiv 1909.03329; Huang et al. 2024, arXiv 2403.01244): what a
model still says by itself stands for data that is not kept. Answers to given questions alone are on-policy replay.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from nacre.base.errors import InputError
from nacre.base.progress import progress
from nacre.model.chat import prompt_ids
from nacre.model.generate import answer_all
from nacre.records import Decoding, Example, Message

_PROBES = ("nacre", "7", "?", "好。", "The end.")  # questions that have nothing in common
_AT_ONCE = 64
_HOPELESS = 256  # a model that has begun so many questions and ended none has not learned to write any


@dataclass(frozen=True)
class Sampling:
    """How questions are written.

    Attributes:
        rows: how many rows are wanted; `attempts` how many questions are begun for them at most.
        prompt_tokens, answer_tokens: the longest question and answer; longer ones are left out.
        top_k: the next token of a question is one of the so many likeliest.
        seed: of the sampling.
    """

    rows: int
    attempts: int
    prompt_tokens: int
    answer_tokens: int
    max_length: int
    top_k: int = 20
    seed: int = 0


@torch.no_grad()
def sample_prompts(
    model: Any, tokenizer: Any, sampling: Sampling, left_out: Counter[str], shown: Sequence[Example] = ()
) -> list[str]:
    """Different questions that the model writes where the chat template lets a user speak.

    Args:
        model: is asked.
        tokenizer: the model's, with its chat template.
        sampling: how many and how long.
        left_out: counts, by reason, the questions that could not be used.
        shown: rows that stand before each question as examples of what to write.

    Raises:
        InputError: the chat template writes nothing between a question and its answer.
    """
    start, marker = frame(tokenizer, shown)
    device = next(model.parameters()).device
    room = sampling.max_length - len(start) - sampling.answer_tokens
    if room < 2:
        raise InputError(
            f"{len(start)} tokens of examples leave no room for a question in {sampling.max_length}",
            where="protect: rehearse",
            fix="show fewer seeds, ask for shorter answers, or raise max_length",
        )
    found: dict[str, None] = {}
    begun = 0
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        progress("sampling questions", sampling.rows) as advance,
    ):
        torch.manual_seed(sampling.seed)
        while len(found) < sampling.rows and begun < sampling.attempts:
            ids_BT = torch.tensor([start] * _AT_ONCE, device=device)
            output_BT = model.generate(
                ids_BT,
                attention_mask=torch.ones_like(ids_BT),
                do_sample=True,
                temperature=1.0,
                top_k=sampling.top_k,
                top_p=1.0,
                max_new_tokens=min(sampling.prompt_tokens + len(marker), room),
                pad_token_id=tokenizer.pad_token_id,
                stopping_criteria=StoppingCriteriaList([_Ended(len(start), marker)]),
            )
            begun += _AT_ONCE
            before = len(found)
            for row in output_BT[:, len(start) :].tolist():
                _take(_until(row, marker), tokenizer, found, left_out)
            advance(min(len(found), sampling.rows) - min(before, sampling.rows))
            if not found and begun >= _HOPELESS:
                break
    return list(found)[: sampling.rows]


def answered(
    model: Any, tokenizer: Any, rows: Sequence[Example], sampling: Sampling, left_out: Counter[str]
) -> list[Example]:
    """The rows with the model's own greedy answers; those without a whole answer are left out and counted."""
    decoding = Decoding(max_new_tokens=sampling.answer_tokens, max_length=sampling.max_length)
    with progress("answering", len(rows)) as advance:
        answers = answer_all(model, tokenizer, rows, decoding, advance=advance)
    found = []
    for row, answer in zip(rows, answers, strict=True):
        if not answer.finished:
            left_out["answers longer than answer_tokens"] += 1
        elif not answer.text.strip():
            left_out["empty answers"] += 1
        else:
            said = Message(role="assistant", content=answer.text)
            found.append(row.model_copy(update={"answers": (said,), "kind": "sft", "desirable": None}))
    return found


def frame(tokenizer: Any, shown: Sequence[Example] = ()) -> tuple[list[int], list[int]]:
    """The tokens that the chat template writes before any question (after `shown`), and between it and the answer.

    Raises:
        InputError: there are none between them, so nobody could tell where a question ends.
    """
    turns = tuple(turn for row in shown for turn in (*row.prompt, *row.answers[:1]))
    spread = [tokenizer.decode([place * len(tokenizer) // 8]).strip() for place in range(1, 8)]
    probes = [*_PROBES, *(word for word in spread if word)]  # a small vocabulary may know none of ours
    whole = [prompt_ids((*turns, Message(role="user", content=probe)), tokenizer) for probe in probes]
    start = _common(whole)
    marker = _common([ids[::-1] for ids in whole])[::-1]
    if not marker:
        raise InputError(
            "the chat template writes nothing between a question and its answer",
            where="protect: rehearse",
            fix="give the prompts in a file, or the tokenizer another chat_template",
        )
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return start or [0 if begin is None else begin], marker


class _Ended(StoppingCriteria):
    """A row is done when it has written the marker that asks for an answer."""

    def __init__(self, start: int, marker: Sequence[int]) -> None:
        self.start, self.marker = start, list(marker)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        length = len(self.marker)
        if input_ids.shape[1] < self.start + length:
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        marker = torch.tensor(self.marker, device=input_ids.device)
        return (input_ids[:, -length:] == marker).all(-1)


def _take(prompt: list[int] | None, tokenizer: Any, found: dict[str, None], left_out: Counter[str]) -> None:
    if prompt is None:
        left_out["questions without an end"] += 1
        return
    text = tokenizer.decode(prompt, skip_special_tokens=True).strip()
    if not text:
        left_out["empty questions"] += 1
    elif text in found:
        left_out["repeated questions"] += 1
    else:
        found[text] = None


def _until(ids: list[int], marker: Sequence[int]) -> list[int] | None:
    """What stands before the first marker; None where there is none."""
    length = len(marker)
    return next((ids[:k] for k in range(len(ids) - length + 1) if ids[k : k + length] == list(marker)), None)


def _common(rows: Sequence[Sequence[int]]) -> list[int]:
    """The tokens with which all rows begin."""
    found = []
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        found.append(column[0])
    return found
