"""The rounds of a federation, server's side: send the adapter out, look at what comes back, bring it together."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    Strategy,
)

from nacre.base.errors import NacreError
from nacre.records.federated import Federating, Round
from nacre.train.federated.app import ARRAYS, CONFIG, LOSS, METRICS, ROUND, ROWS, arrays_of, record_of
from nacre.train.federated.grid import NacreGrid
from nacre.train.federated.masked import masked_mean
from nacre.train.federated.screen import Answer, screened, weights_of
from nacre.train.federated.tensors import Arrays, length

WEIGHT = "weight"  # in the metrics of an answer, as the server sees it
ABOVE_ONE = 1e-6
LOOK_S = 0.2


@dataclass
class Rounds:
    """A federation.

    Attributes:
        how: what was asked for.
        grid: by which the parties are reached.
        tell: is called with a sentence about each round.
        wait_s: how long to wait for enough parties before a round.
        timeout_s: how long to wait for their answers in a round.
        took_part: parties whose answers counted in some round.
    """

    how: Federating
    grid: NacreGrid
    tell: Callable[[str], None] = lambda _: None
    wait_s: float = 600.0
    timeout_s: float = 3600.0
    took_part: set[int] = field(default_factory=set)
    most: int = 0

    def run(self, arrays: Arrays) -> tuple[Arrays, list[Round]]:
        """All rounds, beginning with the adapter `arrays`.

        Raises:
            NacreError: there are too few parties, or no round counted.
        """
        told: list[Round] = []
        for number in range(1, self.how.rounds + 1):
            nodes = self._present(number)
            before = arrays
            found = self._masked(number, nodes, before) if self.how.secure else self._open(number, nodes, before)
            arrays, came = found
            self.most = max(self.most, came.counted)
            told.append(came)
            self.tell(sentence(number, came))
        if not any(one.moved for one in told):
            fix = "look at what the parties say, wait longer, or ask for fewer with --least"
            raise NacreError("no round counted: nothing was learned", where=sentence(len(told), told[-1]), fix=fix)
        return arrays, told

    @property
    def parties(self) -> int:
        """How many took part, as far as it is known."""
        return len(self.took_part) or self.most

    def _present(self, number: int) -> list[int]:
        """Who is there, once enough are."""
        end = time.monotonic() + self.wait_s
        while len(nodes := list(self.grid.get_node_ids())) < self.how.least:
            if time.monotonic() > end:
                fix = "start more with nacre federate join, or ask for fewer with --least"
                what = f"{len(nodes)} of {self.how.least} parties are there"
                raise NacreError(what, where=f"round {number}", fix=fix)
            time.sleep(LOOK_S)
        return nodes

    def _open(self, number: int, nodes: Sequence[int], arrays: Arrays) -> tuple[Arrays, Round]:
        """A round in which the server sees each answer."""
        strategy = strategy_of(self.how, len(nodes))
        messages = list(
            strategy.configure_train(number, record_of(arrays), ConfigRecord({ROUND: number}), _Only(self.grid, nodes))
        )
        replies = {
            one.metadata.src_node_id: one for one in self.grid.send_and_receive(messages, timeout=self.timeout_s)
        }
        answers, refused = _read(replies)
        kept, more = screened(answers, arrays)
        came = Round(
            asked=len(nodes),
            counted=len(kept),
            silent=len(nodes) - len(replies),
            refused=dict(sorted((refused + more).items())),
            loss=_mean([one.loss for one in kept if one.loss is not None]),
        )
        if len(kept) < self.how.least:
            return arrays, came
        settled(strategy, self.how, len(kept))
        weights = weights_of(kept, equal=self.how.noise is not None)
        usable = [_usable(replies[one.node], one, arrays, weight) for one, weight in zip(kept, weights, strict=True)]
        if self.how.noise is not None:
            np.random.seed()  # a training in this process, or a mask, has seeded what Flower draws the noise from
        record, _ = strategy.aggregate_train(number, usable)
        assert record is not None  # there are answers, and they fit each other
        mean = {name: np.asarray(record[name].numpy(), dtype=np.float32) for name in arrays}
        self.took_part |= {one.node for one in kept}
        return mean, came.changed(moved=length(mean, arrays))

    def _masked(self, number: int, nodes: Sequence[int], arrays: Arrays) -> tuple[Arrays, Round]:
        """A round in which the server sees the sum alone, so that it can refuse nobody."""
        mean, counted = masked_mean(self.how, self.grid, nodes, arrays, number, self.timeout_s)
        came = Round(asked=len(nodes), counted=counted, silent=len(nodes) - counted)
        if mean is None or counted < self.how.least:
            return arrays, came
        if not all(np.isfinite(one).all() for one in mean.values()):
            return arrays, came.changed(counted=0, refused={"not finite": counted})
        return mean, came.changed(moved=length(mean, arrays))


class _Only:
    """A grid on which just these parties are to be seen, so that nobody leaves while they are counted."""

    def __init__(self, grid: NacreGrid, nodes: Sequence[int]) -> None:
        self._nodes, self.run = list(nodes), grid.run

    def get_node_ids(self) -> list[int]:
        return self._nodes


def strategy_of(how: Federating, parties: int) -> Strategy:
    """Flower's strategy for what was asked for, with all parties in every round."""
    given: dict[str, Any] = {
        "fraction_evaluate": 0.0,
        "min_train_nodes": parties,
        "min_available_nodes": parties,
        "weighted_by_key": WEIGHT,
        "arrayrecord_key": ARRAYS,
        "configrecord_key": CONFIG,
    }
    if how.aggregation == "trimmed-mean":
        return FedTrimmedAvg(beta=how.trimmed, **given)
    if how.aggregation == "median":
        return FedMedian(**given)
    plain = FedAvg(**given)
    if how.noise is None or how.clip is None:
        return plain
    return DifferentialPrivacyServerSideFixedClipping(plain, how.noise, how.clip, parties)


