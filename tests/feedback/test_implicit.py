"""What people's use of a server says, without a word of theirs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nacre.feedback.implicit import alike, asked_again, signals
from nacre.feedback.summary import summary
from nacre.records import ChatTurn, Feedback, Interaction
from nacre.registry.ledger import Ledger
from nacre.registry.store import ArtifactStore

START = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", ArtifactStore(tmp_path / "artifacts")) as ledger:
        yield ledger


def asked(place: int, question: str, minute: float, *, user: str = "ann", **more: object) -> Interaction:
    given = {
        "id": f"a{place}",
        "time": (START + timedelta(minutes=minute)).isoformat(),
        "version": 1,
        "arm": "champion",
        "session": user,
        "messages": (ChatTurn(role="user", content=question),),
        "answer": "so",
        "finish": "stop",
        "latency_s": 2.0,
        "first_token_s": 0.5,
        "prompt": question.ljust(64, "."),
    }
    return Interaction.model_validate(given | more)


def test_what_somebody_does_next_is_joined_to_the_answer(ledger: Ledger) -> None:
    first, same, words, other, late = (
        "How do I grow a pearl at home?",
        "How do I grow a pearl at home?",
        "How does one grow a pearl at home",
        "What is the weather?",
        "What is the weather?",
    )
    ledger.add_interactions(
        [
            asked(1, first, 0),
            asked(2, same, 1, finish="aborted"),
            asked(3, words, 2),
            asked(4, other, 3),
            asked(5, late, 20),  # the same again, but too late to be the same wish
            asked(6, late, 60),  # another sitting
            asked(7, late, 61, user="bob"),
            asked(8, late, 61, user=""),
            asked(9, late, 62, user=""),  # of nobody it is known whether it is the same person
            asked(10, late, 63, arm="shadow"),
            asked(11, late, 64, user="bob", version=2, finish="error", first_token_s=None),
        ]
    )
    with ledger.usage.answers() as uses:
        found = signals(uses)
    assert set(found) == {(1, "champion"), (2, "champion")}
    one = found[1, "champion"]
    assert (one.answers, one.aborted, one.failed, one.named) == (9, 1, 0, 7)
    assert (one.regenerated, one.rephrased) == (2, 1)  # bob's came back from the other version too
    assert one.sittings == [5, 1, 2]
    assert one.sittings_s == [pytest.approx(20 * 60 + 2), pytest.approx(3 * 60 + 2)]
    assert (len(one.seconds), len(one.first_tokens_s)) == (8, 9)
    two = found[2, "champion"]
    assert (two.answers, two.failed, two.named, two.seconds, two.first_tokens_s) == (1, 1, 0, [], [])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("How do I reset it?", "how do i RESET it", True),
        ("如何重置我的密码", "怎么重置我的密码", True),
        ("如何重置我的密码", "今天天气怎么样", False),
        ("reset", "", False),
        ("?", "?", False),
        ("How do I grow a pearl?", "Thank you, that helped", False),
    ],
)
def test_much_the_same_in_other_words(one: str, other: str, same: bool) -> None:
    assert (alike(one, other) >= 0.5) == same
    assert alike(one, other) == alike(other, one)


def test_asking_again_needs_a_person_a_prompt_and_little_time() -> None:
    told = [
        ("a", "p", 0.0),
        ("b", "p", 1.0),
        ("a", "p", 599.0),
        ("a", "p", 1300.0),
        ("", "p", 1301.0),
        ("", "p", 1302.0),
    ]
    assert asked_again([*told, ("a", "", 1.0), ("a", "", 2.0)]) == [True, *[False] * 7]


def say(ledger: Ledger, answer: str, kind: str, value: float | None = None, **more: object) -> None:
    given = {"time": START.isoformat(), "interaction": answer, "kind": kind, "value": value, "source": "k"}
    ledger.add_feedback(Feedback.model_validate(given | more))


def test_the_summary_counts_each_person_once_an_answer_and_kind(ledger: Ledger) -> None:
    ledger.add_interactions(
        [asked(place, "q", place, user=f"u{place}", version=1 + place % 2, prompt="p" * 64) for place in range(10)]
    )
    for stars in (1, 1, 5):
        say(ledger, "a0", "stars", stars, person="u0")
    say(ledger, "a0", "stars", 3, person="u2")
    for value in (0, 1):
        say(ledger, "a2", "thumb", value)  # of a key that names nobody: its newest counts
    say(ledger, "a4", "correction", text="no")
    say(ledger, "a4", "score", 0.9)
    say(ledger, "a0", "pair", 1, other="a1", person="u0")
    say(ledger, "a3", "pair", 0.5, other="a2", person="u3")
    say(ledger, "a2", "pair", 1, other="a4", person="u2")  # of one arm with itself
    ledger.mark_feedback([5], "rejected", why="a test")
    one, two = summary(ledger).rows
    assert ((one.version, one.answers), (two.version, two.answers)) == ((1, 5), (2, 5))
    assert one.persons == 3, "u0, u2, and the key that names nobody"
    stars, thumbs = one.figures["stars"], one.figures["thumbs"]
    assert (stars.value, stars.count, stars.unit) == (4, 2, "stars")
    assert stars.low is not None
    assert stars.high is not None
    assert 1 <= stars.low < 4 < stars.high <= 5
    assert (thumbs.value, thumbs.count) == (1, 1)
    assert (one.figures["corrected"].value, one.figures["corrected"].count) == (pytest.approx(1 / 3), 3)
    assert (one.figures["preferred"].value, one.figures["preferred"].count) == (0.75, 2)
    assert (two.figures["preferred"].value, two.figures["preferred"].count) == (0.25, 2)
    assert (two.figures["stars"].value, two.figures["stars"].count) == (None, 0)
    late = summary(ledger, (START + timedelta(minutes=5)).isoformat(timespec="milliseconds"))
    assert [row.answers for row in late.rows] == [2, 3]
    assert late.as_dict()["rows"][0]["figures"]["seconds"] == {
        "value": 2.0, "low": None, "high": None, "count": 2, "unit": "seconds"
    }  # fmt: skip
