"""The loop over the schedules: triggers, a budget of compute, one at a time, whole after a kill."""

import json
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from traffic_kit import Clock, clock, make_space

from nacre.base.errors import NacreError
from nacre.base.files import file_lock
from nacre.cycle.releases import schedule
from nacre.cycle.releases.spending import RAN, Running
from nacre.cycle.releases.watch import overview, watch
from nacre.cycle.workspace import Workspace
from nacre.records import ChatTurn, Feedback, Interaction
from workspace_kit import Place, assert_clear, start

__all__ = ["clock"]

SAY = f"{shlex.quote(sys.executable)} -c \"print('done so')\""
BUSY = "import time\nwhile time.process_time() < 0.3: pass"
WORK = f"{shlex.quote(sys.executable)} -c {shlex.quote(BUSY)}"


def space_with(folder: Path, *entries: dict[str, Any], **settings: Any) -> Workspace:
    return make_space(folder, schedule=list(entries), **settings)


def answered(space: Workspace, place: int, question: str, time: str) -> Interaction:
    one = Interaction(
        id=f"answer {place}",
        time=time,
        version=1,
        arm="champion",
        messages=(ChatTurn(role="user", content=question),),
        answer="so",
        finish="stop",
    )
    space.ledger.add_interactions([one])
    return one


def correct(space: Workspace, count: int, time: str) -> None:
    for place in range(count):
        one = answered(space, place, f"what is thing number {place} called?", time)
        said = Feedback(time=one.time, interaction=one.id, kind="correction", text=f"it is called name {place}")
        space.ledger.add_feedback(said)


def test_enough_feedback_makes_a_schedule_due_between_its_times(tmp_path: Path, clock: Clock) -> None:
    entry = {"name": "learn", "every": "month", "when": {"feedback": 12, "rest": 2}, "run": [SAY]}
    clock.wait(days=2)
    with space_with(tmp_path / "space", entry) as space:
        assert schedule.run(space).results["learn"].status == "done", "one that never ran is due"
        correct(space, 11, clock.now())
        (planned,) = schedule.plan(space)
        assert (planned.due, planned.why[0].startswith("it rests until")) == (False, True)
        clock.wait(hours=3)
        (planned,) = schedule.plan(space)
        assert (planned.due, planned.why) == (False, ("feedback: 11 rows to harvest, 12 are wanted",))
        one = answered(space, 99, "what is that?", clock.now())
        space.ledger.add_feedback(Feedback(time=one.time, interaction=one.id, kind="correction", text="an oak"))
        (planned,) = schedule.plan(space)
        assert (planned.chosen, planned.why) == (True, ("feedback: 12 rows to harvest, 12 are wanted",))
        assert list(schedule.run(space).results) == ["learn"]
        assert space.ledger.events()[-1].detail["why"] == "feedback: 12 rows to harvest, 12 are wanted"
        assert schedule.run(space).results == {}, "it rests"
        clock.wait(hours=3)
        assert schedule.plan(space)[0].due, "nothing was harvested, so it is asked for again"


def test_without_a_time_only_its_triggers_make_a_schedule_due(tmp_path: Path, clock: Clock) -> None:
    entry = {"name": "learn", "when": {"feedback": "enough"}, "run": [SAY]}
    with space_with(tmp_path / "space", entry) as space:
        (planned,) = schedule.plan(space)
        assert (planned.due, planned.following) == (False, "")
        assert planned.why == ("feedback: 0 rows to harvest, not enough for the gate",)
        assert planned.as_dict()["when"] == {"feedback": "enough", "rest": 24}
        clock.wait(days=400)
        assert not schedule.plan(space)[0].due
        correct(space, 3, clock.now())
        assert schedule.plan(space)[0].why == ("feedback: 3 rows to harvest, enough for the gate",), "a person vouches"
        assert list(schedule.run(space, ["learn"]).results) == ["learn"], "by hand it runs all the same"


def test_a_trigger_that_cannot_be_looked_at_is_told_and_stops_nothing(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Workspace) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr("nacre.cycle.rows.harvest.look", broken)
    entries = [{"name": "learn", "when": {"feedback": 1}, "run": [SAY]}, {"name": "b", "every": "day", "run": [SAY]}]
    with space_with(tmp_path / "space", *entries) as space:
        assert list(schedule.run(space).results) == ["b"]
        assert schedule.plan(space)[0].why == ("it could not be looked at: RuntimeError: no such thing",)


