from typing import get_args

import pytest
from pydantic import ValidationError

from nacre.feedback.signals import SIGNALS, Answer, LeftOut
from nacre.records import ChatTurn, Feedback, FeedbackKind, Interaction

SHOWN = Interaction(
    id="i",
    time="2025-01-01T00:00:00.000+00:00",
    version=1,
    arm="champion",
    messages=(ChatTurn(role="user", content="q"),),
    answer="a",
    finish="stop",
)
GOOD = {
    "stars": {"value": 5},
    "thumb": {"value": 1},
    "score": {"value": 0.3},
    "comment": {"text": "so"},
    "correction": {"text": "b"},
    "pair": {"value": 1, "other": "j"},
}
BAD = [
    ("stars", {"value": 0}),
    ("stars", {"value": 6}),
    ("stars", {"value": 4.5}),
    ("stars", {}),
    ("thumb", {"value": 2}),
    ("score", {"value": 1.01}),
    ("score", {}),
    ("comment", {"text": " "}),
    ("comment", {"text": "so", "value": 1}),
    ("correction", {}),
    ("pair", {"value": 1}),
    ("pair", {"value": 2, "other": "j"}),
    ("pair", {"value": 1, "other": "i"}),
    ("stars", {"value": 5, "other": "j"}),
    ("vote", {"value": 1}),
]


def _said(kind: str, **fields: object) -> Feedback:
    return Feedback.model_validate({"time": "t", "interaction": "i", "kind": kind} | fields)


def test_every_kind_the_records_know_is_a_signal() -> None:
    assert set(SIGNALS.names()) == set(get_args(FeedbackKind)) == set(GOOD)


@pytest.mark.parametrize("kind", SIGNALS.names())
def test_every_signal_says_what_it_becomes(kind: str) -> None:
    found = SIGNALS.load(kind)().answer(SHOWN, _said(kind, **GOOD[kind]))
    assert isinstance(found, Answer | LeftOut)
    if isinstance(found, Answer):
        assert found.text
    else:
        assert found.reason


@pytest.mark.parametrize(("kind", "fields"), BAD)
def test_values_that_do_not_fit_their_kind_cannot_be_recorded(kind: str, fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        _said(kind, **fields)


def test_a_correction_counts_before_good_stars() -> None:
    stars = SIGNALS.load("stars")().answer(SHOWN, _said("stars", value=5))
    correction = SIGNALS.load("correction")().answer(SHOWN, _said("correction", text="b"))
    assert (stars.text, correction.text) == ("a", "b")
    assert correction.rank > stars.rank


@pytest.mark.parametrize(
    ("shown", "reason"),
    [({"finish": "length"}, "cut off"), ({"finish": "aborted"}, "cut off"), ({"answer": " "}, "empty")],
)
def test_stars_for_an_answer_that_is_not_whole_teach_nothing(shown: dict[str, str], reason: str) -> None:
    found = SIGNALS.load("stars")().answer(SHOWN.changed(**shown), _said("stars", value=5))
    assert isinstance(found, LeftOut)
    assert reason in found.reason


@pytest.mark.parametrize("time", ["t", "2025-01-01", "2025-01-01T00:00:00"])
def test_a_time_without_its_offset_is_no_time_of_an_answer(time: str) -> None:
    with pytest.raises(ValidationError):
        SHOWN.changed(time=time)


def test_times_are_kept_in_utc_so_that_they_compare_as_texts() -> None:
    assert SHOWN.changed(time="2025-01-01T02:00:00+02:00").time == SHOWN.time
    assert SHOWN.changed(time="2025-W01-3T00:00:00.000+00:00").time == "2025-01-01T00:00:00.000+00:00"
    assert SHOWN.changed(time="2025-01-01T00:00:00,000+00:00").time == "2025-01-01T00:00:00.000+00:00"
