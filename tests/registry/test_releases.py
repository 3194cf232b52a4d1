"""Rollouts in the ledger: one at a time, whole moves only, and slots that say the same as the rollout."""

import os
import random
import signal
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nacre.base.clock import now
from nacre.base.errors import ConflictError, InputError, NacreError
from nacre.records.release import Release, Rollout, commands, moved, possible
from nacre.registry import Ledger, releases
from nacre.registry.releases import Reason
from process_kit import in_child

BECAUSE = Reason("test", "so", {"requests": 7})
ACTIONS = ("advance", "hold", "resume", "approve", "abort", "promote")
SHORT = Release(steps=(5, 50), shadow_requests=1)


def planned(version: int, champion: int, plan: Release = SHORT) -> Rollout:
    return Rollout(version=version, champion=champion, salt="salt", plan=plan, created=now(), since=now())


def begin(ledger: Ledger, version: int, plan: Release = SHORT) -> Rollout:
    return ledger.releases.start(planned(version, ledger.slot("champion").version, plan), BECAUSE)


def standing(ledger: Ledger) -> dict[str, int]:
    return {name: slot.version for name, slot in ledger.slots().items()}


@pytest.fixture
def ledger(workshop):
    with workshop.open() as opened:
        workshop.versions(opened, 4)
        opened.promote(1, actor="test", why="start")
        yield opened


def test_a_version_goes_from_shadow_to_champion_and_each_move_is_an_event_with_its_evidence(ledger: Ledger) -> None:
    generation = ledger.generation()
    begin(ledger, 2)
    assert standing(ledger) == {"champion": 1, "shadow": 2}
    ledger.releases.move("advance", BECAUSE)
    assert standing(ledger) == {"champion": 1, "challenger": 2}
    assert ledger.releases.active().weight == 5
    ledger.releases.move("advance", BECAUSE)
    assert ledger.releases.active().weight == 50
    assert ledger.generation() == generation + 3, "servers must notice a change of the share"
    done = ledger.releases.move("advance", BECAUSE)
    assert done.state == "champion"
    assert ledger.releases.active() is None
    assert standing(ledger) == {"champion": 2, "previous-1": 1}
    told = [(event.kind, event.detail["release"]["state"]) for event in ledger.events(4)]
    assert told == [
        ("release started", "shadow"),
        ("release advanced", "canary"),
        ("release advanced", "canary"),
        ("promoted", "champion"),
    ]
    assert all(event.detail["release"]["evidence"] == {"requests": 7} for event in ledger.events(4))
    assert ledger.verify_chain() == 4 + 1 + 4


def test_what_became_of_a_release_follows_its_version(ledger: Ledger) -> None:
    def release(number: int) -> None:
        begin(ledger, number)
        ledger.releases.move("promote", BECAUSE)

    release(2)
    release(3)
    assert [one.state for one in ledger.releases.all()] == ["previous", "champion"]
    ledger.rollback(actor="test", why="rude")
    assert [one.state for one in ledger.releases.all()] == ["champion", "rolled back"]
    ledger.promote(3, actor="test", why="not rude")
    assert [one.state for one in ledger.releases.all()] == ["previous", "champion"]
    ledger.verify_chain()


def test_a_finished_release_says_why_its_version_came_and_went(ledger: Ledger, workshop) -> None:
    def whys() -> list[str]:
        return [one.why for one in ledger.releases.all()]

    for number, why in ((2, "kinder"), (3, "shorter")):
        begin(ledger, number)
        ledger.releases.move("promote", Reason("test", why))
    assert whys() == ["version 3 became champion: shorter", "shorter"]
    ledger.rollback(actor="test", why="rude")
    assert whys() == ["the champion after it was taken back: rude", "rude"]
    ledger.promote(3, actor="test", why="not rude")
    assert whys() == ["version 3 became champion: not rude", "not rude"]
    workshop.versions(ledger, 2)
    for number in (4, 5, 6):
        ledger.promote(number, actor="test", why=f"try {number}")
    assert [one.state for one in ledger.releases.all()] == ["retired", "previous"]
    assert whys() == ["version 6 became champion: try 6", "version 4 became champion: try 4"]


def test_a_version_that_is_released_twice_has_two_histories(ledger: Ledger) -> None:
    begin(ledger, 2)
    ledger.releases.move("promote", BECAUSE)
    ledger.rollback(actor="test", why="rude")
    assert ledger.events(1)[0].detail["settled"] == [{"id": 1, "version": 2, "state": "rolled back"}]
    begin(ledger, 2)
    ledger.releases.move("promote", BECAUSE)
    assert [one.state for one in ledger.releases.all()] == ["rolled back", "champion"]
    assert "settled" not in ledger.events(1)[0].detail
    ledger.promote(3, actor="test", why="so")
    assert [one.state for one in ledger.releases.all()] == ["rolled back", "previous"]
    ledger.verify_chain()