def test_questions_that_drift_away_from_the_rows_ask_for_a_run(lived_in: Place) -> None:
    lived_in.settings(schedule=[{"name": "learn", "when": {"drift": 0.9, "rest": 0}, "run": [SAY]}])
    with Workspace.open(lived_in.root) as space:
        assert schedule.plan(space)[0].why == ("drift: 0 questions since its last run, 30 are needed",)
        train = (lived_in.dataset / "base" / "train.json").read_text(encoding="utf-8").splitlines()
        more = (lived_in.dataset / "increment_1" / "train.json").read_text(encoding="utf-8").splitlines()
        for place, line in enumerate((*train[:40], *more[:40])):
            answered(space, place, json.loads(line)["instruction"], f"2026-05-01T00:00:{place % 60:02}.000+00:00")
        memo: dict[str, Any] = {}
        (planned,) = schedule.plan(space, memo)
        assert not planned.due, planned.why
        assert "80 questions are told from the champion's rows with AUC 0." in planned.why[0]
        held = memo["drift"]
        schedule.plan(space, memo)
        assert memo["drift"] is held, "what did not change is not measured again"
        for place in range(80):
            answered(space, 100 + place, f"how do I return parcel {place} to the shop", "2026-05-02T00:00:00.000+00:00")
        assert not schedule.plan(space, memo)[0].due, "half of them are still as they were taught"
        schedule.run(space, ["learn"])
        assert schedule.plan(space)[0].why == ("drift: 0 questions since its last run, 30 are needed",)
        for place in range(40):
            answered(space, 200 + place, f"how do I return parcel {place} to the shop", "2999-05-02T00:00:00.000+00:00")
        (planned,) = schedule.plan(space)
        assert planned.chosen, planned.why


def test_a_run_is_measured_and_the_budget_refuses_the_next_until_it_frees(tmp_path: Path, clock: Clock) -> None:
    entry = {"name": "work", "every": "hour", "run": [WORK]}
    budget = {"day": 1e-4, "month": 9}
    with space_with(tmp_path / "space", entry, watch={"budget": budget}) as space:
        first = schedule.run(space).results["work"]
        event = space.ledger.events()[-1]
        assert first.status == "done"
        assert 0.25 < event.detail["cpu_seconds"] < 60
        took = event.detail["cpu_seconds"] / 3600
        space.ledger.record(RAN, "test", event.detail | {"cpu_seconds": 0.2, "began": clock.now()})
        clock.wait(hours=2)
        (planned,) = schedule.plan(space)
        assert (planned.due, planned.chosen) == (True, False)
        assert f"{took + 0.2 / 3600:.3g} of 0.0001 processor hours of 24 hours are spent" in planned.waits
        assert "it waits until 2026-05-02T00:00" in planned.waits
        ran = schedule.run(space)
        assert (ran.results, ran.waiting) == ({}, {"work": planned.waits})
        found = overview(space)
        assert found["runs"] == []
        assert found["budget"]["24 hours"]["hours"] == 1e-4
        assert found["budget"]["30 days"]["spent_hours"] == pytest.approx(took + 0.2 / 3600, abs=1e-6)
        clock.wait(hours=22, minutes=1)
        assert schedule.plan(space)[0].chosen


def test_a_schedule_dearer_than_the_whole_budget_says_so_and_runs_by_hand(tmp_path: Path, clock: Clock) -> None:
    entry = {"name": "work", "every": "hour", "run": [SAY]}
    with space_with(tmp_path / "space", entry, watch={"budget": {"week": 2}}) as space:
        took = {"schedule": "work", "began": clock.now(), "status": "done", "told": [], "cpu_seconds": 3 * 3600.0}
        space.ledger.record(RAN, "test", took)
        clock.wait(days=90)
        (planned,) = schedule.plan(space)
        assert planned.waits.startswith("its last run took 3 processor hours, and the whole budget of 7 days is 2")
        assert list(schedule.run(space, ["work"]).results) == ["work"]
        clock.wait(days=1)
        assert schedule.plan(space)[0].chosen, "the last run took less"


