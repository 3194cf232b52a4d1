"""From logits to a token. Shapes: R rows, V vocabulary."""

import torch

_TIE = 1e-5  # of the largest logit: less than this apart, the order is the rounding's


def greedy(logits_RV: torch.Tensor) -> list[int | None]:
    """The likeliest token of each row, of nearly equal ones the first; None where a logit is not a number."""
    most_R = logits_RV.amax(-1)
    near_RV = logits_RV >= (most_R - _TIE * most_R.abs().clamp(min=1.0))[:, None]
    first_R = near_RV.to(torch.uint8).argmax(-1)
    return [
        None if number != number else token for number, token in zip(most_R.tolist(), first_R.tolist(), strict=True)
    ]


def sample(
    logits_V: torch.Tensor,
    temperature: float,
    top_p: float,
    generator: torch.Generator,
    *,
    top_k: int = 0,
    min_p: float = 0.0,
) -> int:
    """Draw one token id, on the CPU; what is added up is added up in double precision.

    Nucleus sampling (Holtzman et al. 2020, arXiv 1904.09751): the smallest set of likeliest tokens whose
    probability reaches `top_p`; of the `top_k` likeliest, where that is not 0; without those less likely than `min_p`
    times the likeliest (Nguyen et al. 2024, arXiv 2407.01082). Temperature 0 is greedy and draws nothing.

    One number is drawn whatever the vocabulary, and tokens stand in the order of their ids: a rounding error moves
    the borders between tokens by as much, not their order.

    Raises:
        ValueError: a logit is not a number, so the weights are broken.
    """
    if torch.isnan(logits_V).any():
        raise ValueError("the model's logits are not numbers")
    if temperature == 0:
        token = greedy(logits_V[None])[0]
        assert token is not None
        return token
    logits_V = logits_V.float().cpu()
    weights_V = ((logits_V - logits_V.max()) / temperature).exp_()  # the likeliest token's is 1
    if 0 < top_k < len(weights_V):
        weights_V[weights_V < weights_V.topk(top_k).values[-1]] = 0.0
    if min_p > 0:
        weights_V[weights_V < min_p] = 0.0
    if top_p < 1:
        weights_V[_outside(weights_V, top_p)] = 0.0
    reached_V = weights_V.cumsum(-1, dtype=torch.double)
    drawn = torch.rand((), generator=generator, dtype=torch.double) * reached_V[-1]
    token = int(torch.searchsorted(reached_V, drawn, right=True))
    if token < len(weights_V) and weights_V[token] > 0:
        return token
    return int(weights_V.argmax())  # the sum's own rounding, at the very end


def _outside(weights_V: torch.Tensor, top_p: float) -> torch.Tensor:
    """Ids that are not needed to reach `top_p` of all; the likeliest always is."""
    wanted = top_p * weights_V.sum(dtype=torch.double)
    count = min(1024, len(weights_V))
    while True:
        found = weights_V.topk(count)
        before_V = found.values.cumsum(-1, dtype=torch.double) - found.values
        if count == len(weights_V) or before_V[-1] >= wanted:
            break
        count = min(8 * count, len(weights_V))
    keep = found.indices[before_V < wanted]
    keep = found.indices[:1] if not len(keep) else keep
    outside_V = torch.ones_like(weights_V, dtype=torch.bool)
    outside_V[keep] = False
    return outside_V
