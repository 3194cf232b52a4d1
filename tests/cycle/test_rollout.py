"""Releases under simulated traffic, through the real ledger: what is good arrives, what is not is stopped."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from traffic_kit import Clock, Manner, Traffic, clock, make_space, space, with_release

from judge_kit import Fake
from nacre.base.errors import ConflictError, InputError
from nacre.cycle.releases import release, rollout
from nacre.cycle.scores.pair_scores import score_pairs
from nacre.cycle.workspace import Workspace
from nacre.gate.release import decide
from nacre.records import ChatTurn, Feedback, Interaction
from nacre.records.release import Release, Rollout, moved
from nacre.registry.observed import Answered, Opinion
from postgres_kit import postgres  # noqa: F401  # a fixture is used by its name
from workspace_kit import Place, assert_clear

__all__ = ["clock", "space"]

QUICK = {"shadow_requests": 100, "min_requests": 50, "steps": [10, 50, 100]}
STAGES = 4  # the shadow and three steps
BY = {"actor": "test", "why": "so"}


def run(space: Workspace, traffic: Traffic, *, most: int, every: int = 100) -> tuple[Rollout, int]:
    """Serve and look until the rollout has ended, or `most` requests; returns it and the requests it took."""
    started = traffic.asked
    identity = space.ledger.releases.active().id
    while space.ledger.releases.active() is not None and traffic.asked - started < most:
        traffic.serve(every)
        rollout.tick(space)
    return space.ledger.releases.get(identity), traffic.asked - started


def standing(space: Workspace) -> dict[str, int]:
    return {name: slot.version for name, slot in space.ledger.slots().items()}


@pytest.mark.parametrize("new", [Manner(), Manner(good=0.97, seconds=0.6)], ids=["equal", "better"])
def test_a_version_that_does_no_harm_becomes_champion(space: Workspace, clock: Clock, new: Manner) -> None:
    space = with_release(space, **QUICK)
    begun = rollout.start(space, 2, **BY)
    found, took = run(space, Traffic(space, clock, new=new), most=3000)
    assert found.state == "champion"
    assert took < 2000
    assert standing(space) == {"champion": 2, "previous-1": 1}
    told = [event.detail["release"] for event in rollout.history(space, begun.id)]
    assert [(one["state"], one["weight"]) for one in told] == [
        ("shadow", 0),
        ("canary", 10),
        ("canary", 50),
        ("canary", 100),
        ("champion", 0),
    ]
    assert told[-1]["evidence"]["requests"] >= 50
    measures = {one["metric"]: one["outcome"] for one in told[-1]["evidence"]["findings"]}
    assert set(measures) >= {"shadow", "errors", "errors at full share", "completion", "latency", "feedback"}
    assert "fail" not in measures.values()
    space.ledger.verify_chain()


@pytest.mark.parametrize(
    ("new", "shadow", "measure", "within"),
    [
        (Manner(good=0.6), 100, "shadow", 300),  # 30 points worse: found on pairs, before a user has seen it
        (Manner(good=0.6), 0, "feedback", 1500),
        (Manner(errors=0.2), 0, "errors", 1500),
        (Manner(errors=1.0), 0, "errors", 300),
        (Manner(aborted=0.4), 0, "completion", 1500),
        (Manner(seconds=2.0), 0, "latency", 1500),
    ],
)
def test_a_worse_version_is_stopped_within_a_number_of_requests(
    space: Workspace, clock: Clock, new: Manner, shadow: int, measure: str, within: int
) -> None:
    space = with_release(space, **QUICK | {"shadow_requests": shadow, "min_requests": 400})
    rollout.start(space, 2, **BY)
    found, took = run(space, Traffic(space, clock, new=new), most=within)
    assert (found.state, took <= within) == ("aborted", True)
    assert found.why.startswith(measure), found.why
    assert standing(space) == {"champion": 1}
    event = rollout.history(space, found.id)[-1]
    assert event.kind == "release aborted"
    failed = [one["metric"] for one in event.detail["release"]["evidence"]["findings"] if one["outcome"] == "fail"]
    assert measure in failed


def test_errors_that_begin_at_full_share_are_found_without_a_champion_beside(space: Workspace, clock: Clock) -> None:
    space = with_release(space, **QUICK | {"shadow_requests": 0, "min_requests": 300})
    rollout.start(space, 2, **BY)
    traffic = Traffic(space, clock, new=Manner())
    while space.ledger.releases.active().weight < 100:
        traffic.serve(200)
        rollout.tick(space)
    traffic.new = Manner(errors=0.3)
    found, _ = run(space, traffic, most=300)
    assert found.state == "aborted"
    assert found.why.startswith("errors at full share")


@pytest.mark.parametrize(
    ("broken", "measure"),
    [
        (Manner(seconds=8.0), "latency at full share"),
        (Manner(good=0.2), "feedback at full share"),
        (Manner(aborted=0.8), "completion at full share"),
    ],
)
def test_whatever_begins_at_full_share_is_found(space: Workspace, clock: Clock, broken: Manner, measure: str) -> None:
    space = with_release(space, **QUICK | {"shadow_requests": 0, "min_requests": 400})
    rollout.start(space, 2, **BY)
    traffic = Traffic(space, clock, new=Manner())
    while space.ledger.releases.active().weight < 100:
        traffic.serve(200)
        rollout.tick(space)
    traffic.new = broken
    found, _ = run(space, traffic, most=450, every=50)
    assert found.state == "aborted"
    assert found.why.startswith(measure), found.why


def test_a_first_step_of_all_users_is_held_against_the_champion_of_the_shadow(space: Workspace, clock: Clock) -> None:
    space = with_release(space, shadow_requests=300, steps=[100], min_requests=400)
    rollout.start(space, 2, **BY)
    traffic = Traffic(space, clock, new=Manner())
    while space.ledger.releases.active().state == "shadow":
        traffic.serve(100)
        rollout.tick(space)
    traffic.new = Manner(errors=0.5)
    assert run(space, traffic, most=400, every=50)[0].why.startswith("errors at full share")


SLOW = Manner(aborted=0.15, seconds=20.0, broken_off_after=3.0)


@pytest.mark.parametrize(
    ("new", "rate", "step"),
    [(SLOW, 10, 50), (Manner(seconds=1.2, aborted=0.0), 40, 50), (Manner(seconds=24.0, aborted=0.0), 20, 50)],
    ids=["fast ones are there first", "a fifth slower", "a fifth slower, long answers"],
)
def test_answers_under_way_do_not_stop_a_version_that_does_no_harm(
    space: Workspace, clock: Clock, new: Manner, rate: float, step: float
) -> None:
    """Looked at often in the first minutes, when most answers of a new arm that are whole are those that end early."""
    old = new if new is SLOW else Manner(seconds=new.seconds / 1.2, aborted=0.0)
    stopped = 0
    for seed in range(2):
        made = with_release(space, shadow_requests=0, steps=[step, 100], min_requests=10**6)
        traffic = Traffic(made, clock, new=new, rate=rate, seed=seed)
        traffic.old = old
        traffic.serve(int(60 * rate))
        rollout.start(made, 2, **BY)
        for _ in range(10):
            traffic.serve(int(10 * rate))
            rollout.tick(made)
        stopped += made.ledger.releases.active() is None
        if made.ledger.releases.active():
            rollout.abort(made, **BY)
    assert stopped == 0


def test_a_version_half_as_slow_again_is_never_shown_to_be_within_the_margin(space: Workspace, clock: Clock) -> None:
    space = with_release(space, shadow_requests=0, steps=[50, 100], min_requests=10**6, prove=["latency"])
    traffic = Traffic(space, clock, new=Manner(seconds=22.5, aborted=0.0), rate=10)
    traffic.old = Manner(seconds=15.0, aborted=0.0)
    traffic.serve(1000)
    rollout.start(space, 2, **BY)
    seen = []
    for _ in range(20):
        traffic.serve(100)
        seen += [one.outcome for one in rollout.look(space).sight.findings if one.metric == "latency"]
    assert "pass" not in seen
    assert seen[-1] == "fail"


def test_stopping_asks_for_no_look(space: Workspace, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the statistics are broken")

    monkeypatch.setattr(rollout, "look", broken)
    rollout.start(space, 2, **BY)
    assert rollout.hold(space, **BY).held == "so"
    assert rollout.abort(space, **BY).state == "aborted"
    rollout.start(space, 3, **BY)
    assert rollout.rollback(space, **BY).state == "aborted"


def test_a_rollback_takes_back_what_a_tick_promoted_meanwhile(
    space: Workspace, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout.start(space, 2, **BY)
    real = rollout.abort

    def late(*words: object, **named: object) -> Rollout:
        monkeypatch.setattr(rollout, "abort", real)
        space.ledger.releases.move("promote", rollout.Reason("tick", "no harm shown"))
        return real(*words, **named)

    monkeypatch.setattr(rollout, "abort", late)
    assert rollout.rollback(space, **BY).state == "rolled back"
    assert standing(space) == {"champion": 1}


def test_users_who_do_not_reach_their_arm_stop_the_experiment(space: Workspace, clock: Clock) -> None:
    space = with_release(space, **QUICK | {"shadow_requests": 0, "min_requests": 800})
    rollout.start(space, 2, **BY)
    found, _ = run(space, Traffic(space, clock, new=Manner(), misrouted=0.4), most=4000)
    assert found.state == "aborted"
    assert "users do not reach the arms in the shares that were set" in found.why
    assert rollout.history(space, found.id)[-1].detail["release"]["evidence"]["split_e_value"] > 100


def simulated(random: np.random.Generator, state: Rollout, count: int, start: int, good: float) -> tuple[list, list]:
    """Answers and opinions of `count` requests, one a second, without a ledger."""
    answers, opinions = [], []
    for number in range(start, start + count):
        new = bool(random.random() < state.weight / 100)
        finish = "error" if random.random() < 0.01 else "stop"
        time = f"2026-05-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000+00:00"
        latency = float(random.lognormal(-0.5, 0.5))
        answers.append(Answered(str(number), time, new, str(number), finish, latency))
        if random.random() < 0.5:
            opinions.append(Opinion(str(number), new, float(random.random() < (good if new else 0.8))))
    return answers, opinions


def ends(good: float, runs: int, seed: int) -> list[str]:
    """How `runs` rollouts end that are looked at every hundred requests."""
    random = np.random.default_rng(seed)
    plan = Release(shadow_requests=0, steps=(10, 50), min_requests=150)
    found = []
    for _ in range(runs):
        time = "2026-05-01T00:00:00.000+00:00"
        state = Rollout(
            version=2,
            champion=1,
            salt="s",
            plan=plan,
            margins={"shadow": 0.02, "feedback": 0.02, "completion": 0.02},
            created=time,
            since=time,
        )
        state = moved(state, "start", time=time, why="")
        answers: list[Answered] = []
        opinions: list[Opinion] = []
        while state.active:
            more = simulated(random, state, 100, len(answers), good)
            answers += more[0]
            opinions += more[1]
            time = answers[-1].time
            decision = decide(state, rollout.sight(state, [], answers, opinions, time=time))
            if decision.action != "wait":
                state = moved(state, decision.action, time=time, why=decision.why)
        found.append(state.state)
    return found


def test_false_aborts_stay_below_what_theory_allows() -> None:
    """All measures and the ratio check together, looked at every hundred requests, must not stop 5 % of equal ones."""
    runs = 60
    stopped = ends(0.8, runs, seed=1).count("aborted")
    assert stopped / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert stopped <= 2, "the bound is far from tight: each test has an eighth of it"


def test_a_loss_of_thirty_points_is_stopped_nearly_always() -> None:
    assert ends(0.5, 30, seed=2).count("aborted") >= 27


def test_a_held_rollout_waits_and_is_still_stopped_by_harm(space: Workspace, clock: Clock) -> None:
    space = with_release(space, **QUICK | {"shadow_requests": 0})
    rollout.start(space, 2, **BY)
    rollout.hold(space, actor="ada", why="the weekend")
    traffic = Traffic(space, clock, new=Manner())
    for _ in range(8):
        traffic.serve(100)
        assert rollout.tick(space).exit_code == 4
    assert space.ledger.releases.active().weight == 10
    assert rollout.look(space).decision.why == "held: the weekend"
    traffic.new = Manner(errors=1.0)
    found, _ = run(space, traffic, most=500)
    assert found.state == "aborted"


def test_a_step_waits_for_requests_time_proof_and_approval_and_says_so(space: Workspace, clock: Clock) -> None:
    space = with_release(space, shadow_requests=20, min_minutes=10, manual=True, steps=[50], prove=["shadow"])
    rollout.start(space, 2, **BY)
    first = rollout.tick(space)
    assert first.exit_code == 4
    assert first.look.decision.missing == (
        "20 more requests",
        "10.0 more minutes",
        "shadow has to be shown within its margin",
        "approval by a person",
    )
    Traffic(space, clock, new=Manner(good=0.999)).serve(700)
    assert rollout.tick(space).look.decision.missing == ("approval by a person",)
    with pytest.raises(InputError, match="waiting for approval"):
        space.ledger.releases.move("advance", rollout.Reason("test", "hurry"))
    rollout.approve(space, actor="ada", why="looks well")
    assert rollout.tick(space).after.state == "canary"


def test_two_lookers_do_not_both_act(space: Workspace, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    space = with_release(space, **QUICK)
    rollout.start(space, 2, **BY)
    Traffic(space, clock, new=Manner()).serve(150)
    seen = rollout.look(space)
    rollout.tick(space)
    monkeypatch.setattr(rollout, "look", lambda _: seen)
    with pytest.raises(ConflictError, match="the rollout has changed meanwhile"):
        rollout.tick(space)
    assert space.ledger.releases.active().weight == 10


def test_harm_must_be_overruled_to_promote_and_a_release_can_be_taken_back(space: Workspace, clock: Clock) -> None:
    space = with_release(space, **QUICK | {"shadow_requests": 0})
    rollout.start(space, 2, **BY)
    Traffic(space, clock, new=Manner(errors=1.0)).serve(300)
    with pytest.raises(InputError, match="version 2 does harm: errors rose"):
        rollout.promote(space, **BY)
    assert rollout.promote(space, force=True, **BY).state == "champion"
    assert rollout.rollback(space, actor="ada", why="it was harm").state == "rolled back"
    assert standing(space) == {"champion": 1}
    kinds = [event.kind for event in rollout.history(space, 1)]
    assert kinds == ["release started", "promoted", "rolled back"]
    with pytest.raises(InputError, match="no release stands to be taken back"):
        rollout.rollback(space, **BY)
    rollout.start(space, 3, **BY)
    assert rollout.rollback(space, **BY).state == "aborted"


def test_what_the_gate_did_not_pass_is_not_released_and_not_promoted_past_a_rollout(space: Workspace) -> None:
    from traffic_kit import add_version

    add_version(space, 4)
    with pytest.raises(InputError, match="the gate did not pass version 4: never judged"):
        rollout.start(space, 4, **BY)
    assert "gate overruled: never judged" in rollout.start(space, 4, force=True, **BY).why
    with pytest.raises(InputError, match="version 4 is being released"):
        release.promote(space, 2, **BY)
    release.promote(space, 2, force=True, **BY)
    assert standing(space) == {"champion": 2, "previous-1": 1}
    assert space.ledger.releases.all()[-1].state == "aborted"


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


def test_the_same_on_postgresql(clock: Clock, tmp_path: Path, postgres: str) -> None:  # noqa: F811  # the fixture
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("create database rollouts"))
    engine.dispose()
    url = postgres.replace("/postgres?", "/rollouts?")
    with make_space(tmp_path / "pg", ledger={"url": url}) as made:
        space = with_release(made, **QUICK)
        rollout.start(space, 2, **BY)
        words = ("NUL \x00", "an escaped \\u0000", 'a quote behind \\\x00"')
        space.ledger.add_interactions(
            [
                Interaction(
                    id=f"word {place}",
                    time=clock.now(),
                    version=1,
                    arm="champion",
                    session=f"s {place}",
                    messages=(ChatTurn(role="user", content=text),),
                    answer=text,
                    finish="stop",
                )
                for place, text in enumerate(words)
            ]
        )
        found, _ = run(space, Traffic(space, clock, new=Manner()), most=2000, every=200)
        assert found.state == "champion"
        rollout.start(with_release(made, **QUICK | {"shadow_requests": 0}), 3, force=True, **BY)
        found, _ = run(space, Traffic(space, clock, new=Manner(errors=0.5), seed=1), most=600, every=200)
        assert found.state == "aborted"
        space.ledger.verify_chain()


def test_the_command_line_says_where_it_is_and_does_what_it_is_told(tmp_path: Path, clock: Clock) -> None:
    with make_space(tmp_path / "cli", release=QUICK | {"shadow_requests": 0}) as space:
        place = Place(tmp_path / "cli")
        assert place.nacre("release", "status").out.startswith("no rollout is active")
        assert place.nacre("release", "tick").code == 0
        assert_clear(place.nacre("release", "hold"), "no rollout is active", "nacre release start N")
        begun = place.json("release", "start", 2, "--why", "it is good")
        assert (begun["state"], begun["weight"]) == ("canary", 10)
        assert_clear(place.nacre("promote", 3), "version 2 is being released", "nacre release abort")
        assert_clear(place.nacre("release", "start", 3), "version 2 is being released")
        assert "held: the weekend" in place.nacre("release", "hold", "--why", "the weekend").out
        assert_clear(place.nacre("release", "hold"), "'hold' is not possible", "possible now: resume, abort, promote")
        assert place.json("release", "tick", code=4)["look"]["decision"] == "wait"
        place.nacre("release", "resume")
        Traffic(space, clock, new=Manner(errors=1.0)).serve(300)
        shown = place.nacre("release", "status")
        assert "decision: abort: errors rose by" in shown.out
        status = place.json("release", "status")
        assert status["active"]["possible"] == ["hold", "advance", "abort", "promote"]
        assert status["slots"] == {"champion": 1, "challenger": 2}
        assert json.dumps(status["active"]["findings"], allow_nan=False)
        stopped = place.nacre("release", "tick")
        assert (stopped.code, "is aborted" in stopped.out) == (3, True)
        place.json("release", "start", 3)
        assert place.json("release", "promote")["state"] == "champion"
        assert place.json("release", "rollback")["state"] == "rolled back"
        assert place.champion() == 1


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


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"steps": [50, 5]}, "give weights that rise"),
        ({"steps": [0]}, "greater than 0"),
        ({"steps": [], "shadow_requests": 0}, "nothing is tried"),
        ({"steps": [100], "shadow_requests": 0}, "begin below 100"),
        ({"steps": [0.004]}, "the smallest share is 0.01 percent"),
        ({"prove": ["shadow"], "shadow_requests": 0}, "needs shadow_requests above 0"),
        ({"min_request": 5}, "did you mean 'min_requests'?"),
        ({"metrics": {"rudeness": 0.1}}, "rudeness"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, given: dict, part: str) -> None:
    with pytest.raises(InputError) as caught:
        Workspace.init(tmp_path / "space", "base-model", {"release": given})
    assert part in str(caught.value)
