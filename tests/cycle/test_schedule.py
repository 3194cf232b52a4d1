"""Schedules: due when their moment has come, once however much was missed, and whole after a kill."""

import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from traffic_kit import Clock, clock, make_space, with_release

from nacre.base.errors import InputError, NacreError
from nacre.base.files import file_lock
from nacre.cycle import rollout, schedule
from nacre.cycle.coverage import compare
from nacre.cycle.workspace import Workspace
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
