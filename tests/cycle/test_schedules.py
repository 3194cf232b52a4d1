"""Schedules: due when their moment has come, once however much was missed, and whole after a kill."""

import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from traffic_kit import Clock, Manner, Traffic, add_version, clock, make_space, with_release

from nacre.base.errors import InputError, NacreError
from nacre.base.files import file_lock
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.releases import rollout, schedule, schedule_steps
from nacre.cycle.rows.coverage import compare
from nacre.cycle.workspace import Workspace
from nacre.records import Verdict
from nacre.records.schedule import Entry

__all__ = ["clock"]

SAY = f"{shlex.quote(sys.executable)} -c \"print('refreshed')\""
FAIL = f'{shlex.quote(sys.executable)} -c "raise SystemExit(7)"'


def space_with(folder: Path, *entries: dict) -> Workspace:
    return make_space(folder, schedule=list(entries))


def ran(space: Workspace) -> list[str]:
    return [event.detail["schedule"] for event in space.ledger.events() if event.kind == schedule.RAN]


@pytest.mark.parametrize(
    ("every", "first", "missed"),
    [
        ("hour", {"minutes": 61}, {"days": 2}),
        ("day", {"hours": 25}, {"days": 9}),
        ("week", {"days": 8}, {"days": 40}),
        ("month", {"days": 32}, {"days": 200}),
        ("quarter", {"days": 93}, {"days": 800}),
        ("*/5 * * * *", {"minutes": 6}, {"days": 1}),
    ],
)
def test_it_runs_when_its_moment_has_come_and_once_for_all_it_missed(
    tmp_path: Path, clock: Clock, every: str, first: dict, missed: dict
) -> None:
    with space_with(tmp_path / "space", {"name": "refresh", "every": every, "run": [SAY]}) as space:
        assert list(schedule.run(space).results) == ["refresh"], "one that never ran is due"
        assert schedule.run(space).results == {}
        for span in (first, missed):
            clock.wait(**span)
            assert schedule.plan(space)[0].due
            assert schedule.run(space).results["refresh"].told[0].endswith(": done: refreshed")
            assert schedule.run(space).results == {}
        assert ran(space) == ["refresh"] * 3


@given(st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))
def test_the_words_mean_what_they_say(moment: datetime) -> None:
    def following(every: str) -> datetime:
        return next(schedule.CronSim(Entry(name="a", every=every, at="04:30", do=("coverage",)).cron, moment))

    week, month, quarter = following("week"), following("month"), following("quarter")
    assert (week.weekday(), week.hour, week.minute) == (0, 4, 30)
    assert (month.day, month.hour, month.minute) == (1, 4, 30)
    assert (quarter.day, quarter.month % 3) == (1, 1)
    assert all((found - moment).days <= days for found, days in ((week, 7), (month, 31), (quarter, 92)))


def test_a_time_of_day_that_yaml_takes_for_a_number_is_still_a_time() -> None:
    times = yaml.safe_load("[13:30, 03:05, '23:59']")
    assert isinstance(times[0], int), "yaml has learned better"
    entries = [Entry(name="a", every="day", at=time, do=("coverage",)) for time in times]
    assert [entry.cron for entry in entries] == ["30 13 * * *", "5 3 * * *", "59 23 * * *"]


def test_a_failure_is_told_tried_again_after_an_hour_and_leaves_the_others_alone(tmp_path: Path, clock: Clock) -> None:
    broken = {"name": "broken", "every": "month", "run": [FAIL, SAY]}
    with space_with(tmp_path / "space", broken, {"name": "fine", "every": "month", "run": [SAY]}) as space:
        found = schedule.run(space)
        assert found.exit_code == 1
        assert {name: result.status for name, result in found.results.items()} == {"broken": "failed", "fine": "done"}
        assert len(found.results["broken"].told) == 1, "what follows a failure does not run"
        assert "exit code 7" in found.results["broken"].told[0]
        clock.wait(minutes=30)
        assert schedule.run(space).results == {}
        clock.wait(minutes=31)
        assert list(schedule.run(space).results) == ["broken"]


