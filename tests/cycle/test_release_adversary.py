"""People who want a release to fail: what they say is not heard beyond their share."""

from datetime import timedelta

import numpy as np
import pytest
from traffic_kit import Clock, clock, make_space, space

from nacre.cycle.releases import rollout
from nacre.cycle.workspace import Workspace
from nacre.gate.release import Finding
from nacre.records import ChatTurn, Feedback, Interaction
from nacre.records.release import Release, Rollout
from nacre.registry.releases import Reason

__all__ = ["clock", "make_space", "space"]

HONEST, HOSTILE = 570, 30  # five in a hundred


def canary(space: Workspace, clock: Clock, **plan: object) -> Rollout:
    planned = Rollout(
        version=2,
        champion=1,
        salt="salt",
        plan=Release.model_validate({"shadow_requests": 0, "steps": [50, 100]} | plan),
        margins={"shadow": 0.02, "feedback": 0.02, "completion": 0.02},
        created=clock.now(),
        since=clock.now(),
    )
    started = space.ledger.releases.start(planned, Reason("test", "so"))
    clock.wait(seconds=10)
    return started


def answer(clock: Clock, started: Rollout, name: str, user: str, **more: object) -> Interaction:
    clock.wait(seconds=1)
    new = started.takes(user)
    given = {
        "id": name,
        "time": (clock.time + timedelta(seconds=1)).isoformat(timespec="milliseconds"),
        "version": 2 if new else 1,
        "arm": "challenger" if new else "champion",
        "session": user,
        "messages": (ChatTurn(role="user", content="q"),),
        "answer": "a",
        "finish": "stop",
        "latency_s": 1.0,
    }
    return Interaction.model_validate(given | more)


def opinion(name: str, person: str, value: float, **more: object) -> Feedback:
    given = {"time": "t", "interaction": name, "kind": "thumb", "value": value, "person": person, "source": "app"}
    return Feedback.model_validate(given | more)


def vote(space: Workspace, clock: Clock, started: Rollout, *, hostile: int, votes: int) -> Finding:
    """Both versions are equally good; the hostile down the new version and praise the champion, again and again."""
    random = np.random.default_rng(5)
    told: list[tuple[Interaction, Feedback]] = []
    for number in range(HONEST):
        user, name = f"honest {number}", f"h{number}"
        good = float(random.random() < 0.8)
        told.append((answer(clock, started, name, user), opinion(name, user, good)))
    for number in range(hostile):
        user = f"hostile {number}"
        for turn in range(votes):
            name = f"x{number} {turn}"
            told.append((answer(clock, started, name, user), opinion(name, user, float(not started.takes(user)))))
    order = random.permutation(len(told))
    space.ledger.add_interactions([told[place][0] for place in order])
    space.ledger.add_opinions([[told[place][1]] for place in order])
    clock.wait(minutes=5)
    seen = rollout.look(space)
    assert seen is not None
    return {one.metric: one for one in seen.sight.findings}["feedback"]


def test_a_twentieth_that_votes_without_end_moves_a_release_by_no_more_than_its_share(
    space: Workspace, clock: Clock
) -> None:
    started = canary(space, clock)
    found = vote(space, clock, started, hostile=HOSTILE, votes=25)
    share = HOSTILE / (HONEST + HOSTILE)
    assert found.arms.old + found.arms.new == HONEST + HOSTILE, "one voice each"
    assert found.outcome != "fail"
    seen = rollout.look(space)
    assert seen is not None
    assert seen.decision.action != "abort"
    assert "720 opinions do not count: they are beyond release.per_person" in seen.notes
    honest = [one.score for one in space.ledger.releases.observed.opinions(started) if one.interaction.startswith("h")]
    assert len(honest) == HONEST, "nobody else is silenced"
    assert abs(found.arms.after - 0.8) <= share + 0.06
    assert abs(found.arms.before - 0.8) <= share + 0.06


def test_without_the_cap_the_same_people_would_end_it(space: Workspace, clock: Clock) -> None:
    started = canary(space, clock, per_person=1000, per_key=None)
    found = vote(space, clock, started, hostile=HOSTILE, votes=25)
    assert found.outcome == "fail", "the attack is one: the cap is what stops it"


