"""The losses of preference learning, as plain functions of log-probabilities, in nats.

Shapes: P pairs, J judged answers. `logs` are sums over the tokens of an answer, its ending token included.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional

from nacre.records.recipe import Preference

_SURE = -1e-6  # nats; the odds of a certain answer are infinite


class Side(NamedTuple):
    """One answer of each pair.

    Attributes:
        logs: log-probability under the model that trains.
        tokens: how many tokens the answer has.
        start: log-probability under the version that training started from, the reference; 0 where none is asked.
    """

    logs: torch.Tensor
    tokens: torch.Tensor
    start: torch.Tensor

    @property
    def gained(self) -> torch.Tensor:
        """How much likelier the answer became: DPO's implicit reward by beta."""
        return self.logs - self.start

    @property
    def mean(self) -> torch.Tensor:
        """Log-probability per token."""
        return self.logs / self.tokens.clamp(min=1)


def sigmoid(how: Preference, chosen: Side, rejected: Side) -> torch.Tensor:
    """DPO: -log sigmoid(beta * margin) (Rafailov et al. 2023, arXiv 2305.18290, eq. 7). [P]"""
    return -functional.logsigmoid(how.beta * (chosen.gained - rejected.gained))


def hinge(how: Preference, chosen: Side, rejected: Side) -> torch.Tensor:
    """SLiC's hinge on the same margin: max(0, 1 - beta * margin) (Zhao et al. 2023, arXiv 2305.10425). [P]"""
    return functional.relu(1 - how.beta * (chosen.gained - rejected.gained))


def ipo(how: Preference, chosen: Side, rejected: Side) -> torch.Tensor:
    """IPO: (margin per token - 1 / (2 beta))^2 (Azar et al. 2023, arXiv 2310.12036, eq. 17). [P]

    Each side's gain is divided by its tokens, as in TRL, whose authors settled it with the paper's.
    """
    margin = chosen.gained / chosen.tokens.clamp(min=1) - rejected.gained / rejected.tokens.clamp(min=1)
    return (margin - 1 / (2 * how.beta)) ** 2


def orpo(how: Preference, chosen: Side, rejected: Side) -> torch.Tensor:
    """ORPO: loss of the chosen answer - beta * log sigmoid(log of the odds' ratio). [P]

    Hong et al. 2024 (arXiv 2403.07691), eq. 6 and 7; p is the geometric mean probability of the answer's tokens
    and its odds p / (1 - p). The loss of the chosen answer is per token, averaged over answers.
    """
    good, bad = chosen.mean.clamp(max=_SURE), rejected.mean.clamp(max=_SURE)
    ratio = (good - bad) - (torch.log(-torch.expm1(good)) - torch.log(-torch.expm1(bad)))
    return -chosen.mean - how.beta * functional.logsigmoid(ratio)


def simpo(how: Preference, chosen: Side, rejected: Side) -> torch.Tensor:
    """SimPO: -log sigmoid(beta * difference of log-probabilities per token - gamma). [P]

    Meng et al. 2024 (arXiv 2405.14734), eq. 6.
    """
    return -functional.logsigmoid(how.beta * (chosen.mean - rejected.mean) - how.gamma)


PAIR_LOSSES: dict[str, Callable[[Preference, Side, Side], torch.Tensor]] = {
    "sigmoid": sigmoid,
    "hinge": hinge,
    "ipo": ipo,
    "orpo": orpo,
    "simpo": simpo,
}
WITHOUT_START = ("orpo", "simpo")  # losses that ask no reference


def kto(how: Preference, answers: Side, good_J: torch.Tensor, drift: torch.Tensor) -> torch.Tensor:
    """KTO: weight * (1 - sigmoid(beta * (gain - drift))) of a good answer, with the sign turned for a bad one. [J]

    Ethayarajh et al. 2024 (arXiv 2402.01306), eq. 7 and 8. `drift` is the estimate of KL(model || start), not
    below 0 and without gradient, which the gain is measured from.
    """
    away = how.beta * (answers.gained - drift)
    value = torch.sigmoid(torch.where(good_J, away, -away))
    return torch.where(good_J, how.desirable_weight, how.undesirable_weight) * (1 - value)
