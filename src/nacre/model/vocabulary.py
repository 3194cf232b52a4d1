"""Cross-entropy over a large vocabulary, without keeping its scores: a few hundred positions at a time.

Where the head does not train, the gradient of each position's loss by its hidden state is made in the forward pass,
while the scores are still there, and only that is kept: two products with the head's weight, the same two that any
way costs, and D numbers a position instead of V. Where the head trains, its own gradient must know how each position
is weighted, which only the backward pass says: there the scores are kept while they are small, and made a second time
where they are not.

On a processor the scores of a chunk are gone over a few positions at a time, between the two products: what they pass
through in float32 then stays in its cache, and comes from memory that is there already, instead of from pages that the
system must zero first.

Shapes: P positions, C positions of a chunk, T positions of a tile of it, D hidden size, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from nacre.model.head import cap_of, factor_of, next_token_logits

CHUNK_BYTES = 2**28  # of scores in float32 that a chunk would have
TILE_BYTES = 2**22  # of scores in float32 that are there at once, for each row of which there is one thread at least
KEPT_BYTES = 2**29  # of scores in float32 that a head that trains may keep for the backward pass
_LEAST = torch.finfo(torch.float32).tiny  # a probability whose logarithm is finite


class Head(NamedTuple):
    """A linear head: scores are cap * tanh(factor * (weight @ hidden + bias) / cap), without the tanh where cap is 0.

    Attributes:
        weight_VD: in the type that products are made in.
        bias_V: None where there is none.
        factor: what the family multiplies its logits by.
        cap: what it bounds them by; 0: nothing.
    """

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None
    factor: float
    cap: float


class Beside(NamedTuple):
    """What some positions lose beside the negative log-likelihood of their targets.

    Attributes:
        at_P: which positions.
        loss: what each of them loses, numbered among themselves.
        weight: of that, beside one target's negative log-likelihood.
    """

    at_P: torch.Tensor
    loss: "Loss"
    weight: float


def answer_nll(
    model: Any, hidden_PD: torch.Tensor, targets_P: torch.Tensor, beside: Beside | None = None
) -> torch.Tensor:
    """Negative log-likelihood [P] of each target in nats, in float32, with gradients by the hidden states and the head.

    Args:
        model: a causal model, which may carry an adapter of PEFT's.
        hidden_PD: the decoder's last hidden states where a token is predicted.
        targets_P: those tokens.
        beside: added to it, from the same scores; only where the head does not train (`frozen_head`).
    """
    head = frozen_head(model, hidden_PD.device.type)
    if head is not None:
        loss = _nll_of(targets_P) if beside is None else _both(_nll_of(targets_P), beside)
        found: torch.Tensor = _FrozenHead.apply(hidden_PD, loss, head)  # type: ignore[no-untyped-call] # torch has no types
        return found
    assert beside is None
    size = vocabulary_of(model)
    if 4 * size * len(hidden_PD) <= KEPT_BYTES:
        return _plain_nll(model, hidden_PD, targets_P)
    chunks = zip(torch.split(hidden_PD, _chunk(size)), torch.split(targets_P, _chunk(size)), strict=True)
    return torch.cat([checkpoint(_plain_nll, model, *chunk, use_reentrant=False) for chunk in chunks])


def frozen_head(model: Any, device: str) -> Head | None:
    """The head, if it is one matrix that does not train and carries no adapter; else None."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    linear = causal.get_output_embeddings()
    if type(linear) is not nn.Linear or any(weight.requires_grad for weight in linear.parameters()):
        return None
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else linear.weight.dtype
    bias = None if linear.bias is None else linear.bias.detach().to(dtype)
    config = causal.config.get_text_config()
    return Head(linear.weight.detach().to(dtype), bias, factor_of(config), cap_of(config))


def divergence_nats(
    head: Head, hidden_PD: torch.Tensor, logs_PK: torch.Tensor, ids_PK: torch.Tensor, rest_P: torch.Tensor
) -> torch.Tensor:
    """KL(teacher || student) [P] in nats, see `divergence_of`.

    Args:
        head: the student's.
        hidden_PD: the student's last hidden states; they alone have gradients.
        logs_PK: the teacher's largest log-probabilities, of the tokens `ids_PK`.
        rest_P: log of the teacher's probability of all other tokens together.
    """
    loss = divergence_of(logs_PK, ids_PK, rest_P)
    found: torch.Tensor = _FrozenHead.apply(hidden_PD, loss, head)  # type: ignore[no-untyped-call] # torch has no types
    return found


Loss = Callable[[torch.Tensor, slice, bool], tuple[torch.Tensor, torch.Tensor | None]]
"""Of log-probabilities [T, V] in float32, which it may overwrite, at the positions of the slice: what each position
loses [T], and, if that is wanted, its slope by the scores [T, V].
"""


