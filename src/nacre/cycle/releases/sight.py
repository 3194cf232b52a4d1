"""What observations say of a rollout at one moment.

A request counts by when it *began*, not by when its answer was whole, and only once every answer of its time must have
come in: at any look the slow ones are still under way, more of them in the arm that is slower or younger, and a test
of what is there already would compare fast answers with all.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import NamedTuple

from nacre.feedback.implicit import asked_again
from nacre.gate.release import (
    Arms,
    Finding,
    Sight,
    errors,
    full_share_errors,
    full_share_latency,
    full_share_quality,
    latency,
    quality,
)
from nacre.records.release import Rollout
from nacre.registry.observed import Answered, Opinion, Pair
from nacre.stats.rates import blocks, clipped_logs, split_evidence

_SETTLING_S = 5.0  # after a change of the shares: servers notice within a second, requests under way are old ones
_LONGEST_S = 600.0  # nobody waits longer than that for the slowest answer to come in
_FIRST = 30  # whole answers that say what is typical; latency is tested on those after them
_BROKEN = ("error", "aborted")


class Begun(NamedTuple):
    """An answer and the second in which its request began."""

    began: float
    answer: Answered


def sight(
    rollout: Rollout, pairs: Sequence[Pair], answers: Sequence[Answered], opinions: Sequence[Opinion], *, time: str
) -> Sight:
    """What observations say of a rollout at a time: every measure that was observed, and how far the stage is.

    Opinions count as the answers that they are about do.
    """
    counted = in_order(rollout, answers, time=time)
    known = {one.answer.id: one.began for one in counted}
    said = [(known[one.interaction], one) for one in opinions if one.interaction in known]
    since = _seconds(rollout.since)
    findings = [*_of_pairs(rollout, pairs), *_of_answers(rollout, counted), *_of_opinions(rollout, said)]
    mine = sum(one.answer.new and one.began >= since for one in counted)
    requests = len(pairs) if rollout.state == "shadow" else mine
    minutes, split = (_seconds(time) - since) / 60, split_evidence(newcomers(rollout, counted))
    return Sight(tuple(findings), requests, minutes, split, _signals(counted))


def in_order(rollout: Rollout, answers: Sequence[Answered], *, time: str) -> list[Begun]:
    """The answers that count at a time, in the order in which their requests began.

    Left out, of either arm alike: requests that began before the comparison or within five seconds of its beginning
    (the champion has such, the new version has none), and those that began later than the longest latency seen (at
    most ten minutes) before the look: others of their time may still be under way.
    """
    begun = sorted(Begun(_seconds(one.time) - one.latency_s, one) for one in answers)
    longest = min(max((one.latency_s for one in answers), default=0.0), _LONGEST_S)
    first, last = _seconds(rollout.compared_since) + _SETTLING_S, _seconds(time) - longest
    return [one for one in begun if first <= one.began <= last]


def newcomers(rollout: Rollout, counted: Sequence[Begun]) -> list[tuple[dict[str, int], dict[str, float]]]:
    """For each period the users first seen in it, by arm, and the shares that were set.

    Requests that began within five seconds of a change of shares do not count: servers were still learning of it.
    Of users who come back only the first answer counts, and a period in which all belong to one arm says nothing.
    """
    begins = [_seconds(period.since) for period in rollout.periods]
    counts = [{"challenger": 0, "champion": 0} for _ in begins]
    seen: set[str] = set()
    for began, one in counted:
        if one.unit in seen:
            continue
        seen.add(one.unit)
        place = sum(begin + _SETTLING_S <= began for begin in begins) - 1
        following = begins[place + 1] if place + 1 < len(begins) else math.inf
        if place >= 0 and began < following:
            counts[place]["challenger" if one.new else "champion"] += 1
    shares = [period.weight / 100 for period in rollout.periods]
    return [
        (count, {"challenger": share, "champion": 1 - share})
        for count, share in zip(counts, shares, strict=True)
        if share < 1
    ]


def _of_pairs(rollout: Rollout, pairs: Sequence[Pair]) -> list[Finding]:
    """What both versions made of the same requests."""
    if not pairs:
        return []
    confidence = rollout.confidence
    failed = [[float(pair.finishes[place] == "error") for pair in pairs] for place in (0, 1)]
    rises = [new - old for old, new in zip(*failed, strict=True)]
    found = [errors("shadow errors", rises, _arms(*failed), rollout.plan.max_errors, confidence)]
    scored = [pair.scores for pair in pairs if pair.scores is not None]
    if scored:
        old, new = [score[0] for score in scored], [score[1] for score in scored]
        drops = [one - other for one, other in scored]
        found.append(quality("shadow", drops, _arms(old, new), rollout.margins["shadow"], confidence))
    return found


def _of_answers(rollout: Rollout, counted: Sequence[Begun]) -> list[Finding]:
    """How the two arms' requests ended, and how long they took."""
    if not counted:
        return []
    failed = [float(one.answer.finish == "error") for one in counted]
    arms = [one.answer.new for one in counted]
    margin, confidence = rollout.plan.max_errors, rollout.confidence
    found = [
        errors("errors", blocks(arms, [1 - one for one in failed]), _arms(*_split(arms, failed)), margin, confidence)
    ]
    if rollout.weight == 100:
        old, new = _apart(rollout, counted, failed)
        found.append(full_share_errors((int(sum(old)), int(sum(new))), (len(old), len(new)), margin, confidence))
    whole = [one for one in counted if one.answer.finish != "error"]
    done = [float(one.answer.finish != "aborted") for one in whole]
    return [*found, *_quality(rollout, "completion", whole, done), *_of_seconds(rollout, whole)]


