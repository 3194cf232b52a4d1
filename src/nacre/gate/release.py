"""What the numbers of a rollout allow: go on, wait, or stop. Numbers in, a decision with its reason out.

Every test may be looked at at any time (see `nacre.stats.rates`). A version that does no harm is stopped by any of
them, in its whole rollout, with a chance of at most 1 - confidence: that chance is shared out equally over `TESTS`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nacre.records.release import Rollout
from nacre.records.verdict import Outcome
from nacre.stats.rates import CLIP, Drop, log_drop, mean_bounds, rate_bounds, rise_of

FULL = " at full share"  # behind a measure's name: held against the champion's earlier answers
_BESIDE = ("feedback", "completion", "errors", "latency")
TESTS = ("shadow", "shadow errors", *_BESIDE, *(name + FULL for name in _BESIDE), "split")

_BETTING = "e-process by betting on the differences, valid at every look"
_SECONDS = f"e-process by betting on log seconds, clipped at {CLIP:g} times the typical, valid at every look"
_RATES = "beta-binomial confidence sequences of both rates, valid at every look"
_MEANS = "betting confidence sequences of both means, valid at every look"


@dataclass(frozen=True)
class Arms:
    """How many observations the champion and the new version have, and their means."""

    old: int
    new: int
    before: float
    after: float


@dataclass(frozen=True)
class Finding:
    """What is known of one measure.

    Attributes:
        arms: observations and means, in the measure's own unit.
        drop: what is lost from the champion to the new version; positive is a loss. Of errors the rise of their
            share, of latency the rise of the typical seconds as a share.
        interval: where the true drop is, at the rollout's confidence, whenever one looks.
        margin: the largest drop the user can bear.
        outcome: pass (shown to be within the margin), fail (stops the rollout), undecided.
    """

    metric: str
    arms: Arms
    drop: float
    interval: tuple[float, float]
    margin: float
    outcome: Outcome
    test: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON: bounds that are not known are None."""
        low, high = (round(bound, 6) if math.isfinite(bound) else None for bound in self.interval)
        return asdict(self) | {"drop": round(self.drop, 6), "interval": [low, high]}


