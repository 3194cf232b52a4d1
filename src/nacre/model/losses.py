"""Token losses in batches, for scoring.

Shape suffixes: B rows of the batch, T positions of its longest row, N supervised positions of the
whole batch, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from nacre.base.progress import progress
from nacre.model.chat import IGNORED, encode, encode_text
from nacre.model.vocabulary import tile, vocabulary_of
from nacre.records import Example

_LOSS_TOKENS = 4096  # positions in one forward pass of the losses
SCORES_BYTES = 2**29  # of scores in float32 that a pass of several rows may make: bounds the [N, V] logits

Advance = Callable[[int], None]


class Loss(NamedTuple):
    """Negative log-likelihood of one row, in nats, summed over its `tokens` scored tokens.

    `cut_tokens` counts the tokens of the row that did not fit.
    """

    nll: float
    tokens: int
    cut_tokens: int


def answer_losses(
    model: Any, tokenizer: Any, examples: Sequence[Example], max_length: int, *, advance: Advance | None = None
) -> list[Loss]:
    """Loss of every example's (first) answer given its prompt; earlier assistant turns are not scored.

    The token that ends the answer counts as one of its tokens.
    """
    rows = [encode(example, tokenizer, max_length) for example in examples]
    with evaluating(model):
        found = labelled_losses(model, [(row.input_ids, last_answer(row.labels)) for row in rows], advance)
    return [Loss(nll, tokens, row.cut) for (nll, tokens), row in zip(found, rows, strict=True)]


def text_losses(model: Any, tokenizer: Any, texts: Sequence[str], max_length: int) -> list[Loss]:
    """Loss of every plain text and its end-of-sequence token, read in blocks of `max_length` as in training.

    The first token of a block follows nothing and is not scored.
    """
    blocks = [
        (place, block) for place, text in enumerate(texts) for block in encode_text([text], tokenizer, max_length)
    ]
    with evaluating(model):
        found = labelled_losses(model, [(block.input_ids, block.labels) for _, block in blocks], None)
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
    with evaluating(model):
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
    with evaluating(model), progress("reading the start's answers", len(rows)) as advance:
        return labelled_losses(model, rows, advance)


def labelled_losses(
    model: Any, rows: Sequence[tuple[list[int], list[int]]], advance: Advance | None = None
) -> list[tuple[float, int]]:
    """Summed loss and number of supervised tokens of (input ids, labels) rows, in order, by a model that evaluates."""
    found: dict[int, tuple[float, int]] = {}
    wanted = [sum(label != IGNORED for label in labels[1:]) for _, labels in rows]
    for batch in _batches(
        [len(input_ids) for input_ids, _ in rows], wanted, SCORES_BYTES // (4 * vocabulary_of(model))
    ):
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
    size = tile(logits_NV.shape[-1], device)
    parts = zip(torch.split(logits_NV, size), torch.split(targets_BT[wanted_BT], size), strict=True)
    nll_N = torch.cat([F.cross_entropy(part_TV.float(), at_T, reduction="none") for part_TV, at_T in parts])
    counts = counts_B.tolist()
    sums = [float(part.sum()) for part in torch.split(nll_N.cpu().double(), counts)]
    return list(zip(sums, counts, strict=True))


def _batches(lengths: Sequence[int], scored: Sequence[int] = (), most: int = 0) -> Iterator[list[int]]:
    """Row numbers, longest rows first, in groups whose padded size stays below `_LOSS_TOKENS`.

    Args:
        lengths: of the rows, in tokens.
        scored: how many of them scores are made for, where there are any.
        most: of these in a group; a row that has more is a group by itself.
    """
    batch: list[int] = []
    held = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        more = scored[row] if scored else 0
        if batch and (lengths[batch[0]] * (len(batch) + 1) > _LOSS_TOKENS or (scored and held + more > most)):
            yield batch
            batch, held = [], 0
        batch.append(row)
        held += more
    if batch:
        yield batch


def last_answer(labels: list[int]) -> list[int]:
    """The labels with everything before the last run of supervised positions ignored."""
    start = len(labels)
    while start and labels[start - 1] != IGNORED:
        start -= 1
    return [IGNORED] * start + labels[start:]


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
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
