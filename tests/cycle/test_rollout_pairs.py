"""Pairs of the champion and the shadow: who scores them, and what counts."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from traffic_kit import BY, QUICK, Clock, Manner, Traffic, clock, make_space, space, with_release

from judge_kit import Fake
from nacre.base.errors import InputError
from nacre.cycle.releases import rollout
from nacre.cycle.scores.pair_scores import score_pairs
from nacre.cycle.workspace import Workspace
from nacre.records import Feedback
from workspace_kit import Place, assert_clear

__all__ = ["clock", "space"]


def test_a_judge_scores_pairs_once_and_its_opinions_are_not_learned(space: Workspace, clock: Clock) -> None:
    from nacre.feedback.curation import collect

    space = with_release(space, **QUICK)
    rollout.start(space, 2, **BY)
    traffic = Traffic(space, clock, new=Manner(errors=0.0, aborted=0.0))
    traffic.serve(30)
    traffic.finish()
    with space.ledger._database.write() as connection:
        connection.execute(sa.text("delete from feedback"))
    assert "30 of 30 shadow pairs are not scored: their quality is not judged" in rollout.look(space).notes
    with pytest.raises(InputError, match="a judge gave the score 5"):
        score_pairs(space, lambda old, new: (5.0, 1.0), "strict")
    assert score_pairs(space, lambda old, new: (0.95, 0.3), "strict") >= 29
    assert score_pairs(space, lambda old, new: (0.95, 0.3), "strict") == 0
    found = {one.metric: one for one in rollout.look(space).sight.findings}["shadow"]
    assert (round(found.arms.before, 6), round(found.arms.after, 6), found.outcome) == (0.95, 0.3, "fail")
    assert collect(space.ledger, task="t").examples == ()


def test_opinions_of_different_people_make_no_pair_and_only_the_first_one_counts(
    space: Workspace, clock: Clock
) -> None:
    space = with_release(space, **QUICK)
    begun = rollout.start(space, 2, **BY)
    traffic = Traffic(space, clock, new=Manner(errors=0.0, aborted=0.0))
    traffic.serve(1)
    traffic.finish()
    with space.ledger._database.write() as connection:
        connection.execute(sa.text("delete from feedback"))
    observed = space.ledger.releases.observed
    [pair] = observed.pairs(begun)

    def say(place: int, source: str, kind: str, value: float) -> None:
        said = Feedback(time=clock.now(), interaction=pair.ids[place], kind=kind, value=value, source=source)
        space.ledger.add_feedback(said)

    say(0, "ada", "thumb", 0)
    say(1, "bob", "thumb", 1)
    assert observed.pairs(begun)[0].scores is None
    say(1, "ada", "stars", 4)
    say(1, "ada", "stars", 1)
    assert observed.pairs(begun)[0].scores == (0.0, 0.75)


def test_the_set_judge_scores_the_pairs(tmp_path: Path, clock: Clock) -> None:
    with Fake(lambda *_: "Score: 2") as judge:
        settings = {"evaluate": {"judge": {"url": judge.url, "model": "wise"}}, "release": {"shadow_requests": 100}}
        with make_space(tmp_path / "cli", **settings) as space:
            place = Place(tmp_path / "cli")
            assert_clear(place.nacre("release", "score"), "no rollout is active")
            rollout.start(space, 2, **BY)
            traffic = Traffic(space, clock, new=Manner(errors=0.0, aborted=0.0))
            traffic.serve(20)
            traffic.finish()
            with space.ledger._database.write() as connection:
                connection.execute(sa.text("delete from feedback"))
            found = place.json("release", "score")
            assert (found["scored"], found["left"]) == (20, 0)
            assert place.json("release", "score")["scored"] == 0
            [shadow] = [one for one in rollout.look(space).sight.findings if one.metric == "shadow"]
            assert (shadow.arms.new, round(shadow.arms.before, 6)) == (20, 0.2)
    with make_space(tmp_path / "none"):
        assert_clear(Place(tmp_path / "none").nacre("release", "score"), "no judge is set", "evaluate.judge")