@pytest.mark.parametrize(
    ("moves", "action", "parts"),
    [
        (("hold",), "advance", ("held: so", "possible now: resume, abort, promote, rollback")),
        ((), "resume", ("possible now: hold, tick, abort, promote, rollback",)),
        ((), "approve", ("is shadow",)),
        (("advance",), "resume", ("is canary at 5 %",)),
        (("abort",), "advance", ("no rollout is active",)),
    ],
)
def test_an_illegal_move_says_what_is_possible(
    ledger: Ledger, moves: tuple[str, ...], action: str, parts: tuple[str, ...]
) -> None:
    begin(ledger, 2)
    for move in moves:
        ledger.releases.move(move, BECAUSE)
    count = len(ledger.events())
    with pytest.raises(InputError) as caught:
        ledger.releases.move(action, BECAUSE)
    for part in parts:
        assert part in str(caught.value)
    assert len(ledger.events()) == count


def test_a_step_that_needs_approval_waits_for_it(ledger: Ledger) -> None:
    begin(ledger, 2, Release(steps=(5, {"weight": 50, "approve": False}), shadow_requests=1, manual=True))
    for _ in ("the shadow", "the first step"):
        with pytest.raises(InputError, match="waiting for approval"):
            ledger.releases.move("advance", BECAUSE)
        ledger.releases.move("approve", BECAUSE)
        ledger.releases.move("advance", BECAUSE)
    assert ledger.releases.move("advance", BECAUSE).state == "champion"


def test_one_rollout_at_a_time_and_nothing_moves_behind_its_back(ledger: Ledger) -> None:
    begin(ledger, 2)
    for refused in (
        lambda: begin(ledger, 3),
        lambda: ledger.promote(3, actor="test", why="hurry"),
        lambda: ledger.promote(2, actor="test", why="hurry"),
        lambda: ledger.place("challenger", 3, actor="test", why="try"),
        lambda: ledger.place("shadow", None, actor="test", why="try"),
    ):
        with pytest.raises(InputError, match="version 2 is being released"):
            refused()
    assert standing(ledger) == {"champion": 1, "shadow": 2}


def test_what_cannot_be_released_is_refused(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="there is no version 9"):
        begin(ledger, 9)
    with pytest.raises(InputError, match="version 1 stands in champion"):
        begin(ledger, 1)
    with pytest.raises(ConflictError, match="the champion has changed meanwhile"):
        ledger.releases.start(planned(2, 3), BECAUSE)
    assert ledger.releases.all() == []
    with pytest.raises(InputError, match="there is no rollout 5"):
        ledger.releases.get(5)


def test_a_damaged_version_goes_no_further(ledger: Ledger) -> None:
    begin(ledger, 2)
    ledger.releases.move("advance", BECAUSE)
    weights = ledger.store.path(ledger.version(2).artifact) / "config.json"
    weights.chmod(0o644)
    weights.write_text("{ }")
    with pytest.raises(NacreError, match="version 2"):
        ledger.releases.move("advance", BECAUSE)
    assert ledger.releases.active().weight == 5
    ledger.releases.move("abort", BECAUSE)
    assert standing(ledger) == {"champion": 1}


def test_a_forced_promotion_and_a_rollback_end_the_rollout_in_the_same_transaction(ledger: Ledger) -> None:
    begin(ledger, 2)
    ledger.promote(3, actor="test", why="hurry", over_release=True)
    assert standing(ledger) == {"champion": 3, "previous-1": 1}
    begin(ledger, 2)
    ledger.releases.move("advance", BECAUSE)
    ledger.rollback(actor="test", why="rude")
    assert standing(ledger) == {"champion": 1}
    begin(ledger, 4)
    ledger.promote(4, actor="test", why="sure", over_release=True)
    assert [(one.version, one.state) for one in ledger.releases.all()] == [
        (2, "aborted"),
        (2, "aborted"),
        (4, "champion"),
    ]
    assert "promoted past it: hurry" in ledger.releases.get(1).why
    ledger.verify_chain()


