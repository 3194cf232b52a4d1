"""Cross-entropy over a large vocabulary, without keeping its scores: a few hundred positions at a time.

Where the head does not train, the gradient of each position's loss by its hidden state is made in the forward pass,
while the scores are still there, and only that is kept: two products with the head's weight, the same two that any
way costs, and D numbers a position instead of V. Where the head trains, its own gradient must know how each position
is weighted, which only the backward pass says: there the scores are kept while they are small, and made a second time
where they are not.

Shapes: P positions, C positions of a chunk, D hidden size, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from nacre.model.head import cap_of, factor_of, next_token_logits

CHUNK_BYTES = 2**28  # of scores in float32 that are there at once
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
    size = _vocabulary(model)
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
"""Of log-probabilities [C, V] in float32, which it may overwrite, at the positions of the slice: what each position
loses [C], and, if that is wanted, its slope by the scores [C, V]. Passes over the vocabulary are to be few: they cost
about as much as the products.
"""


def divergence_of(logs_PK: torch.Tensor, ids_PK: torch.Tensor, rest_P: torch.Tensor) -> Loss:
    """KL(teacher || student) at each position in nats, with all tokens outside the teacher's top K taken as one."""

    def of(own_CV: torch.Tensor, part: slice, wanted: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        logs_CK, ids_CK, rest_C = logs_PK[part], ids_PK[part].long(), rest_P[part]
        own_CK = own_CV.gather(-1, ids_CK)
        apart_C = (logs_CK.exp() * (logs_CK - own_CK)).sum(-1)
        slope_CV = own_CV.exp_().scatter_(-1, ids_CK, 0.0)
        if ids_CK.shape[-1] < slope_CV.shape[-1]:
            own_rest_C = slope_CV.sum(-1).clamp(min=_LEAST).log()
            apart_C = apart_C + rest_C.exp() * (rest_C - own_rest_C)
            if wanted:  # by a score outside the top q - p_rest q / q_rest, inside it q - p
                slope_CV.mul_(1 - (rest_C - own_rest_C).exp()[:, None])
        return apart_C, slope_CV.scatter_(-1, ids_CK, own_CK.exp() - logs_CK.exp()) if wanted else None

    return of


def _nll_of(targets_P: torch.Tensor) -> Loss:
    def of(logs_CV: torch.Tensor, part: slice, wanted: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        at_C1 = targets_P[part, None]
        nll_C = -logs_CV.gather(-1, at_C1)[:, 0]
        if not wanted:
            return nll_C, None
        slope_CV = logs_CV.exp_()
        return nll_C, slope_CV.scatter_add_(-1, at_C1, slope_CV.new_full((len(at_C1), 1), -1.0))

    return of


def _both(nll: Loss, beside: Beside) -> Loss:
    def of(logs_CV: torch.Tensor, part: slice, wanted: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        rows_S = beside.at_P[part].nonzero()[:, 0]
        before = int(beside.at_P[: part.start].sum())
        lost_S, more_SV = beside.loss(logs_CV[rows_S], slice(before, before + len(rows_S)), wanted)
        lost_C, slope_CV = nll(logs_CV, part, wanted)
        lost_C.index_add_(0, rows_S, lost_S, alpha=beside.weight)
        if slope_CV is not None and more_SV is not None:
            slope_CV.index_add_(0, rows_S, more_SV, alpha=beside.weight)
        return lost_C, slope_CV

    return of


class _FrozenHead(torch.autograd.Function):
    """What each position loses, where nothing but the hidden states has a gradient."""

    @staticmethod
    def forward(ctx: Any, hidden_PD: torch.Tensor, loss: Loss, head: Head) -> torch.Tensor:
        wanted = ctx.needs_input_grad[0]
        lost_P = torch.empty(len(hidden_PD), dtype=torch.float32, device=hidden_PD.device)
        slope_PD = torch.empty_like(hidden_PD) if wanted else None
        with torch.autocast(hidden_PD.device.type, enabled=False):
            step = _chunk(len(head.weight_VD))
            for start in range(0, len(hidden_PD), step):
                part = slice(start, start + step)
                logits_CV, bent_CV = _scores(hidden_PD[part], head)
                lost_P[part], slope_CV = loss(logits_CV.log_softmax(-1), part, wanted)
                if slope_PD is None or slope_CV is None:
                    continue
                if bent_CV is not None:
                    slope_CV *= 1 - bent_CV.float() ** 2
                if head.factor != 1:
                    slope_CV *= head.factor
                slope_PD[part] = slope_CV.to(head.weight_VD.dtype) @ head.weight_VD
        ctx.slope_PD = slope_PD
        return lost_P

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (grad_P,) = grads
        return (ctx.slope_PD * grad_P[:, None]).to(ctx.slope_PD.dtype), None, None


def _scores(hidden_CD: torch.Tensor, head: Head) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scores [C, V] in float32, and what the cap made of them before they were multiplied by it."""
    logits_CV = functional.linear(hidden_CD.to(head.weight_VD.dtype), head.weight_VD, head.bias_V)
    logits_CV = logits_CV * head.factor if head.factor != 1 else logits_CV
    if not head.cap:
        return logits_CV.float(), None
    bent_CV = torch.tanh(logits_CV / head.cap)
    return (bent_CV * head.cap).float(), bent_CV


def _plain_nll(model: Any, hidden_PD: torch.Tensor, targets_P: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(next_token_logits(model, hidden_PD).float(), targets_P, reduction="none")


def _vocabulary(model: Any) -> int:
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return int(causal.config.get_text_config().vocab_size)


def _chunk(vocabulary: int) -> int:
    return max(1, CHUNK_BYTES // (4 * vocabulary))