def test_a_run_that_was_killed_is_an_event_with_its_cost_and_happens_again(tmp_path: Path, clock: Clock) -> None:
    entry = {"name": "work", "every": "month", "run": [SAY]}
    with space_with(tmp_path / "space", entry) as space:
        schedule.run(space)
        assert Running(space).left() is None
        clock.wait(hours=1)
        for killed, due in ((1, True), (2, False)):
            note = {"schedule": "work", "began": clock.now(), "cpu_seconds": 7.5}
            (space.hidden / "schedule.running.json").write_text(json.dumps(note), encoding="utf-8")
            assert schedule.plan(space)[0].why[0].endswith("has not ended")
            Running(space).settle("test")
            event = space.ledger.events()[-1]
            assert (event.detail["status"], event.detail["cpu_seconds"], event.detail["killed"]) == (
                "killed",
                7.5,
                killed,
            )
            assert schedule.plan(space)[0].due is due, "what is killed each time waits an hour"
            clock.wait(minutes=1)
        clock.wait(hours=1)
        assert schedule.run(space).results["work"].status == "done"
        assert not schedule.plan(space)[0].due


def test_a_note_that_outlived_its_run_is_no_kill(tmp_path: Path, clock: Clock) -> None:
    with space_with(tmp_path / "space", {"name": "work", "every": "month", "run": [SAY]}) as space:
        schedule.run(space)
        began = space.ledger.events()[-1].detail["began"]
        note = {"schedule": "work", "began": began, "cpu_seconds": 7.5}
        (space.hidden / "schedule.running.json").write_text(json.dumps(note), encoding="utf-8")
        before = len(space.ledger.events())
        assert list(schedule.run(space).results) == []
        assert len(space.ledger.events()) == before


def test_the_loop_says_its_plan_before_it_acts_and_ends_between_two_runs(tmp_path: Path, clock: Clock) -> None:
    entries = [{"name": name, "every": "day", "run": [SAY]} for name in ("a", "b")]
    space_with(tmp_path / "space", *entries, watch={"seconds": 0.01}).close()
    told: list[Any] = []
    stop = threading.Event()

    def tell(said: Any) -> None:
        told.append(said)
        if said["kind"] == "begins":
            stop.set()

    assert watch(tmp_path / "space", tell, stop=stop) == 0
    assert [one["kind"] for one in told] == ["plan", "begins", "ended", "stopped"]
    assert [one["schedule"] for one in told[0]["runs"]] == ["a", "b"]
    assert told[0]["runs"][0]["why"] == ["it never ran"]
    assert told[2]["status"] == "done"
    json.dumps(told)


