"""How a version was trained by several parties, none of which showed its rows, and what came of each round."""

from typing import Literal

from pydantic import Field

from nacre.records.base import Record

Aggregation = Literal["mean", "trimmed-mean", "median"]


class Federating(Record):
    """What was asked for.

    Attributes:
        rounds: how often every party trains and the results are brought together.
        epochs: passes over its own rows that a party makes in each round.
        least: answers without which a round does not count.
        aggregation: how the parties' adapters become one.
        trimmed: trimmed-mean: share of the answers that is cut off on each side, number by number.
        secure: the server learns the sum of the answers alone (SecAgg+).
        clip: longest update of one party, as a norm; longer ones are shortened. None: none is.
        noise: standard deviation of the noise on the mean, times parties, divided by `clip`. None: there is none.
        simulated: parties that were played by this machine, each with a share of the increment's rows; 0: real ones.
        skew: of the simulated shares: the parameter of a Dirichlet distribution; None: balanced.
    """

    rounds: int = Field(5, ge=1)
    epochs: float = Field(1.0, gt=0, allow_inf_nan=False)
    least: int = Field(2, ge=2)
    aggregation: Aggregation = "trimmed-mean"
    trimmed: float = Field(0.2, gt=0, lt=0.5)
    secure: bool = False
    clip: float | None = Field(None, gt=0, allow_inf_nan=False)
    noise: float | None = Field(None, gt=0, allow_inf_nan=False)
    simulated: int = 0
    skew: float | None = Field(None, gt=0, allow_inf_nan=False)


class Round(Record):
    """What one round came to.

    Attributes:
        asked: parties that were there and were sent the adapter.
        counted: answers that went into the new one.
        silent: parties that did not answer.
        refused: answers that were not used, by reason.
        moved: norm of what the round changed; 0 where it did not count.
        loss: mean of what the parties say their rows' loss was; None where the server is not told.
    """

    asked: int
    counted: int
    silent: int = 0
    refused: dict[str, int] = Field(default_factory=dict)
    moved: float = 0.0
    loss: float | None = None


class Federated(Record):
    """What came of it.

    Attributes:
        parties: how many took part in at least one round that counted; in secure aggregation, most in one round.
        rounds: each of them, lost ones included.
        epsilon: of differential privacy for a party as a whole at `delta`, where there was noise.
    """

    how: Federating
    parties: int
    rounds: tuple[Round, ...]
    epsilon: float | None = None
    delta: float = 1e-5