@dataclass(frozen=True)
class Sight:
    """What was seen at one look.

    Attributes:
        requests: answers of the new version in the present stage; in the shadow, pairs.
        minutes: since the stage began.
        split: e-value against "users are sent to the arms as set".
        signals: shares that are watched and decide nothing: aborted (the user left), regenerated (asked again).
    """

    findings: tuple[Finding, ...]
    requests: int
    minutes: float
    split: float = 1.0
    signals: Mapping[str, Arms] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The evidence of a move, for its event."""
        return {
            "requests": self.requests,
            "minutes": round(self.minutes, 2),
            "split_e_value": min(self.split, 1e300),
            "findings": [finding.as_dict() for finding in self.findings],
            "signals": {name: asdict(arms) for name, arms in self.signals.items()},
        }


@dataclass(frozen=True)
class Decision:
    """Advance, wait or abort; why; and what a wait is for."""

    action: Literal["advance", "wait", "abort"]
    why: str
    missing: tuple[str, ...] = ()


def quality(metric: str, differences: Sequence[float], arms: Arms, margin: float, confidence: float) -> Finding:
    """A score where more is better. It fails where a drop is shown, and not shown to be within the margin."""
    seen, alpha = Drop(differences), 1 - confidence
    kept = seen.less_than(margin) >= 1 / alpha
    lost = seen.more_than(0.0) >= len(TESTS) / alpha
    return _finding(metric, seen, arms, margin, confidence, "pass" if kept else "fail" if lost else "undecided")


def errors(metric: str, differences: Sequence[float], arms: Arms, margin: float, confidence: float) -> Finding:
    """The share of requests that end in an error. It fails where the rise is shown to be beyond the margin."""
    seen, alpha = Drop(differences), 1 - confidence
    kept = seen.less_than(margin) >= 1 / alpha
    lost = seen.more_than(margin) >= len(TESTS) / alpha
    return _finding(metric, seen, arms, margin, confidence, "fail" if lost else "pass" if kept else "undecided")


def latency(differences: Sequence[float], arms: Arms, margin: float, confidence: float) -> Finding:
    """Clipped log seconds (`nacre.stats.rates.clipped_logs`). It fails where the rise is shown to be beyond the margin.

    Args:
        differences: in how fast the answers were, old - new: positive where the new version is slower.
        arms: with the typical seconds.
        margin: the largest rise as a share, e.g. 0.25 of the seconds.
        confidence: of the rollout.
    """
    seen, alpha, bar = Drop(differences), 1 - confidence, log_drop(margin)
    kept, lost = seen.less_than(bar) >= 1 / alpha, seen.more_than(bar) >= len(TESTS) / alpha
    interval = (rise_of(seen.lower(alpha / 2)), rise_of(seen.upper(alpha / 2)))
    outcome: Outcome = "fail" if lost else "pass" if kept else "undecided"
    return Finding("latency", arms, rise_of(seen.mean), interval, margin, outcome, _SECONDS)


def full_share_errors(hits: tuple[int, int], trials: tuple[int, int], margin: float, confidence: float) -> Finding:
    """Errors where no champion answers beside the new version any more: against the rate it had before.

    Args:
        hits: errors of the champion, and of the new version since it has all users.
        trials: their answers.
        margin: the largest rise.
        confidence: of the rollout.
    """
    half = (1 - confidence) / len(TESTS) / 2  # for either rate
    old, new = (rate_bounds(hits[place], trials[place], half) for place in (0, 1))
    before, after = (hits[place] / max(trials[place], 1) for place in (0, 1))
    arms = Arms(trials[0], trials[1], before, after)
    interval = (new[0] - old[1], new[1] - old[0])
    return Finding("errors" + FULL, arms, after - before, interval, margin, _beyond(interval, margin), _RATES)


def full_share_quality(
    metric: str, values: tuple[Sequence[float], Sequence[float]], margin: float, confidence: float
) -> Finding:
    """A score from 0 to 1, where no champion answers beside the new version any more: against the mean it had before.

    It fails only where a drop beyond the margin is shown: the two were not observed at the same time.
    """
    arms, interval = _apart(values, confidence)
    outcome = _beyond(interval, margin)
    return Finding(metric + FULL, arms, arms.before - arms.after, interval, margin, outcome, _MEANS)


def full_share_latency(
    speeds: tuple[Sequence[float], Sequence[float]], typical: tuple[float, float], margin: float, confidence: float
) -> Finding:
    """How fast answers are (1 - `clipped_logs`), against how fast the champion's were before.

    Args:
        speeds: the champion's, and the new version's since it has all users.
        typical: their typical seconds.
        margin: the largest rise of the seconds, as a share.
        confidence: of the rollout.
    """
    means, interval = _apart(speeds, confidence)
    outcome = _beyond(interval, log_drop(margin))
    arms = Arms(means.old, means.new, *typical)
    found = (rise_of(interval[0]), rise_of(interval[1]))
    return Finding("latency" + FULL, arms, rise_of(means.before - means.after), found, margin, outcome, _MEANS)


def _apart(values: tuple[Sequence[float], Sequence[float]], confidence: float) -> tuple[Arms, tuple[float, float]]:
    """Counts and means of both sides, and where the true drop between them is."""
    half = (1 - confidence) / len(TESTS) / 2  # for either mean
    old, new = (mean_bounds(side, half) for side in values)
    means = (math.fsum(side) / max(len(side), 1) for side in values)
    return Arms(len(values[0]), len(values[1]), *means), (old[0] - new[1], old[1] - new[0])


def _beyond(interval: tuple[float, float], margin: float) -> Outcome:
    return "fail" if interval[0] > margin else "pass" if interval[1] <= margin else "undecided"


def decide(rollout: Rollout, sight: Sight) -> Decision:
    """What to do with an active rollout: what stops it comes first, then what it still has to wait for."""
    stop = _stop(rollout, sight)
    if stop:
        return Decision("abort", stop)
    if rollout.held:
        return Decision("wait", f"held: {rollout.held}", ("somebody has to resume it",))
    missing = _missing(rollout, sight)
    if missing:
        return Decision("wait", missing[0], tuple(missing))
    where = "the shadow" if rollout.state == "shadow" else f"{rollout.weight:g} %"
    full = rollout.weight == 100  # what was shown beside the champion was shown before this stage
    passed = [finding.metric for finding in sight.findings if finding.outcome == "pass"]
    shown = [name for name in passed if not full or name.endswith(FULL)]
    proof = f"{', '.join(shown)} shown within the margin" if shown else "nothing shown to be within a margin"
    return Decision("advance", f"no harm shown in {sight.requests} requests at {where}; {proof}")


def _stop(rollout: Rollout, sight: Sight) -> str:
    """Why the rollout must end; empty when nothing says so."""
    if sight.split >= len(TESTS) / (1 - rollout.confidence):
        return (
            f"users do not reach the arms in the shares that were set (e-value {sight.split:.3g}): "
            "the comparison is not to be trusted"
        )
    harm = [finding for finding in sight.findings if finding.outcome == "fail"]
    told = [
        f"{one.metric} {'rose' if one.metric.startswith(('errors', 'latency', 'shadow errors')) else 'dropped'} "
        f"by {one.drop:.3f} ({one.arms.before:.3f} to {one.arms.after:.3f} in {one.arms.new} requests, "
        f"margin {one.margin:.3f})"
        for one in harm
    ]
    return "; ".join(told)


def _missing(rollout: Rollout, sight: Sight) -> list[str]:
    stage = rollout.stage
    missing = []
    requests, minutes = stage.requests or 0, stage.minutes or 0
    if sight.requests < requests:
        missing.append(f"{requests - sight.requests} more requests")
    if sight.minutes < minutes:
        missing.append(f"{minutes - sight.minutes:.1f} more minutes")
    outcomes = {finding.metric: finding.outcome for finding in sight.findings}
    for name in rollout.plan.prove:
        proved = outcomes.get(f"shadow {name}" if rollout.state == "shadow" and name == "errors" else name)
        measured_later = rollout.state == "shadow" and name not in ("shadow", "errors")
        if proved != "pass" and not measured_later:
            missing.append(f"{name} has to be shown within its margin")
    if stage.approve and not rollout.approved:
        missing.append("approval by a person")
    return missing


def _finding(metric: str, seen: Drop, arms: Arms, margin: float, confidence: float, outcome: Outcome) -> Finding:
    alpha = 1 - confidence
    interval = (seen.lower(alpha / 2), seen.upper(alpha / 2))
    return Finding(metric, arms, seen.mean, interval, margin, outcome, _BETTING)