def test_the_loop_reads_settings_anew_and_outlives_a_mistake_in_them(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "space"
    space_with(folder, {"name": "a", "every": "day", "run": [SAY]}, watch={"seconds": 0.01}).close()
    good = (folder / "nacre.yaml").read_text(encoding="utf-8")
    told: list[Any] = []
    stop = threading.Event()

    def tell(said: Any) -> None:
        told.append(said)
        if said["kind"] == "ended":
            (folder / "nacre.yaml").write_text(good + "\nwatsh: 1\n", encoding="utf-8")
        if said["kind"] == "error":
            (folder / "nacre.yaml").write_text(good.replace("name: a", "name: c"), encoding="utf-8")
        if said["kind"] == "begins" and said["schedule"] == "c":
            stop.set()

    watch(folder, tell, stop=stop)
    kinds = [one["kind"] for one in told]
    assert kinds[:3] == ["plan", "begins", "ended"]
    assert next(one for one in told if one["kind"] == "error")["what"] == "unknown key 'watsh'"
    assert kinds[-4:] == ["plan", "begins", "ended", "stopped"]


def test_two_watchers_do_not_watch_at_once_and_a_busy_runner_is_waited_for(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "space"
    space_with(folder, {"name": "a", "every": "day", "run": [SAY]}).close()
    stop = threading.Event()
    with file_lock(folder / ".nacre" / "watch.lock"), pytest.raises(NacreError, match="another nacre command"):
        watch(folder, lambda _: None, stop=stop)
    told: list[Any] = []

    def tell(said: Any) -> None:
        told.append(said)
        if said["kind"] == "error":
            stop.set()

    with file_lock(folder / ".nacre" / "schedule.lock"):
        watch(folder, tell, stop=stop)
    assert [one["kind"] for one in told] == ["plan", "error", "stopped"]


def test_the_verb_plans_and_runs_once(tmp_path: Path) -> None:
    place = Place(tmp_path / "space")
    entries = [{"name": "a", "every": "day", "run": [SAY]}, {"name": "b", "when": {"feedback": 5}, "run": [SAY]}]
    space_with(place.root, *entries, watch={"budget": {"day": 3}}).close()
    planned = place.json("watch", "--plan")
    assert [one["schedule"] for one in planned["runs"]] == ["a"]
    assert planned["waits"][0]["why"] == ["feedback: 0 rows to harvest, 5 are wanted"]
    shown = place.nacre("watch", "--plan").out
    assert "runs  a:" in shown
    assert "waits b: for its triggers" in shown
    assert "spent 0 of 3 processor hours in 24 hours" in shown
    lines = [json.loads(line) for line in place.nacre("watch", "--once", "--json").out.splitlines()]
    assert [one["kind"] for one in lines] == ["plan", "begins", "ended"]
    place.settings(watch={"seconds": 0})
    assert_clear(place.nacre("watch", "--once"), "bad value for 'watch.seconds'")
    assert "when" in place.nacre("schedule", "list").out or place.nacre("schedule", "list").code == 2


ONCE = (
    "import pathlib, time, os; file = pathlib.Path('began'); first = not file.exists(); "
    "file.write_text(str(os.getpid())); time.sleep(600 if first else 0)"
)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.05)


def test_a_watch_that_is_killed_or_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    place = Place(tmp_path / "space")
    entry = {"name": "a", "every": "month", "run": [f'{shlex.quote(sys.executable)} -c "{ONCE}"']}
    space_with(place.root, entry, watch={"seconds": 0.05}).close()
    killed = start("watch", "--json", cwd=place.root)
    wait_for(place.root / "began")
    killed.kill()
    killed.communicate()
    os.kill(int((place.root / "began").read_text(encoding="utf-8")), signal.SIGKILL)  # the command's own process
    again = start("watch", "--json", cwd=place.root)
    assert again.stdout is not None
    lines = []
    while not lines or lines[-1]["kind"] != "ended":
        lines.append(json.loads(again.stdout.readline()))
    again.send_signal(signal.SIGTERM)
    rest, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    assert json.loads(rest.splitlines()[-1])["kind"] == "stopped"
    assert lines[0]["runs"][0]["why"][0].endswith("has not ended")
    with Workspace.open(place.root) as space:
        ends = [event.detail["status"] for event in space.ledger.events() if event.kind == RAN]
    assert ends == ["killed", "done"]


@pytest.mark.slow  # trains, is killed in it, and trains on
def test_the_ring_that_is_killed_in_training_is_taken_up_and_learns_once(lived_in: Place) -> None:
    entry = {"name": "learn", "when": {"feedback": 4}, "do": ["harvest", "evolve"]}
    lived_in.settings(schedule=[entry], keep={"tries": 1}, watch={"seconds": 0.2})
    with Workspace.open(lived_in.root) as space:
        for place, thing in enumerate(("cat", "dog", "sun", "sea", "tree", "moon") * 4):
            one = answered(space, place, f"place big old {thing}", f"2026-05-01T00:00:{place:02}.000+00:00")
            space.ledger.add_feedback(Feedback(time=one.time, interaction=one.id, kind="correction", text="hill"))
    killed = start("watch", "--json", cwd=lived_in.root)
    deadline = time.monotonic() + 300
    while not list((lived_in.root / ".nacre" / "runs").glob("*/*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    lived_in.nacre("watch", "--once", "--json")
    assert [row["increment"] for row in lived_in.json("versions", "list")["versions"]].count("feedback_1") == 1
    assert sorted(path.name for path in lived_in.dataset.glob("feedback_*")) == ["feedback_1"]
    with Workspace.open(lived_in.root) as space:
        assert {said.status for said in space.ledger.feedback()} == {"exported"}
        ends = [event.detail["status"] for event in space.ledger.events() if event.kind == RAN]
    assert ends[0] == "killed"
    assert len(ends) == 2