def divergence_of(logs_PK: torch.Tensor, ids_PK: torch.Tensor, rest_P: torch.Tensor) -> Loss:
    """KL(teacher || student) at each position in nats, with all tokens outside the teacher's top K taken as one."""

    def of(own_TV: torch.Tensor, part: slice, wanted: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        logs_TK, ids_TK, rest_T = logs_PK[part], ids_PK[part].long(), rest_P[part]
        own_TK = own_TV.gather(-1, ids_TK)
        apart_T = (logs_TK.exp() * (logs_TK - own_TK)).sum(-1)
        slope_TV = own_TV.exp_().scatter_(-1, ids_TK, 0.0)
        if ids_TK.shape[-1] < slope_TV.shape[-1]:
            own_rest_T = slope_TV.sum(-1).clamp(min=_LEAST).log()
            apart_T = apart_T + rest_T.exp() * (rest_T - own_rest_T)
            if wanted:  # by a score outside the top q - p_rest q / q_rest, inside it q - p
                slope_TV.mul_(1 - (rest_T - own_rest_T).exp()[:, None])
        return apart_T, slope_TV.scatter_(-1, ids_TK, own_TK.exp() - logs_TK.exp()) if wanted else None

    return of


def _nll_of(targets_P: torch.Tensor) -> Loss:
    def of(logs_TV: torch.Tensor, part: slice, wanted: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        at_T1 = targets_P[part, None]
        nll_T = -logs_TV.gather(-1, at_T1)[:, 0]
        if not wanted:
            return nll_T, None
        slope_TV = logs_TV.exp_()
        return nll_T, slope_TV.scatter_add_(-1, at_T1, slope_TV.new_full((len(at_T1), 1), -1.0))

    return of


def _both(nll: Loss, beside: Beside) -> Loss:
    def of(logs_TV: torch.Tensor, part: slice, wanted: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        rows_S = beside.at_P[part].nonzero()[:, 0]
        if not len(rows_S):
            return nll(logs_TV, part, wanted)
        before = int(beside.at_P[: part.start].sum())
        lost_S, more_SV = beside.loss(logs_TV[rows_S], slice(before, before + len(rows_S)), wanted)
        lost_T, slope_TV = nll(logs_TV, part, wanted)
        lost_T.index_add_(0, rows_S, lost_S, alpha=beside.weight)
        if slope_TV is not None and more_SV is not None:
            slope_TV.index_add_(0, rows_S, more_SV, alpha=beside.weight)
        return lost_T, slope_TV

    return of


class _FrozenHead(torch.autograd.Function):
    """What each position loses, where nothing but the hidden states has a gradient."""

    @staticmethod
    def forward(ctx: Any, hidden_PD: torch.Tensor, loss: Loss, head: Head) -> torch.Tensor:
        wanted = ctx.needs_input_grad[0]
        lost_P = torch.empty(len(hidden_PD), dtype=torch.float32, device=hidden_PD.device)
        slope_PD = torch.empty_like(hidden_PD) if wanted else None
        with torch.autocast(hidden_PD.device.type, enabled=False):
            step, few = _chunk(len(head.weight_VD)), tile(len(head.weight_VD), hidden_PD.device)
            for start in range(0, len(hidden_PD), step):
                hidden_CD = hidden_PD[start : start + step]
                scores_CV = functional.linear(hidden_CD.to(head.weight_VD.dtype), head.weight_VD, head.bias_V)
                for scores_TV, first in zip(torch.split(scores_CV, few), range(start, start + step, few), strict=False):
                    part = slice(first, first + len(scores_TV))
                    logits_TV, bent_TV = _logits(scores_TV, head)
                    lost_P[part], slope_TV = loss(logits_TV.log_softmax(-1), part, wanted)
                    if slope_TV is not None:
                        scores_TV.copy_(_through(slope_TV, bent_TV, head))  # in their place: nobody asks for them again
                if slope_PD is not None:
                    slope_PD[start : start + step] = scores_CV @ head.weight_VD
                del scores_CV  # before those of the next chunk are there
        ctx.slope_PD = slope_PD
        return lost_P

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (grad_P,) = grads
        return (ctx.slope_PD * grad_P[:, None]).to(ctx.slope_PD.dtype), None, None


def _logits(scores_TV: torch.Tensor, head: Head) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the family makes of the product, in float32, and what its cap made of that before the last factor."""
    scaled_TV = scores_TV * head.factor if head.factor != 1 else scores_TV
    if not head.cap:
        return scaled_TV.float(), None
    bent_TV = torch.tanh(scaled_TV / head.cap)
    return (bent_TV * head.cap).float(), bent_TV


def _through(slope_TV: torch.Tensor, bent_TV: torch.Tensor | None, head: Head) -> torch.Tensor:
    """The slope by the product's scores, made in place of the slope by the logits."""
    if bent_TV is not None:
        slope_TV *= 1 - bent_TV.float() ** 2
    return slope_TV.mul_(head.factor) if head.factor != 1 else slope_TV


def _plain_nll(model: Any, hidden_PD: torch.Tensor, targets_P: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(next_token_logits(model, hidden_PD).float(), targets_P, reduction="none")


def vocabulary_of(model: Any) -> int:
    """How many tokens a causal model scores."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return int(causal.config.get_text_config().vocab_size)


def _chunk(vocabulary: int) -> int:
    return max(1, CHUNK_BYTES // (4 * vocabulary))


def tile(vocabulary: int, device: torch.device) -> int:
    """Positions that are gone over together; elsewhere than on a processor each call costs more than the memory."""
    return max(torch.get_num_threads(), TILE_BYTES // (4 * vocabulary)) if device.type == "cpu" else _chunk(vocabulary)