def settled(strategy: Any, how: Federating, answers: int) -> None:
    """Tell a strategy how many answers there are.

    A trimmed mean of few answers would cut nothing off, because the share is rounded down: at least one on each side
    goes, from three on. Noise is meant for the mean of so many answers as there are, not of those that were asked for.
    """
    if isinstance(strategy, FedTrimmedAvg):
        least = (1 + ABOVE_ONE) / answers if answers >= 3 else 0.0
        strategy.beta = max(how.trimmed, least)
    if isinstance(strategy, DifferentialPrivacyServerSideFixedClipping):
        strategy.num_sampled_clients = answers


def _read(replies: dict[int, Message]) -> tuple[list[Answer], Counter[str]]:
    """What can be read of the answers, and how many cannot."""
    refused: Counter[str] = Counter()
    answers = []
    for node, reply in replies.items():
        if reply.has_error():
            refused["could not train"] += 1
            continue
        try:
            metrics = reply.content[METRICS]
            arrays = arrays_of(reply.content[ARRAYS])
            loss = float(metrics[LOSS]) if LOSS in metrics else None
            answers.append(Answer(node, arrays, int(metrics[ROWS]), loss))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            refused["unreadable"] += 1
    return answers, refused


def _usable(reply: Message, answer: Answer, like: Arrays, weight: float) -> Message:
    """The answer as the strategies take it: tensors in our order, one metric, which is ours."""
    arrays = record_of({name: answer.arrays[name] for name in like})
    reply.content = RecordDict({ARRAYS: arrays, METRICS: MetricRecord({WEIGHT: weight})})
    return reply


def _mean(numbers: Sequence[float]) -> float | None:
    finite = [one for one in numbers if np.isfinite(one)]
    return sum(finite) / len(finite) if finite else None


def sentence(number: int, came: Round) -> str:
    """A round for people."""
    parts = [f"round {number}: {came.counted} of {came.asked} answers counted"]
    parts += [f"{came.silent} did not come"] if came.silent else []
    parts += [f"{count} refused ({reason})" for reason, count in came.refused.items()]
    parts += [f"mean loss {came.loss:.4g}"] if came.loss is not None else []
    parts += [f"moved by {came.moved:.4g}" if came.moved else "too few: the adapter stays as it was"]
    return ", ".join(parts)