def test_a_command_that_does_not_exist_is_a_failure_and_not_a_crash(tmp_path: Path, clock: Clock) -> None:
    with space_with(tmp_path / "space", {"name": "a", "every": "day", "run": ["no-such-program --x"]}) as space:
        found = schedule.run(space)
        assert (found.exit_code, found.results["a"].status) == (1, "failed")
        assert "no-such-program" in found.results["a"].told[0]


def test_two_runners_do_not_run_at_once(tmp_path: Path, clock: Clock) -> None:
    with space_with(tmp_path / "space", {"name": "a", "every": "day", "run": [SAY]}) as space:
        with file_lock(space.hidden / "schedule.lock"), pytest.raises(NacreError, match="another nacre command"):
            schedule.run(space)
        assert ran(space) == []


def test_a_run_looks_at_the_rollout_and_can_begin_one(tmp_path: Path, clock: Clock) -> None:
    entry = {"name": "increment", "every": "month", "do": ["release"]}
    with space_with(tmp_path / "space", entry) as made:
        space = with_release(made, shadow_requests=5)
        first = schedule.run(space)
        assert first.results["increment"].told == ("release: version 3 is shadow",)
        assert schedule.run(space).tick.look.decision.action == "wait"
        rollout.abort(space, actor="test", why="so")
        found = schedule.run(space, ["increment"]).results["increment"]
        assert found.told == ("release: version 2 is shadow",), "what was tried once is not tried again by itself"
        rollout.abort(space, actor="test", why="so")
        assert schedule.run(space, ["increment"]).results["increment"].status == "nothing"


def test_unknown_names_and_settings_that_make_no_sense_are_refused(tmp_path: Path, clock: Clock) -> None:
    fine = {"name": "refresh", "every": "day", "run": [SAY]}
    with space_with(tmp_path / "space", fine) as space, pytest.raises(InputError, match="unknown schedule 'refesh'"):
        schedule.run(space, ["refesh"])
    one = {"name": "a", "every": "day", "run": [SAY]}
    for wrong, part in (
        ([one, one], "two schedules are called a"),
        ([{"name": "a", "every": "fortnight", "run": [SAY]}], "five fields as in a crontab"),
        ([{"name": "a", "every": "* * * * * *", "run": [SAY]}], "five fields"),
        ([{"name": "a", "every": "61 * * * *", "run": [SAY]}], "bad minute"),
        ([{"name": "a", "every": "0 0 30 2 *", "run": [SAY]}], "bad day-of-month"),
        ([{"name": "a", "every": "day", "run": ["echo 'x"]}], "no closing quotation"),
        ([{"name": "a", "every": "day", "run": [""]}], "a command of run is empty"),
        ([{"name": "a", "every": "30 2 * * *", "at": "05:00", "run": [SAY]}], "at stands beside a word"),
        ([{"name": "a", "every": "hour", "at": "05:30", "run": [SAY]}], "give at as 00:MM"),
        ([{"name": "a", "every": "day", "run": [SAY], "questions": "q.txt"}], "of the step coverage"),
        ([{"name": "a", "every": "day", "run": [SAY], "models": ["m"]}], "of the step review"),
        ([{"name": "a", "every": "day"}], "something to run or to do"),
        ([{"name": "a", "every": "day", "at": "3 pm", "run": [SAY]}], "schedule"),
        ([{"name": "a", "every": "day", "do": ["harvset"]}], "schedule"),
    ):
        with pytest.raises(InputError) as caught:
            Workspace.init(tmp_path / "wrong", "base-model", {"schedule": wrong})
        assert part in str(caught.value)