def test_a_decision_on_an_older_state_is_refused(ledger: Ledger) -> None:
    seen = begin(ledger, 2)
    ledger.releases.move("hold", BECAUSE)
    with pytest.raises(ConflictError, match="the rollout has changed meanwhile"):
        ledger.releases.move("abort", BECAUSE, expected=seen)
    assert ledger.releases.active().held


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(("start", *ACTIONS)), max_size=25),
    st.lists(st.integers(1, 100), unique=True, max_size=4).map(sorted),
    st.booleans(),
    st.integers(0, 1),
)
def test_no_sequence_of_moves_gives_a_contradiction(
    actions: list[str], weights: list[int], manual: bool, shadow: int
) -> None:
    plan = Release(steps=tuple(weights), shadow_requests=shadow if weights and weights[0] < 100 else 1, manual=manual)
    state = planned(2, 1, plan)
    for action in actions:
        allowed = possible(state)
        if action not in allowed:
            with pytest.raises(InputError):
                moved(state, action, time=now(), why="so")
            continue
        after = moved(state, action, time=now(), why="so")
        assert after.generation == state.generation + 1
        assert after.weight in (0.0, *weights)
        assert after.weight >= state.weight or after.state in ("champion", "aborted")
        assert after.active == (after.slot is not None) == bool(possible(after))
        assert ("rollback" in commands(after)) == (after.active or after.state == "champion")
        assert "advance" not in commands(after)
        assert [period.weight for period in after.periods] == weights[: len(after.periods)]
        if action == "advance" and manual:
            assert state.approved, "it went on without approval"
        state = after


class Crash(Exception):
    """Stands for a kill in the middle of a transaction."""


MOVES = st.one_of(
    st.tuples(st.sampled_from(ACTIONS), st.booleans()),
    st.tuples(st.sampled_from(("start", "promote past", "promote by hand", "place")), st.integers(1, 4)),
    st.tuples(st.just("roll back"), st.just(0)),
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.tuples(MOVES, st.booleans()), max_size=14))
def test_no_actors_and_no_crashes_leave_the_ledger_inconsistent(
    moves: list[tuple[tuple[str, int], bool]], workshop_at, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every move by two actors who know of each other nothing, some of them killed before their last write."""
    shop = workshop_at(tmp_path_factory.mktemp("ledger"), "")
    with shop.open() as ledger, shop.open() as other:
        shop.versions(ledger, 4)
        ledger.promote(1, actor="test", why="start")
        stale = None
        for place, ((name, number), crash) in enumerate(moves):
            actor = (ledger, other)[place % 2]
            before = (standing(ledger), ledger.releases.all(), len(ledger.events()))
            with pytest.MonkeyPatch.context() as patch:
                if crash:
                    patch.setattr(releases, "_write", _crash)
                    patch.setattr(releases, "_settled", _crash)
                try:
                    act(actor, name, number, stale)
                except Crash:
                    assert (standing(ledger), ledger.releases.all(), len(ledger.events())) == before
                except NacreError:
                    assert len(ledger.events()) == before[2], "a refused move left something behind"
            ledger.verify_chain()  # holds rollouts and slots against each other, too
            if place % 3 == 0:
                stale = ledger.releases.active()


def act(ledger: Ledger, name: str, number: int, stale: Rollout | None) -> None:
    if name == "start":
        begin(ledger, number)
    elif name == "promote past":
        ledger.promote(number, actor="test", why="past", over_release=True)
    elif name == "promote by hand":
        ledger.promote(number, actor="test", why="by hand")
    elif name == "place":
        ledger.place("shadow", number, actor="test", why="by hand")
    elif name == "roll back":
        ledger.rollback(actor="test", why="back")
    else:
        ledger.releases.move(name, BECAUSE, expected=stale if number else None)


def _crash(*_: object) -> None:
    raise Crash


def wander(shop, seed: int, ready: int) -> None:
    """Release, hold, abort, promote and roll back for ever; says each move that was made."""
    choose = random.Random(seed)
    with shop.open() as ledger:
        while True:
            name = choose.choice(
                ("start", "start", "advance", "advance", "advance", *ACTIONS, "promote past", "roll back")
            )
            try:
                act(ledger, name, choose.randint(1, 4) if name in ("start", "promote past") else 0, None)
            except NacreError:
                continue
            os.write(ready, b"x")


@pytest.mark.slow
def test_kills_between_and_within_moves_leave_whole_states(shop) -> None:
    """Twelve kills of two processes that race each other; each time rollouts, slots and history agree."""
    choose = random.Random(3)
    with shop.open() as ledger:
        shop.versions(ledger, 4)
        ledger.promote(1, actor="test", why="start")
    told = 0
    for kill in range(12):
        ready, started = os.pipe()
        children = [in_child(lambda seed=2 * kill + n, out=started: wander(shop, seed, out)) for n in (0, 1)]
        os.close(started)
        for _ in range(choose.randint(2, 12)):
            assert os.read(ready, 1) == b"x", "both children ended by themselves"
            told += 1
        time.sleep(choose.uniform(0.0, 0.02))  # into the middle of the next move
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
        os.close(ready)
        with shop.open() as ledger:
            assert ledger.verify_chain() >= 4 + 1 + told, "a move that was reported is gone"
    with shop.open() as ledger:
        assert len(ledger.releases.all()) >= 5
