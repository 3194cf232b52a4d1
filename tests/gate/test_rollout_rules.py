"""What the numbers of a rollout allow."""

import json
import math

import pytest

from nacre.gate.release import (
    TESTS,
    Arms,
    Finding,
    Sight,
    decide,
    errors,
    full_share_errors,
    full_share_latency,
    full_share_quality,
    latency,
    quality,
)
from nacre.records.release import Release, Rollout, moved
from nacre.stats.rates import clipped_logs, log_drop

TIME = "2026-05-01T00:00:00.000+00:00"
ARMS = Arms(100, 100, 0.9, 0.8)


def canary(**plan: object) -> Rollout:
    settings = {"shadow_requests": 0, "steps": (10, 50), "min_requests": 100} | plan
    begun = Rollout(version=2, champion=1, salt="s", plan=Release(**settings), created=TIME, since=TIME)
    return moved(begun, "start", time=TIME, why="")


def finding(outcome: str, metric: str = "feedback") -> Finding:
    return Finding(metric, ARMS, 0.1, (0.0, 0.2), 0.02, outcome, "by hand")


def test_a_drop_that_is_shown_fails_and_one_within_the_margin_does_not() -> None:
    assert quality("feedback", [0.5] * 60, ARMS, 0.02, 0.95).outcome == "fail"
    assert quality("feedback", [], ARMS, 0.02, 0.95).outcome == "undecided"
    assert quality("feedback", [0.0] * 3000, ARMS, 0.02, 0.95).outcome == "pass"
    small = [0.01] * 5000  # a loss is shown, and shown to be within the margin: what the user can bear
    assert quality("feedback", small, ARMS, 0.02, 0.95).outcome == "pass"
    assert quality("feedback", small, ARMS, 0.0, 0.95).outcome == "fail"


def test_errors_and_latency_fail_only_beyond_their_margin() -> None:
    rise = [1.0] * 5 + [0.0] * 95
    assert errors("errors", rise * 10, ARMS, 0.2, 0.95).outcome == "pass"
    assert errors("errors", rise * 10, ARMS, 0.01, 0.95).outcome == "fail"
    slower = [log_drop(0.2) + shift for shift in (-0.02, 0.02)] * 400
    assert latency(slower, ARMS, 0.5, 0.95).outcome == "pass"
    assert latency(slower, ARMS, 0.1, 0.95).outcome == "fail"
    assert math.isclose(latency(slower, ARMS, 0.1, 0.95).drop, 0.2)
    few = latency(slower[:10], ARMS, 0.1, 0.95)
    assert few.outcome == "undecided"
    assert json.dumps(few.as_dict(), allow_nan=False)


def test_at_full_share_errors_are_held_against_the_champions_earlier_rate() -> None:
    assert full_share_errors((5, 60), (500, 200), 0.01, 0.95).outcome == "fail"
    assert full_share_errors((5, 2), (500, 200), 0.01, 0.95).outcome == "undecided"
    assert full_share_errors((100, 2), (500, 200), 0.01, 0.95).outcome == "pass"
    assert full_share_errors((0, 0), (0, 0), 0.01, 0.95).outcome == "undecided"


def test_at_full_share_quality_and_latency_are_held_against_the_champions_too() -> None:
    good, bad = [1.0, 0.75] * 400, [0.5, 0.25] * 100
    assert full_share_quality("feedback", (good, bad), 0.02, 0.95).outcome == "fail"
    assert full_share_quality("feedback", (good, good), 0.02, 0.95).outcome == "undecided"
    assert full_share_quality("feedback", ([], bad), 0.02, 0.95).outcome == "undecided"
    assert full_share_quality("feedback", (good * 20, good * 20), 0.05, 0.95).outcome == "pass"
    fast, slow = ([1 - one for one in clipped_logs([seconds] * 300, 1.0)] for seconds in (1.0, 3.0))
    found = full_share_latency((fast, slow), (1.0, 3.0), 0.25, 0.95)
    assert (found.metric, found.outcome) == ("latency at full share", "fail")
    assert math.isclose(found.drop, 2.0)
    assert full_share_latency((fast, fast), (1.0, 1.0), 0.25, 0.95).outcome != "fail"


def test_at_full_share_nothing_of_an_earlier_stage_is_called_proof() -> None:
    state = canary(steps=(10, 100))
    state = moved(state, "advance", time=TIME, why="")
    sight = Sight((finding("pass", "errors"), finding("undecided", "errors at full share")), 100, 0)
    assert decide(state, sight).why.endswith("nothing shown to be within a margin")
    sight = Sight((finding("pass", "errors"), finding("pass", "errors at full share")), 100, 0)
    assert decide(state, sight).why.endswith("; errors at full share shown within the margin")


@pytest.mark.parametrize(
    ("sight", "action", "part"),
    [
        (Sight((), 100, 0), "advance", "no harm shown in 100 requests at 10 %; nothing shown to be within a margin"),
        (Sight((finding("pass"),), 100, 0), "advance", "feedback shown within the margin"),
        (Sight((finding("undecided"),), 100, 0), "advance", "no harm shown"),
        (Sight((finding("pass"),), 63, 0), "wait", "37 more requests"),
        (Sight((finding("fail"), finding("pass")), 0, 0), "abort", "feedback dropped by 0.100 (0.900 to 0.800 in 100"),
        (Sight((finding("fail", "latency"),), 0, 0), "abort", "latency rose by 0.100"),
        (Sight((), 100, 0, split=len(TESTS) / 0.05), "abort", "users do not reach the arms"),
        (Sight((), 100, 0, split=len(TESTS) / 0.05 - 1), "advance", ""),
    ],
)
def test_what_stops_comes_first_then_what_is_missing(sight: Sight, action: str, part: str) -> None:
    decision = decide(canary(), sight)
    assert decision.action == action
    assert part in decision.why


def test_everything_that_is_missing_is_named() -> None:
    state = canary(min_minutes=30, manual=True, prove=("feedback",))
    decision = decide(state, Sight((finding("undecided"),), 40, 12.5))
    assert decision.missing == (
        "60 more requests",
        "17.5 more minutes",
        "feedback has to be shown within its margin",
        "approval by a person",
    )
    approved = moved(state, "approve", time=TIME, why="")
    assert decide(approved, Sight((finding("pass"),), 100, 30)).action == "advance"


def test_a_held_rollout_is_stopped_but_does_not_advance() -> None:
    held = moved(canary(), "hold", time=TIME, why="the weekend")
    assert decide(held, Sight((), 1000, 1000)).why == "held: the weekend"
    assert decide(held, Sight((finding("fail"),), 1000, 1000)).action == "abort"


def test_users_keep_their_arm_while_the_share_grows() -> None:
    users = [f"user {number}" for number in range(20_000)]
    tenth = canary()
    half = moved(tenth, "advance", time=TIME, why="")
    first, second = ({user for user in users if state.takes(user)} for state in (tenth, half))
    assert first < second
    for found, share in ((first, 0.1), (second, 0.5)):
        assert abs(len(found) / len(users) - share) < 4 * math.sqrt(share * (1 - share) / len(users))
    other = tenth.changed(salt="another")
    assert {user for user in users if other.takes(user)} != first
    assert not any(moved(half, "abort", time=TIME, why="").takes(user) for user in users)
