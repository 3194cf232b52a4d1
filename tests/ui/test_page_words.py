"""Words of the page: both languages have each, and states of releases have one."""

import string
from typing import get_args

from nacre.gate.release import Decision
from nacre.records.feedback import FeedbackKind
from nacre.records.release import State
from nacre.ui.words import WORDS, word


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_say_everything() -> None:
    for key, (english, chinese) in WORDS.items():
        assert english, key
        assert chinese, key
        assert fields(english) == fields(chinese), key


def test_every_state_and_decision_has_a_word() -> None:
    for state in get_args(State):
        assert word(f"is {state}", "zh") != state
    for action in get_args(Decision.__annotations__["action"]):
        assert word(f"says {action}", "zh") != action
    for kind in get_args(FeedbackKind):
        assert word("corrected" if kind == "correction" else kind, "zh")