def test_the_newest_word_of_the_first_speaker_counts_and_rejected_ones_do_not(space: Workspace, clock: Clock) -> None:
    started = canary(space, clock, per_person=100)
    names = [answer(clock, started, name, f"user {name}") for name in "abcd"]
    space.ledger.add_interactions(names)
    say = space.ledger.add_feedback
    for one in (
        opinion("a", "ann", 0),
        opinion("a", "ann", 1),
        opinion("a", "bob", 0),
        opinion("b", "ann", 5, kind="stars"),
        opinion("b", "ann", None, kind="correction", text="no"),
        opinion("b", "ann", 3, kind="stars"),
        opinion("d", "", 1, source="key"),
        opinion("d", "", 0, source="key"),
    ):
        say(one)
    said = {one.interaction: one.score for one in space.ledger.releases.observed.opinions(started)}
    assert said == {"a": 1, "b": 0.5, "d": 0}
    wrong = say(opinion("c", "eve", 0))
    space.ledger.mark_feedback([wrong], "rejected", why="a flood")
    assert "c" not in {one.interaction for one in space.ledger.releases.observed.opinions(started)}


@pytest.mark.parametrize(("plan", "counted", "beyond"), [({}, 2, 3), ({"per_person": 3}, 4, 1)])
def test_a_persons_cap(space: Workspace, clock: Clock, plan: dict[str, int], counted: int, beyond: int) -> None:
    started = canary(space, clock, **plan)
    for place, user in enumerate(("ann", "ann", "ann", "ann", "bob")):
        space.ledger.add_interactions([answer(clock, started, f"a{place}", user)])
        space.ledger.add_feedback(opinion(f"a{place}", user, 1))
    found = space.ledger.releases.observed.opinions(started)
    assert (len(found), found.beyond_person, found.beyond_key) == (counted, beyond, 0)


def test_a_key_that_names_nobody_is_no_more_than_all_others_and_alone_it_is_heard(
    space: Workspace, clock: Clock
) -> None:
    started = canary(space, clock, per_key=2)

    def says(*sources: str) -> None:
        for source in sources:
            name = f"a{clock.time}"
            space.ledger.add_interactions([answer(clock, started, name, "")])
            person = source if source.startswith("person") else ""
            space.ledger.add_feedback(opinion(name, person, 1, source=source))

    says(*["flood"] * 5)
    found = space.ledger.releases.observed.opinions(started)
    assert (len(found), found.beyond_key) == (5, 0), "nobody else has spoken"
    says("person 1", *["flood"] * 9)
    found = space.ledger.releases.observed.opinions(started)
    assert (len(found), found.beyond_key) == (6, 9)
    says(*(f"person {number}" for number in range(2, 8)), *["flood"] * 9)
    found = space.ledger.releases.observed.opinions(started)
    assert (len(found), found.beyond_key) == (14, 16), "seven of its own beside seven of others"


def test_who_leaves_and_who_asks_again_is_watched(space: Workspace, clock: Clock) -> None:
    started = canary(space, clock)
    users = {new: next(f"u{n}" for n in range(99) if started.takes(f"u{n}") == new) for new in (True, False)}
    asked = [
        answer(clock, started, "a", users[True], prompt="p" * 64),
        answer(clock, started, "b", users[True], prompt="p" * 64),
        answer(clock, started, "c", users[True], prompt="q" * 64, finish="aborted"),
        answer(clock, started, "d", users[False], prompt="p" * 64),
        answer(clock, started, "e", users[False], finish="error"),
    ]
    space.ledger.add_interactions(asked)
    clock.wait(minutes=5)
    seen = rollout.look(space)
    assert seen is not None
    told = seen.as_dict()["sight"] if "sight" in seen.as_dict() else seen.sight.as_dict()
    third = pytest.approx(1 / 3)
    assert told["signals"] == {
        "aborted": {"old": 1, "new": 3, "before": 0.0, "after": third},
        "regenerated": {"old": 1, "new": 3, "before": 0.0, "after": third},
    }