def test_the_crontab_line_runs_in_a_folder_of_any_name(tmp_path: Path, clock: Clock) -> None:
    with space_with(tmp_path / "it's 100% mine", {"name": "a", "every": "day", "run": [SAY]}) as space:
        line = schedule.crontab(space, [sys.executable, "-m", "nacre"], 15)
    head, command = line.split(" mkdir", 1)
    assert head == "*/15 * * * *"
    assert r"\%" in command
    done = subprocess.run(["sh", "-c", "mkdir" + command.replace(r"\%", "%")], timeout=120)
    assert done.returncode == 0
    assert "a: done" in (tmp_path / "it's 100% mine" / ".nacre" / "logs" / "schedule.log").read_text()


def test_coverage_counts_questions_that_some_row_is_like() -> None:
    rows = ["how do I reset my password", "where is the invoice", "怎样重置我的密码"]
    asked = ["How do I reset the password?", "where can I find the invoice", "我的密码怎样重置", "may I bring my dog"]
    found = compare("file", [*asked, "may I bring my dog"], rows, 0.4)
    assert (found.questions, found.covered) == (5, 3)
    assert found.uncovered == ("may I bring my dog",)
    low, high = found.interval
    assert 0 < low < 0.6 < high < 1
    assert compare("file", rows, rows, 1 - 1e-9).share == 1


