"""Moves of a release: by hand, by a look, and by two at once."""

import json
from pathlib import Path

import pytest
from traffic_kit import BY, QUICK, Clock, Manner, Traffic, clock, make_space, run, space, standing, with_release

from nacre.base.errors import ConflictError, InputError
from nacre.cli.release import app
from nacre.cycle.releases import release, rollout
from nacre.cycle.workspace import Workspace
from nacre.records.release import Release, Rollout, commands, moved, possible
from nacre.serve.admin import ACTIONS
from workspace_kit import Place, assert_clear

__all__ = ["clock", "space"]


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
        assert_clear(
            place.nacre("release", "hold"), "'hold' is not possible", "possible now: resume, abort, promote, rollback"
        )
        assert place.json("release", "tick", code=4)["look"]["decision"] == "wait"
        place.nacre("release", "resume")
        Traffic(space, clock, new=Manner(errors=1.0)).serve(300)
        shown = place.nacre("release", "status")
        assert "decision: abort: errors rose by" in shown.out
        status = place.json("release", "status")
        assert status["active"]["possible"] == ["hold", "tick", "abort", "promote", "rollback"]
        assert status["slots"] == {"champion": 1, "challenger": 2}
        assert json.dumps(status["active"]["findings"], allow_nan=False)
        stopped = place.nacre("release", "tick")
        assert (stopped.code, "is aborted" in stopped.out) == (3, True)
        place.json("release", "start", 3)
        assert place.json("release", "promote")["state"] == "champion"
        assert place.nacre("release", "status").out.endswith("possible: start, rollback\n")
        taken = place.json("release", "rollback", "--why", "it broke checkout")
        assert (taken["state"], taken["why"]) == ("rolled back", "it broke checkout")
        shown = place.nacre("release", "status").out
        assert "version 3 is rolled back: it broke checkout\n" in shown
        assert shown.endswith("possible: start\n")
        assert place.champion() == 1


def test_every_move_that_is_shown_is_a_command_and_a_route() -> None:
    plan = Release(steps=(5, 50), shadow_requests=1, manual=True)
    time = "2026-01-02T03:04:05+00:00"
    seen, left = set(), [Rollout(version=2, champion=1, salt="s", plan=plan, created=time, since=time)]
    while left:
        one = left.pop()
        seen |= set(commands(one))
        left += [
            moved(one, action, time=time, why="so") for action in possible(one) if action not in ("hold", "resume")
        ]
        if not one.held and "hold" in possible(one):
            seen |= set(commands(moved(one, "hold", time=time, why="so")))
    verbs = {one.name or one.callback.__name__ for one in app.registered_commands}
    assert seen == {"start", "hold", "resume", "approve", "tick", "abort", "promote", "rollback"}
    assert seen <= verbs
    assert seen <= set(ACTIONS)


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
