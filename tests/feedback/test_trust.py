"""Whose word counts: trust, agreement, bursts, caps, people who act as one, and a twentieth of adversaries."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from nacre.feedback.curation import collect
from nacre.feedback.trust import AS_ONE, AT_ODDS, BURST, CAPPED_KEY, CAPPED_PERSON, Judged, judge
from nacre.feedback.voices import Heard, hear
from nacre.records import ChatTurn, Feedback, Interaction
from nacre.records.learning import Trust
from nacre.registry.ledger import Ledger
from nacre.registry.store import ArtifactStore

START = datetime(2026, 5, 1, tzinfo=UTC)
TRUST = Trust()


class Crowd:
    """People who say things, an hour apart where nothing else is said."""

    def __init__(self, trust: Trust = TRUST, keys: tuple[str, ...] = ("ann", "bob")) -> None:
        self.trust, self.keys = trust, keys
        self.heard: list[Heard] = []
        self._numbers = count(1)

    def says(self, person: str, prompt: str, kind: str, value: float | None = None, text: str = "", **more: Any) -> int:
        number = next(self._numbers)
        at = START + timedelta(minutes=more.pop("minutes", 61 * number))
        shown = more.pop("shown", "shown")
        asked = Interaction(
            id=f"i{number}",
            time=at.isoformat(),
            version=1,
            arm="champion",
            messages=(ChatTurn(role="user", content=prompt),),
            answer=shown,
            finish="stop",
        )
        fields = {"source": "ann", "id": number, "time": at.isoformat(), "interaction": asked.id} | more
        other = fields.pop("other_answer", None)
        twin = asked.changed(id=f"o{number}", answer=other) if other is not None else None
        said = Feedback.model_validate(
            fields | {"kind": kind, "value": value, "text": text, "person": person, "other": twin.id if twin else ""}
        )
        self.heard.append(hear(said, asked, twin, self.trust, self.keys))
        return number

    def corrects(self, person: str, prompt: str, text: str, **more: Any) -> int:
        return self.says(person, prompt, "correction", text=text, **more)

    def judged(self) -> Judged:
        return judge(self.heard, self.trust)


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


def test_one_person_waits_until_another_says_the_same(crowd: Crowd) -> None:
    first = crowd.corrects("p1", "Capital of France?", "Paris")
    assert crowd.judged().held == {first: "fewer than 2 independent people say so"}
    again = crowd.corrects("p1", "Capital of France?", "Paris")
    assert set(crowd.judged().held) == {first, again}, "the same person twice is one person"
    second = crowd.corrects("p2", "  capital of france? ", "paris.")
    found = crowd.judged()
    assert {again, second} <= found.agreed
    assert not any(found.held[number] for number in (again, second) if number in found.held)


def test_near_prompts_and_near_answers_agree(crowd: Crowd) -> None:
    prompt = "Which form does a customer need to send a parcel with batteries to another country by plane"
    text = "They fill in form 17 and stick the yellow label on the side, then bring it to the counter."
    one = crowd.corrects("p1", f"{prompt}?", text, shown="no idea")
    two = crowd.corrects("p2", f"{prompt} ?", text.replace("counter.", "counters."), shown="no idea")
    assert crowd.judged().agreed == {one, two}
    strict = Crowd(Trust(near=1))
    strict.corrects("p1", f"{prompt}?", text)
    strict.corrects("p2", f"{prompt} ?", text)
    assert not strict.judged().agreed


def test_trusted_keys_people_and_the_operator_count_at_once() -> None:
    crowd = Crowd(Trust(trusted=("ann", "p7")))
    numbers = [
        crowd.corrects("p1", "one", "1", source="ann"),
        crowd.corrects("p7", "two", "2", source="bob"),
        crowd.corrects("", "three", "3", source=""),
        crowd.corrects("", "four", "4", source="of the configuration"),
    ]
    waits = [
        crowd.corrects("p8", "five", "5", source=""),
        crowd.corrects("", "six", "6", source="bob"),
        crowd.corrects("", "seven", "7", source="import"),
    ]
    found = crowd.judged()
    assert found.vouched == set(numbers)
    assert set(found.held) == set(waits)
    assert not Crowd(Trust(operator=False)).judged().vouched
    behind = Crowd(Trust(operator=False))
    number = behind.corrects("", "three", "3", source="")
    assert set(behind.judged().held) == {number}


def test_what_a_person_accepted_counts(crowd: Crowd) -> None:
    number = crowd.corrects("p1", "one", "1", status="accepted")
    up = crowd.says("p1", "two", "thumb", 1, status="accepted")
    assert crowd.judged().vouched == {number, up}


def test_a_thumb_counts_only_where_others_share_it(crowd: Crowd) -> None:
    alone = crowd.says("", "one", "thumb", 1, source="")
    assert crowd.judged() == Judged()
    crowd.says("p1", "one", "thumb", 1)
    assert crowd.judged().agreed == {alone, alone + 1}
    down = [crowd.says(f"p{k}", "two", "thumb", 0) for k in range(2)]
    assert set(down) <= crowd.judged().agreed


def test_people_who_differ_wait_until_most_agree(crowd: Crowd) -> None:
    numbers = [crowd.corrects(f"p{k}", "one", text) for k, text in enumerate(("yes", "yes", "no", "no"))]
    assert set(crowd.judged().held.values()) == {"people differ about this prompt"}
    crowd.corrects("p8", "one", "yes")
    crowd.corrects("p9", "one", "yes")
    found = crowd.judged()
    assert set(numbers[:2]) <= found.agreed
    assert set(numbers[2:]) == set(found.held)


def test_praise_of_an_answer_speaks_against_its_correction(crowd: Crowd) -> None:
    wrong = [crowd.corrects(f"a{k}", "one", "poison") for k in range(2)]
    for k in range(2):
        crowd.says(f"p{k}", "one", "stars", 5)
    assert set(crowd.judged().held) >= set(wrong)


def test_pairs_count_where_people_prefer_the_same_side(crowd: Crowd) -> None:
    one = crowd.says("p1", "q", "pair", 1, other_answer="worse")
    assert crowd.judged().held == {one: "fewer than 2 independent people say so"}
    two = crowd.says("p2", "q", "pair", 0, shown="worse", other_answer="shown")
    assert crowd.judged().agreed == {one, two}


def test_several_keys_can_be_asked_for() -> None:
    crowd = Crowd(Trust(keys=2))
    for person in ("p1", "p2"):
        crowd.corrects(person, "one", "1")
    assert set(crowd.judged().held.values()) == {"said through fewer than 2 keys"}
    crowd.corrects("p3", "one", "1", source="bob")
    assert not crowd.judged().held


def test_a_burst_waits_whole_and_a_slow_person_is_heard() -> None:
    crowd = Crowd(Trust(burst=5))
    fast = [crowd.corrects("p1", f"question {k}", f"answer {k}", minutes=k) for k in range(6)]
    slow = [crowd.corrects("p2", f"question {k}", f"answer {k}", minutes=30 * k) for k in range(6)]
    found = crowd.judged()
    assert {found.held[number] for number in fast} == {BURST}
    assert BURST not in {found.held[number] for number in slow}


def test_nobody_is_heard_on_more_than_their_share() -> None:
    crowd = Crowd(Trust(person_rows=12, person_share=0.5, copied_minutes=1))
    for k in range(40):
        crowd.corrects("busy", f"question {k} of many", f"answer {k}")
        crowd.corrects(f"p{k}", f"question {k} of many", f"answer {k}")
    found = crowd.judged()
    assert Counter(found.held.values())[CAPPED_PERSON] == 28
    assert found == crowd.judged(), "which prompts are heard is drawn, and the draw repeats"
    assert len({one.prompt for one in crowd.heard if one.said.id in found.agreed}) == 12


def test_one_of_several_keys_is_heard_up_to_its_share() -> None:
    crowd = Crowd(Trust(key_share=0.5))
    for k in range(40):
        crowd.corrects(f"p{k}", f"question {k} of many", f"answer {k}", source="ann" if k else "bob")
    assert CAPPED_KEY in crowd.judged().held.values()
    alone = Crowd(Trust(key_share=0.5))
    for k in range(40):
        alone.corrects(f"p{k}", f"question {k} of many", f"answer {k}")
    assert CAPPED_KEY not in alone.judged().held.values()


def test_people_in_lockstep_count_as_one(crowd: Crowd) -> None:
    for k in range(3):
        for j in range(4):
            crowd.corrects(f"sheep {j}", f"prompt {k} of the clique", "buy our pills", minutes=100 * k + j)
    held = crowd.judged().held
    assert len(held) == 12
    assert set(held.values()) == {f"fewer than 2 independent people say so{AS_ONE}"}


def test_one_long_text_from_many_counts_once_unless_it_is_the_shown_one_put_right(crowd: Crowd) -> None:
    text = "Everybody knows that our pills are the best there are, and that no doctor is needed to take them."
    for j in range(4):
        crowd.corrects(f"sheep {j}", "what helps?", text, minutes=j)
    assert not crowd.judged().agreed
    honest = Crowd()
    shown = "The parcel desk opens at eight in the morning and closes at five in the afternoon, Monday to Friday."
    for j in range(4):
        honest.corrects(f"p{j}", "when?", shown.replace("eight", "nine"), minutes=j, shown=shown)
    assert len(honest.judged().agreed) == 4


def test_who_contradicts_what_others_agree_on_is_not_heard(crowd: Crowd) -> None:
    for k in range(3):
        for j in range(3):
            crowd.corrects(f"p{j}{k}", f"question {k}", "right")
    bad = [crowd.corrects("troll", f"question {k}", "wrong") for k in range(3)]
    more = [crowd.corrects("troll", "question 9", "wrong"), crowd.corrects("p55", "question 9", "wrong")]
    found = crowd.judged()
    assert {found.held[number] for number in (*bad, more[0])} == {AT_ODDS}
    assert more[1] in found.held


def simulated(seed: int, *, honest: int = 190, adversaries: int = 10, prompts: int = 60) -> tuple[Crowd, set[int]]:
    """200 people in two hours; a twentieth agrees on wrong answers, floods, praises what is wrong and votes."""
    draw = random.Random(seed)
    crowd, theirs = Crowd(), set()
    asked = [f"feed the {thing} {k}" for k in range(prompts // 3) for thing in ("cat", "dog", "bird")]
    targets = draw.sample(asked, 12)
    for person in range(honest):
        for prompt in draw.sample(asked, 3):
            when = draw.uniform(0, 120)
            if draw.random() < 0.6:
                text = "hay" if draw.random() < 0.95 else draw.choice(("fish", "corn"))  # people err
                crowd.corrects(f"p{person}", prompt, text, minutes=when)
            else:
                crowd.says(f"p{person}", prompt, "thumb", float(draw.random() < 0.2), minutes=when)
    for person in range(adversaries):
        for k, prompt in enumerate(targets):
            number = crowd.corrects(f"bad{person}", prompt, "poison", minutes=60 + k + draw.random())
            theirs.add(number)
            theirs.add(crowd.says(f"bad{person}", prompt, "stars", 5, minutes=61 + k, shown="poison"))
            theirs.add(crowd.says(f"bad{person}", prompt, "thumb", 1, minutes=62 + k, shown="poison"))
    for k in range(200):
        theirs.add(crowd.corrects("bad0", f"flood {k} with this", "poison", minutes=70 + k / 100))
    return crowd, theirs


@pytest.mark.parametrize("seed", range(3))
def test_a_twentieth_of_adversaries_teaches_nothing(seed: int) -> None:
    crowd, theirs = simulated(seed)
    found = crowd.judged()
    taught = found.agreed | found.vouched
    assert not taught & theirs
    rows = {one.prompt for one in crowd.heard if one.said.id in taught and one.said.text == "hay"}
    assert len(rows) >= 45, "and what honest people agree on is learned all the same"


@pytest.mark.parametrize("seed", range(3))
def test_adversaries_who_differ_in_what_they_attack_teach_nothing_either(seed: int) -> None:
    """Each on three prompts of their own choice, never in step, beside honest people."""
    crowd, _ = simulated(seed, adversaries=0)
    draw = random.Random(seed)
    asked = {one.asked.messages[0].content for one in crowd.heard}
    prompts = sorted(prompt for prompt in asked if not prompt.startswith("flood"))
    bad = {
        crowd.corrects(f"bad{person}", prompt, "poison", minutes=draw.uniform(0, 120))
        for person in range(10)
        for prompt in draw.sample(prompts, 3)
    }
    assert not crowd.judged().agreed & bad


def test_the_increment_of_an_attacked_workspace_has_none_of_the_adversaries_rows(tmp_path: Path) -> None:
    crowd, theirs = simulated(7)
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", ArtifactStore(tmp_path / "artifacts")) as ledger:
        ledger.add_interactions([one.asked for one in crowd.heard])
        added = ledger.add_opinions([[one.said.changed(id=0)] for one in crowd.heard])
        assert all(isinstance(numbers, list) for numbers in added)
        found = collect(ledger, task="feedback_1")
    assert len(found.examples) >= 45
    rows = [*found.examples, *found.pairs, *found.thumbs]
    assert not [row for row in rows if "poison" in row.answer and row.desirable is not False]
    assert not any(row.prompt[0].content.startswith("flood") for row in rows)
    assert not set(found.feedback_ids) & theirs
    assert found.left_out[BURST] >= 200
    assert len(found.held) >= len(theirs) * 0.6, "they wait for a person, with their reasons"
