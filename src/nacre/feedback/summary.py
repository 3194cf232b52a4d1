"""What people make of each version, by arm: what they did and what they said, with intervals."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

from nacre.feedback.implicit import Arm, Signals, signals
from nacre.feedback.voices import IMPORTED_ARM
from nacre.registry.ledger import Ledger
from nacre.registry.usage import Said
from nacre.stats.intervals import quantile_interval, share_interval
from nacre.stats.rates import mean_bounds

CONFIDENCE = 0.95
_MANY = 5000  # values whose mean is as good as normal, whatever they are


@dataclass(frozen=True)
class Figure:
    """A share, a mean or a quantile of `count` observations with its interval; None where it has none.

    Attributes:
        unit: `share`, `stars`, `seconds` or `answers`.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int
    unit: str = "share"


@dataclass(frozen=True)
class Row:
    """One version in one arm.

    Attributes:
        answers: how many it gave.
        persons: who said something of them, as far as they are told apart.
        figures: by name: completed, aborted, failed, regenerated, rephrased, seconds, seconds_p95, first_token_s,
            sitting_answers, sitting_s, then stars, thumbs, corrected, preferred. The last four alone where the answers
            were imported: how they came about is not known.
    """

    version: int
    arm: str
    answers: int
    persons: int = 0
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """Every version and arm that answered since `since` (ISO 8601; empty: ever)."""

    since: str
    confidence: float
    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"rows": [asdict(row) for row in self.rows]}


def summary(ledger: Ledger, since: str = "") -> Summary:
    """Read what is kept of requests and opinions.

    Of one person, answer and kind of opinion the newest counts. Shares have Wilson's interval, quantiles one by order
    statistics, means bounds that hold at every look (the normal interval from 5,000 values on); all as if answers
    were independent, which those to one person are not quite.

    Args:
        ledger: what is kept.
        since: answers from then on, and opinions on these.
    """
    with ledger.usage.answers(since) as uses:
        used = signals(uses)
    said = _newest(ledger.usage.opinions(since))
    rows = [
        Row(version, arm, one.answers, len(persons), (_of_use(one) if arm != IMPORTED_ARM else {}) | opinions)
        for (version, arm), one in sorted(used.items())
        for persons, opinions in [_of_opinions((version, arm), said)]
    ]
    return Summary(since, CONFIDENCE, tuple(rows))


def _newest(said: Iterable[Said]) -> list[Said]:
    """Of each person (or key, where it names none), answer and kind the newest opinion."""
    found: dict[tuple[str, ...], Said] = {}
    for one in said:
        who = (one.person, "") if one.person else ("", one.source)
        found[one.interaction, one.kind, one.other, *who] = one
    return list(found.values())


def _of_use(one: Signals) -> dict[str, Figure]:
    whole = one.answers - one.aborted - one.failed
    shares = {"completed": (whole, one.answers), "aborted": (one.aborted, one.answers)}
    shares |= {"failed": (one.failed, one.answers)}
    shares |= {"regenerated": (one.regenerated, one.named), "rephrased": (one.rephrased, one.named)}
    quantiles: dict[str, tuple[Sequence[float], float, str]] = {
        "seconds": (one.seconds, 0.5, "seconds"),
        "seconds_p95": (one.seconds, 0.95, "seconds"),
        "first_token_s": (one.first_tokens_s, 0.5, "seconds"),
        "sitting_answers": (one.sittings, 0.5, "answers"),
        "sitting_s": (one.sittings_s, 0.5, "seconds"),
    }
    found = {name: _share(hits, trials) for name, (hits, trials) in shares.items()}
    return found | {name: _quantile(*given) for name, given in quantiles.items()}


def _of_opinions(of: Arm, said: Sequence[Said]) -> tuple[set[str], dict[str, Figure]]:
    """Who spoke of an arm's answers, and what they said."""
    mine = [one for one in said if (one.version, one.arm) == of]
    by_kind: dict[str, list[float]] = defaultdict(list)
    for one in mine:
        if one.value is not None and one.kind != "pair":
            by_kind[one.kind].append(one.value)
    spoken = {one.interaction for one in mine if one.kind != "pair"}
    corrected = {one.interaction for one in mine if one.kind == "correction"}
    thumbs = by_kind["thumb"]
    figures = {
        "stars": _stars(by_kind["stars"]),
        "thumbs": _share(int(sum(thumbs)), len(thumbs)),
        "corrected": _share(len(corrected), len(spoken)),
        "preferred": _mean(list(_choices(of, said)), "share"),
    }
    return {one.person or f"key {one.source}" for one in mine}, figures


def _choices(of: Arm, said: Sequence[Said]) -> Iterable[float]:
    """Of each comparison with another arm's answer: 1 won, 0.5 neither, 0 lost."""
    for one in said:
        if (
            one.kind == "pair"
            and one.value is not None
            and one.rival is not None
            and one.rival != (one.version, one.arm)
        ):
            if (one.version, one.arm) == of:
                yield one.value
            elif one.rival == of:
                yield 1 - one.value


def _stars(stars: Sequence[float]) -> Figure:
    mean = _mean([(star - 1) / 4 for star in stars], "stars")
    value, low, high = (None if one is None else 1 + 4 * one for one in (mean.value, mean.low, mean.high))
    return Figure(value, low, high, mean.count, "stars")


def _mean(values: Sequence[float], unit: str) -> Figure:
    """Of values from 0 to 1."""
    if not values:
        return Figure(None, None, None, 0, unit)
    if len(values) < _MANY:
        value = math.fsum(values) / len(values)
        return Figure(value, *mean_bounds(values, 1 - CONFIDENCE), len(values), unit)
    normal = NormalDist.from_samples(values)
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * normal.stdev / math.sqrt(len(values))
    return Figure(normal.mean, normal.mean - reach, normal.mean + reach, len(values), unit)


def _share(hits: int, trials: int) -> Figure:
    if not trials:
        return Figure(None, None, None, 0)
    return Figure(hits / trials, *share_interval(hits, trials, CONFIDENCE), trials)


def _quantile(values: Sequence[float], share: float, unit: str) -> Figure:
    if not values:
        return Figure(None, None, None, 0, unit)
    ordered = sorted(values)
    value = ordered[min(math.ceil(share * len(ordered)), len(ordered)) - 1]
    low, high = (bound if math.isfinite(bound) else None for bound in quantile_interval(ordered, share, CONFIDENCE))
    return Figure(value, low, high, len(ordered), unit)
