"""What noise on a mean of clipped updates guarantees."""

import math


def epsilon(noise: float | None, rounds: int, delta: float) -> float | None:
    """How well a party as a whole is hidden, over all rounds that counted; None where there is no noise.

    The Gaussian mechanism with noise multiplier s is 1 / (2 s^2)-zCDP, rounds add up, and rho-zCDP is
    (rho + 2 sqrt(rho ln(1 / delta)), delta)-differentially private (Bun and Steinke 2016, arXiv 1605.02065,
    propositions 1.3 and 1.6). Neighbours differ by whether one party's clipped update is in the sum or nothing in its
    place; how many took part is taken to be known.
    """
    if noise is None:
        return None
    rho = rounds / (2 * noise**2)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))
