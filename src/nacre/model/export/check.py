"""How far a written form is from its version: measured on the answers that the version gives.

The version answers some prompts greedily. The form then reads each prompt with that answer behind it and says what it
would have said at each place, so a first difference does not hide what comes after it. Where every token of an answer
is the form's likeliest, too, the form gives that very answer.

Shapes: T tokens of a text, A of its answer, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from nacre.base.errors import NacreError
from nacre.model.chat import prompt_ids, shorten, stop_ids
from nacre.model.export import Bound, Reader
from nacre.model.load import load_model, load_tokenizer
from nacre.records import Example, Weights

ANSWER_TOKENS = 24
PROMPT_TOKENS = 512  # longer prompts are cut, as a few prompts are to say something about a form, not about memory


class OutOfBound(NacreError):
    """The written form does not answer as its version does."""


@dataclass(frozen=True)
class Said:
    """What the version answered to one prompt, and how likely it thought each token of it, in nats."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True)
class Compared:
    """A form beside its version.

    Attributes:
        prompts: how many were asked.
        tokens: how many tokens the version's answers have.
        equal_tokens: share of them that are the form's likeliest.
        equal_answers: share of answers that are equal to the last token.
        nats: difference of the mean negative log probability of the version's tokens, in nats a token.
    """

    prompts: int
    tokens: int
    equal_tokens: float
    equal_answers: float
    nats: float

    def held(self, bound: Bound) -> bool:
        """Whether it is near enough; a number that is none never is."""
        return self.equal_tokens >= bound.tokens and abs(self.nats) <= bound.nats


def answers(weights: Weights, rows: Sequence[Example]) -> list[Said]:
    """What a version answers, greedily and with nothing of its own generation settings."""
    model, tokenizer = load_model(weights), load_tokenizer(weights)
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    plain.generation_config = GenerationConfig()  # what is not chosen below would be taken from the model's own
    ends = sorted(stop_ids(tokenizer))
    chosen = GenerationConfig(
        do_sample=False, max_new_tokens=ANSWER_TOKENS, eos_token_id=ends or None, pad_token_id=tokenizer.pad_token_id
    )
    found = []
    for row in rows:
        prompt = prompt_ids(row.prompt, tokenizer, system=row.system, tools=row.tools, images=row.images)
        prompt = prompt if row.images else shorten(prompt, PROMPT_TOKENS)
        found.append(_said(model, prompt, chosen))
    return found


def _said(model: Any, prompt: list[int], chosen: GenerationConfig) -> Said:
    ids_1T = torch.tensor([prompt], device=model.device)
    with torch.inference_mode():
        whole_1T = model.generate(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T), generation_config=chosen)
        logits_TV = model(input_ids=whole_1T).logits[0].float().cpu().numpy()
    answer = whole_1T[0, len(prompt) :].tolist()
    return Said(tuple(prompt), tuple(answer), tuple(_of_answer(logits_TV, len(prompt), answer)[1]))


def compare(reader: Reader, said: Sequence[Said]) -> Compared:
    """Ask the form what the version answered."""
    equal, whole, tokens = 0, 0, 0
    ours, theirs = 0.0, 0.0
    for one in said:
        likeliest, logprobs = _of_answer(reader([*one.prompt, *one.answer]), len(one.prompt), one.answer)
        same = [mine == wanted for mine, wanted in zip(likeliest, one.answer, strict=True)]
        equal, whole, tokens = equal + sum(same), whole + all(same), tokens + len(same)
        ours, theirs = ours - sum(one.logprobs), theirs - sum(logprobs)
    count = max(tokens, 1)
    return Compared(len(said), tokens, equal / count, whole / max(len(said), 1), (theirs - ours) / count)


def _of_answer(logits_TV: NDArray[np.float32], start: int, answer: Sequence[int]) -> tuple[list[int], list[float]]:
    """At each place of the answer the likeliest token, and the log probability of the one that stands there."""
    logits_AV = logits_TV[start - 1 : start - 1 + len(answer)].astype(np.float64)
    top_A1 = logits_AV.max(-1, keepdims=True)
    logprobs_AV = logits_AV - top_A1 - np.log(np.exp(logits_AV - top_A1).sum(-1, keepdims=True))
    told = [float(logprobs_AV[place, token]) for place, token in enumerate(answer)]
    return logits_AV.argmax(-1).tolist(), told


def refuse(compared: Compared, bound: Bound, form: str) -> None:
    """Stop where a form is too far from its version.

    Raises:
        OutOfBound: it is.
    """
    if compared.held(bound):
        return
    raise OutOfBound(
        f"what was written does not answer as the version does: {compared.equal_tokens:.1%} of {compared.tokens} "
        f"greedy tokens are equal ({bound.tokens:.1%} wanted), {compared.nats:+.3f} nats a token "
        f"({bound.nats:g} at most); nothing was kept",
        where=f"--to {form}",
        fix="choose a higher --precision, or accept more with --bound",
    )
