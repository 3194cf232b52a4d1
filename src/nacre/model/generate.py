"""Greedy answers and token losses in batches, for scoring.

Shape suffixes: B rows of the batch, T positions of its longest row, N supervised positions of the
whole batch, V vocabulary.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from nacre.base.errors import InputError
from nacre.base.progress import progress
from nacre.model.chat import IGNORED, encode, encode_text, own_text, prompt_ids, shorten, stop_ids, stop_texts
from nacre.records import Decoding, Example

_LOSS_TOKENS = 4096  # positions in one forward pass of the losses: bounds the [N, V] logits

Advance = Callable[[int], None]
Step = Callable[[], None]


class Answer(NamedTuple):
    """What the model said, without the token that ended it.

    Attributes:
        cut_tokens: prompt tokens left out because the prompt did not fit.
        finished: whether the model ended the answer itself, before `max_new_tokens`.
        tokens: number of tokens of the answer.
    """

    text: str
    cut_tokens: int
    finished: bool
    tokens: int = 0


class Timing(NamedTuple):
    """Seconds of one request: to its end, to its first token, and for each token after the first.

    The token that ends an answer counts as one; `token_s` is None where there was only one.
    """

    total_s: float
    first_token_s: float
    token_s: float | None


class Loss(NamedTuple):
    """Negative log-likelihood of one row, in nats, summed over its `tokens` scored tokens.

    `cut_tokens` counts the tokens of the row that did not fit.
    """

    nll: float
    tokens: int
    cut_tokens: int


def answer_all(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    decoding: Decoding,
    *,
    batch_rows: int = 32,
    advance: Advance | None = None,
    step: Step | None = None,
) -> list[Answer]:
    """The greedy answer to every example's prompt, in order.

    The model's own generation settings (sampling, penalties) are left aside, so an answer depends on
    weights and prompt alone. Longest prompts go first: memory that does not suffice shows at once.

    `batch_rows` rows are generated side by side; `advance` is called with the number of rows just answered, `step`
    whenever every row of a batch has got one token more.

    Raises:
        InputError: `max_new_tokens` leaves no room for a prompt.
    """
    whole, prompts = asked_prompts(tokenizer, examples, decoding)
    stop = _Stop(stop_ids(tokenizer), stop_texts(tokenizer), tokenizer)
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    answers: dict[int, Answer] = {}
    with _evaluating(model):
        for start in range(0, len(order), batch_rows):
            batch = order[start : start + batch_rows]
            said = _greedy(model, [prompts[row] for row in batch], stop, decoding.max_new_tokens, step)
            for row, (tokens, finished) in zip(batch, said, strict=True):
                text = own_text(tokenizer.decode(tokens, skip_special_tokens=True), tokenizer)
                answers[row] = Answer(text, len(whole[row]) - len(prompts[row]), finished, len(tokens))
            if advance:
                advance(len(batch))
    return [answers[row] for row in range(len(prompts))]


def asked_prompts(
    tokenizer: Any, examples: Sequence[Example], decoding: Decoding
) -> tuple[list[list[int]], list[list[int]]]:
    """The tokens of every prompt, and those of them that leave room for an answer.

    Raises:
        InputError: `max_new_tokens` leaves no room for a prompt.
    """
    room = decoding.max_length - decoding.max_new_tokens
    if room < 1:
        raise InputError(
            f"max_new_tokens {decoding.max_new_tokens} leaves no room for a prompt in {decoding.max_length} tokens",
            where="evaluate, max_new_tokens",
            fix="lower max_new_tokens or raise max_length",
        )
    whole = [prompt_ids(row.prompt, tokenizer, system=row.system, tools=row.tools) for row in examples]
    return whole, [shorten(prompt, room) for prompt in whole]


def time_answer(model: Any, tokenizer: Any, example: Example, decoding: Decoding) -> Timing:
    """Answer one row alone and time it, the work on its prompt included. The first call of a model is slower."""
    marks: list[float] = []
    started = time.perf_counter()
    answer_all(model, tokenizer, [example], decoding, step=lambda: marks.append(time.perf_counter()))
    total_s = time.perf_counter() - started
    later = (marks[-1] - marks[0]) / (len(marks) - 1) if len(marks) > 1 else None
    return Timing(total_s, marks[0] - started, later)


def answer_losses(
    model: Any, tokenizer: Any, examples: Sequence[Example], max_length: int, *, advance: Advance | None = None
) -> list[Loss]:
    """Loss of every example's (first) answer given its prompt; earlier assistant turns are not scored.

    The token that ends the answer counts as one of its tokens.
    """
    rows = [encode(example, tokenizer, max_length) for example in examples]
    with _evaluating(model):
        found = _losses(model, [(row.input_ids, last_answer(row.labels)) for row in rows], advance)
    return [Loss(nll, tokens, row.cut) for (nll, tokens), row in zip(found, rows, strict=True)]


def text_losses(model: Any, tokenizer: Any, texts: Sequence[str], max_length: int) -> list[Loss]:
    """Loss of every plain text and its end-of-sequence token, read in blocks of `max_length` as in training.

    The first token of a block follows nothing and is not scored.
    """
    blocks = [
        (place, block) for place, text in enumerate(texts) for block in encode_text([text], tokenizer, max_length)
    ]
    with _evaluating(model):
        found = _losses(model, [(block.input_ids, block.labels) for _, block in blocks], None)
    nll, tokens = [0.0] * len(texts), [0] * len(texts)
    for (place, _), (block_nll, block_tokens) in zip(blocks, found, strict=True):
        nll[place] += block_nll
        tokens[place] += block_tokens
    return [Loss(*row, cut_tokens=0) for row in zip(nll, tokens, strict=True)]


def rewards(
    model: Any, tokenizer: Any, examples: Sequence[Example], max_length: int, *, advance: Advance | None = None
) -> list[float]:
    """The number that a reward model gives every example's (first) answer."""
    rows = [encode(example, tokenizer, max_length).input_ids for example in examples]
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    plain.config.get_text_config().pad_token_id = tokenizer.pad_token_id  # by which it finds an answer's last token
    found = [0.0] * len(rows)
    with _evaluating(model):
        for batch in _batches([len(row) for row in rows]):
            width = max(len(rows[row]) for row in batch)
            pads = [width - len(rows[row]) for row in batch]
            padded = [rows[row] + [tokenizer.pad_token_id] * pad for row, pad in zip(batch, pads, strict=True)]
            input_ids_BT = torch.tensor(padded, device=model.device)
            mask_BT = torch.tensor([[1] * (width - pad) + [0] * pad for pad in pads], device=model.device)
            output = model(input_ids=input_ids_BT, attention_mask=mask_BT, use_cache=False)
            for row, number in zip(batch, output.logits[:, 0].float().tolist(), strict=True):
                found[row] = number
            if advance:
                advance(len(batch))
    return found


