"""Scores per example for one (weights, task): the gate needs pairs, not means."""

from collections.abc import Sequence
from typing import NamedTuple

from nacre.base.hashing import content_hash
from nacre.records.base import Record
from nacre.records.recipe import Decoding

ASKED = "asked"  # `aside` of a report whose metric somebody asked for beside the usual one


class Said(NamedTuple):
    """What was found out about one row with the model, beside the text of its answer: enough to score it again.

    Attributes:
        by: who answered, by content: equal values would give the same answer again (see `nacre.evaluate.rows`).
        nll: negative log-likelihood of the reference, in nats, over its `tokens` scored tokens; None of a reward model.
        cut: tokens of the row that did not fit before its loss was taken.
        new_tokens: tokens of the answer.
        prompt_cut: tokens of the prompt that did not fit.
        finished: whether the model ended the answer itself.
        pair: what the model thinks of the chosen and of the rejected answer, where the row is a pair.
        ranks: of two encoders the places of the right caption and of the right picture, from 1.
    """

    by: str
    nll: float | None
    tokens: int
    cut: int
    new_tokens: int = 0
    prompt_cut: int = 0
    finished: bool = True
    pair: tuple[float, float] | None = None
    ranks: tuple[int, int] | None = None


class Report(Record):
    """What one version answered on one task's dev rows, and how each answer scored.

    Attributes:
        weights: identity of the weights that answered (artifact hash; the base's hash for the base model).
        dev: SHA-256 of the dev rows file.
        rows: number of rows scored.
        metric: the metric the gate reads; `why` says why it was chosen.
        scores: metric name to one score per example, in the order of the dev rows.
        totals: metrics that are no mean of examples (corpus BLEU, Distinct-n, perplexity).
        answers: what the model said, per example.
        latency_s: seconds of single requests, in order measured.
        first_token_s: seconds to the first token of the same requests.
        token_s: seconds for each further token, of those requests that had more than one.
        notes: what was cut or decided on the way, counted, in sentences.
        said: per example what the scores were made from; empty in reports of older versions of nacre.
        at: places of the rows among the dev rows, where not all of them were scored.
        aside: empty for the report that stands for the version; else it stands beside that one, as some of the rows
            only or as a metric that was asked for.
        judged: digest of who judged the answers and how, where the metric is an opinion.
    """

    weights: str
    task: str
    dev: str
    rows: int
    metric: str
    why: str
    decoding: Decoding
    scores: dict[str, tuple[float, ...]]
    totals: dict[str, float]
    answers: tuple[str, ...]
    latency_s: tuple[float, ...] = ()
    first_token_s: tuple[float, ...] = ()
    token_s: tuple[float, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    said: tuple[Said, ...] = ()
    at: tuple[int, ...] = ()
    aside: str = ""
    judged: str = ""

    @property
    def mean(self) -> float:
        """Mean of the metric the gate reads."""
        scores = self.scores[self.metric]
        return sum(scores) / len(scores)

    @property
    def places(self) -> tuple[int, ...]:
        """The place of each scored row among the dev rows."""
        return self.at or tuple(range(self.rows))

    @property
    def said_at(self) -> dict[int, str]:
        """What was answered, by the row's place among the dev rows."""
        return dict(zip(self.places, self.answers, strict=True)) if self.answers else {}

    @property
    def key(self) -> str:
        """Cache key, see `report_key`."""
        return report_key(self.weights, self.dev, self.metric, self.decoding, aside=self.aside, judged=self.judged)


def report_key(weights: str, dev: str, metric: str, decoding: Decoding, *, aside: str = "", judged: str = "") -> str:
    """What makes two reports the same: weights, rows, metric, decoding, and who judged. Nothing is scored twice."""
    usual = [weights, dev, metric, decoding.model_dump(mode="json")]
    return content_hash([*usual, aside, judged] if aside or judged else usual)


def part(at: Sequence[int]) -> str:
    """The `aside` of a report about the rows at these places only."""
    return content_hash(list(at))


def paired_scores(old: Report, new: Report) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The scores of the rows that both reports have, in the order of the dev rows."""
    before = dict(zip(old.places, old.scores[old.metric], strict=True))
    after = dict(zip(new.places, new.scores[new.metric], strict=True))
    shared = sorted(before.keys() & after.keys())
    return tuple(before[place] for place in shared), tuple(after[place] for place in shared)