def _of_seconds(rollout: Rollout, whole: Sequence[Begun]) -> list[Finding]:
    """How long whole answers took, against what the first of them say is typical."""
    timed = [one for one in whole if one.answer.finish not in _BROKEN and one.answer.latency_s > 0]
    tested = timed[_FIRST:]
    if not tested:
        return []
    usual = median(one.answer.latency_s for one in timed[:_FIRST])
    seconds, arms = [one.answer.latency_s for one in tested], [one.answer.new for one in tested]
    speeds = [1 - one for one in clipped_logs(seconds, usual)]
    margin, confidence = rollout.plan.max_latency, rollout.confidence
    old, new = _split(arms, seconds)
    sizes = Arms(len(old), len(new), _typical(old), _typical(new))
    found = [latency(blocks(arms, speeds), sizes, margin, confidence)]
    if rollout.weight == 100:
        typical = [_typical(side) for side in _apart(rollout, tested, seconds)]
        sides = _apart(rollout, tested, speeds)
        found.append(full_share_latency(sides, (typical[0], typical[1]), margin, confidence))
    return found


def _of_opinions(rollout: Rollout, said: Sequence[tuple[float, Opinion]]) -> list[Finding]:
    if not said:
        return []
    answers = [Begun(began, Answered(one.interaction, "", one.new, "", "", 0.0)) for began, one in said]
    return _quality(rollout, "feedback", answers, [one.score for _, one in said])


def _signals(counted: Sequence[Begun]) -> dict[str, Arms]:
    """What users do when an answer is not what they wanted. Watched only: they do it for other reasons too."""
    whole = [one for one in counted if one.answer.finish != "error"]
    if not whole:
        return {}
    arms = [one.answer.new for one in whole]
    again = asked_again([(one.answer.unit, one.answer.prompt, one.began) for one in whole])
    shown = {"aborted": [one.answer.finish == "aborted" for one in whole], "regenerated": again}
    return {name: _arms(*_split(arms, [float(one) for one in seen])) for name, seen in shown.items()}


def _quality(rollout: Rollout, metric: str, observed: Sequence[Begun], values: Sequence[float]) -> list[Finding]:
    """A score of answers from 0 to 1: of both arms side by side, and at full share against the champion's before."""
    arms = [one.answer.new for one in observed]
    sizes, margin, confidence = _arms(*_split(arms, values)), rollout.margins[metric], rollout.confidence
    found = [quality(metric, blocks(arms, values), sizes, margin, confidence)]
    if rollout.weight == 100:
        found.append(full_share_quality(metric, _apart(rollout, observed, values), margin, confidence))
    return found


def _apart(rollout: Rollout, observed: Sequence[Begun], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """The champion's values, and the new version's of the present stage."""
    since = _seconds(rollout.since)
    both = list(zip(observed, values, strict=True))
    old = [value for one, value in both if not one.answer.new]
    return old, [value for one, value in both if one.answer.new and one.began >= since]


def _split(arms: Sequence[bool], values: Sequence[float]) -> tuple[list[float], list[float]]:
    sides: tuple[list[float], list[float]] = ([], [])
    for new, value in zip(arms, values, strict=True):
        sides[new].append(value)
    return sides


def _arms(old: Sequence[float], new: Sequence[float]) -> Arms:
    means = (math.fsum(side) / len(side) if side else 0.0 for side in (old, new))
    return Arms(len(old), len(new), *means)


def _typical(seconds: Sequence[float]) -> float:
    """The geometric mean; nought of none."""
    return math.exp(math.fsum(map(math.log, seconds)) / len(seconds)) if seconds else 0.0


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