def sequence_losses(model: Any, rows: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, int]]:
    """Summed loss, in nats, and number of supervised tokens of (input ids, labels) rows, in order."""
    with _evaluating(model), progress("reading the start's answers", len(rows)) as advance:
        return _losses(model, rows, advance)


class _Stop(NamedTuple):
    """What ends an answer: one of these tokens, or one of these texts in what was said."""

    ids: set[int]
    texts: tuple[str, ...]
    tokenizer: Any

    def add(self, said: list[int], token: int) -> bool:
        """Put `token` after what was said, unless it is one that ends; whether the answer goes on."""
        if token in self.ids:
            return False
        said.append(token)
        if not self.texts:
            return True
        reach = max(len(text.encode()) for text in self.texts)  # a token is a byte at least
        tail = self.tokenizer.decode(said[-reach:], skip_special_tokens=True)
        return not any(text in tail for text in self.texts)


def _greedy(
    model: Any, prompts: Sequence[list[int]], stop: _Stop, max_new_tokens: int, step: Step | None = None
) -> list[tuple[list[int], bool]]:
    """New tokens of each row, and whether the row ended itself. Rows that have ended leave the batch."""
    device = model.device
    width = max(len(prompt) for prompt in prompts)
    pads = [width - len(prompt) for prompt in prompts]
    input_ids_BT = torch.tensor([[0] * pad + prompt for pad, prompt in zip(pads, prompts, strict=True)], device=device)
    mask_BT = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads], device=device)
    position_ids_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    said: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))
    cache: Any = None
    for _ in range(max_new_tokens):
        output = model(
            input_ids=input_ids_BT,
            attention_mask=mask_BT,
            position_ids=position_ids_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        next_B = output.logits[:, -1].argmax(-1)
        going = [
            place
            for place, (row, token) in enumerate(zip(alive, next_B.tolist(), strict=True))
            if stop.add(said[row], token)
        ]
        if step:  # after the tokens came back from the device
            step()
        if len(going) < len(alive):
            alive = [alive[place] for place in going]
            if not alive:
                break
            going_B = torch.tensor(going, device=device)
            next_B, mask_BT, position_ids_BT = next_B[going_B], mask_BT[going_B], position_ids_BT[going_B]
            cache.reorder_cache(going_B)
        input_ids_BT = next_B[:, None]
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(alive), 1)], dim=1)
        position_ids_BT = position_ids_BT[:, -1:] + 1
    return [(tokens, row not in alive) for row, tokens in enumerate(said)]


