"""From logits to a token. Shapes: V is the vocabulary."""

import torch


def sample(logits_V: torch.Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """Draw one token id.

    Nucleus sampling (Holtzman et al. 2020, arXiv 1904.09751): the smallest set of likeliest tokens whose
    probability reaches `top_p`. Temperature 0 is greedy and draws nothing.

    Raises:
        ValueError: a logit is not a number, so the weights are broken.
    """
    if torch.isnan(logits_V).any():
        raise ValueError("the model's logits are not numbers")
    if temperature == 0:
        return int(logits_V.argmax())
    probabilities_V = torch.softmax(logits_V.float() / temperature, dim=-1)
    if top_p < 1:
        sorted_V, order_V = probabilities_V.sort(descending=True, stable=True)
        before_V = sorted_V.cumsum(-1) - sorted_V
        outside_V = before_V >= top_p
        outside_V[0] = False  # top_p 0 still leaves the likeliest token
        probabilities_V[order_V[outside_V]] = 0.0
    return int(torch.multinomial(probabilities_V, 1, generator=generator))