def test_a_mistake_of_one_schedule_stops_no_other(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such luck")

    entries = [{"name": "a", "every": "day", "do": ["release"]}, {"name": "b", "every": "day", "run": [SAY]}]
    with space_with(tmp_path / "space", *entries) as space:
        monkeypatch.setattr(schedule_steps, "release", broken)
        found = schedule.run(space)
        assert found.results["a"].told == ("RuntimeError: no such luck",)
        assert (found.exit_code, found.results["b"].status) == (1, "done")


def test_a_look_that_fails_is_told_and_the_schedules_run(tmp_path: Path, clock: Clock) -> None:
    with space_with(tmp_path / "space", {"name": "a", "every": "day", "run": [SAY]}) as made:
        space = with_release(made, shadow_requests=0, steps=[10], min_requests=0)
        rollout.start(space, 2, actor="test", why="so")
        file = space.store.path(space.ledger.version(2).artifact) / "config.json"
        file.chmod(0o644)
        file.write_text("{ }")
        found = schedule.run(space)
        assert found.trouble.startswith("the release could not be looked at: version 2")
        assert (found.exit_code, found.results["a"].status) == (1, "done")
        assert found.as_dict()["release"]["error"] == found.trouble


def test_a_rollout_is_watched_while_a_schedule_works_and_its_end_is_heard(tmp_path: Path, clock: Clock) -> None:
    with space_with(tmp_path / "space", {"name": "a", "every": "day", "run": [SAY]}) as made:
        space = with_release(made, shadow_requests=0, steps=[50, 100])
        for number, busy in ((2, True), (3, False)):
            rollout.start(space, number, actor="test", why="so")
            traffic = Traffic(space, clock, new=Manner(errors=1.0), seed=number)
            traffic.serve(200)
            if busy:
                with (
                    file_lock(space.hidden / "schedule.lock"),
                    pytest.raises(NacreError, match="release of version 2: abort: errors rose"),
                ):
                    schedule.run(space)
            else:
                assert schedule.run(space).exit_code == 3
            assert space.ledger.releases.active() is None


def test_a_command_that_never_ends_is_killed_with_what_it_started(tmp_path: Path, clock: Clock) -> None:
    mark = tmp_path / "alive"
    forever = f"sh -c '(sleep 3; touch {mark}) & sleep 60'"
    entry = {"name": "a", "every": "day", "run": [forever], "max_hours": 0.5 / 3600}
    with space_with(tmp_path / "space", entry) as space:
        began = time.monotonic()
        assert "killed after" in schedule.run(space).results["a"].told[0]
        assert time.monotonic() - began < 20
        time.sleep(3)
        assert not mark.exists()


def test_a_moment_that_comes_during_a_run_is_not_missed(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.wait(minutes=55)
    real = schedule._run
    with space_with(tmp_path / "space", {"name": "a", "every": "hour", "run": [SAY]}) as space:

        def slow(*words: object) -> schedule.Result:
            clock.wait(minutes=10)
            return real(*words)

        monkeypatch.setattr(schedule, "_run", slow)
        schedule.run(space)
        assert schedule.plan(space)[0].due


def test_the_list_knows_that_a_failure_is_tried_again(tmp_path: Path, clock: Clock) -> None:
    with space_with(tmp_path / "space", {"name": "a", "every": "quarter", "run": [FAIL]}) as space:
        schedule.run(space)
        clock.wait(minutes=10)
        assert schedule.plan(space)[0].following == "2026-05-01T01:00+00:00"


@pytest.mark.parametrize("minutes", [0, 45, 60])
def test_minutes_that_cron_cannot_mean_are_refused(tmp_path: Path, clock: Clock, minutes: int) -> None:
    with space_with(tmp_path / "space") as space, pytest.raises(InputError, match="a divisor of 60"):
        schedule.crontab(space, ["nacre"], minutes)


def harvested(space: Workspace, *names: str) -> None:
    for name in names:
        (space.dataset_dir / name).mkdir(parents=True)
        space.ledger.record("harvested", "harvest", {"increment": name, "train": 1, "dev": 0})


class Learner:
    """Stands in for the training: registers a version made from the champion, which the gate passes."""

    def __init__(self, space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.space = space
        self.asked: list[str] = []
        monkeypatch.setattr(schedule_steps.evolving, "evolve", self.evolve)

    def evolve(self, space: Workspace, name: str, *, promote: str | None) -> SimpleNamespace:
        self.asked.append(name)
        champion = space.ledger.slot("champion").version
        number = len(space.ledger.versions()) + 1
        add_version(space, number, name, parents=(champion,))
        verdict = Verdict(outcome="pass", confidence=0.95, tasks=())
        space.ledger.put_verdict(number, champion, verdict)
        return SimpleNamespace(version=space.ledger.version(number), verdict=verdict, promoted=False)


def test_two_increments_that_wait_are_both_live_in_the_end(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"name": "increment", "every": "month", "do": ["evolve", "release"]}
    with space_with(tmp_path / "space", entry) as space:
        learner = Learner(space, monkeypatch)
        harvested(space, "feedback_1", "feedback_2")
        first = schedule.run(space, ["increment"]).results["increment"].told
        assert first[1] == "evolve: feedback_2 waits until version 4 is champion or stopped"
        waits = schedule.run(space, ["increment"]).results["increment"].told
        assert waits[0] == "evolve: feedback_2 waits: version 4 is being released"
        rollout.promote(space, actor="test", why="so")
        schedule.run(space, ["increment"])
        rollout.promote(space, actor="test", why="so")
        assert schedule.run(space, ["increment"]).results["increment"].told[0].startswith("evolve: nothing")
        champion = space.ledger.slot("champion").version
        assert {"feedback_1", "feedback_2"} <= set(tasks_of(ancestry(space, champion)))
        assert learner.asked == ["feedback_1", "feedback_2"]


def test_what_passed_against_an_older_champion_is_learned_again_and_what_was_tried_is_not(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with space_with(tmp_path / "space", {"name": "a", "every": "month", "do": ["evolve"]}) as space:
        learner = Learner(space, monkeypatch)
        harvested(space, "feedback_1", "feedback_2")
        schedule.run(space, ["a"])
        assert learner.asked == ["feedback_1", "feedback_2"]
        rollout.start(space, 5, actor="test", why="so")
        rollout.promote(space, actor="test", why="so")
        found = schedule.run(space, ["a"]).results["a"]
        assert found.told[0] == (
            "evolve: feedback_1 is learned again: version 4 passed against version 1, and version 5 is champion now"
        )
        assert learner.asked[2:] == ["feedback_1"]
        rollout.rollback(space, actor="test", why="rude")
        assert "feedback_2" not in str(schedule.run(space, ["a"]).results["a"].told)