def _losses(
    model: Any, rows: Sequence[tuple[list[int], list[int]]], advance: Advance | None
) -> list[tuple[float, int]]:
    """Summed loss and number of supervised tokens of (input ids, labels) rows, in order."""
    found: dict[int, tuple[float, int]] = {}
    for batch in _batches([len(input_ids) for input_ids, _ in rows]):
        width = max(len(rows[row][0]) for row in batch)
        for row, result in zip(batch, _batch_losses(model, [rows[row] for row in batch], width), strict=True):
            found[row] = result
        if advance:
            advance(len(batch))
    return [found[row] for row in range(len(rows))]


def _batch_losses(model: Any, rows: Sequence[tuple[list[int], list[int]]], width: int) -> list[tuple[float, int]]:
    device = model.device
    pads = [width - len(input_ids) for input_ids, _ in rows]
    input_ids_BT = torch.tensor([row[0] + [0] * pad for row, pad in zip(rows, pads, strict=True)], device=device)
    mask_BT = torch.tensor([[1] * (width - pad) + [0] * pad for pad in pads], device=device)
    # The token after position t is what position t is asked for.
    shifted = [row[1][1:] + [IGNORED] * (pad + 1) for row, pad in zip(rows, pads, strict=True)]
    targets_BT = torch.tensor(shifted, device=device)
    wanted_BT = targets_BT != IGNORED
    counts_B = wanted_BT.sum(-1)
    if not counts_B.any():
        return [(0.0, 0)] * len(rows)
    # A mask given as logits_to_keep slices the hidden states before the head: [N, V], never [B, T, V].
    logits_NV = model(input_ids=input_ids_BT, attention_mask=mask_BT, use_cache=False, logits_to_keep=wanted_BT).logits
    nll_N = F.cross_entropy(logits_NV.float(), targets_BT[wanted_BT], reduction="none").cpu().double()
    counts = counts_B.tolist()
    return [(float(part.sum()), count) for part, count in zip(torch.split(nll_N, counts), counts, strict=True)]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers, longest rows first, in groups whose padded size stays below `_LOSS_TOKENS`."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > _LOSS_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def last_answer(labels: list[int]) -> list[int]:
    """The labels with everything before the last run of supervised positions ignored."""
    start = len(labels)
    while start and labels[start - 1] != IGNORED:
        start -= 1
    return [IGNORED] * start + labels[start:]


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """No dropout and no gradients inside the block; the model's mode is put back after it.

    `no_grad`, not `inference_mode`: a buffer that a model refreshes here may be needed in training later.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
