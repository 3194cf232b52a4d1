"""A group that loses a process: what is said, and that the same command goes on, from checkpoints in parts too."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from lost_kit import TAG, Yard, kill, until, workers, yard
from pydantic import TypeAdapter

from nacre.base.errors import InputError, NacreError
from nacre.records import Recipe, Weights
from nacre.train.group import AGAIN_s, follow_machine, train_in_processes
from nacre.train.job import MARKER, Job, Trained
from nacre.train.last_words import Lost, write_failure
from nacre.train.launch import LOG, RESULT, JOIN_s, Launch
from nacre.train.pulse import Pulse, watch_machines
from workspace_kit import start

__all__ = ["yard"]

TOLD_BY_TORCHRUN = """
nacre.train.worker FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-01-01_00:00:00
  host      : here
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 7) (SIGTERM)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 7
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-01-01_00:00:00
  host      : here
  rank      : 3 (local_rank: 1)
  exitcode  : -9 (pid: 8) (SIGKILL)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 8
"""
GONE = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:41234")
TWO = Launch(processes=2)

End = Callable[[Path], int]


def job(folder: Path) -> Job:
    begin = Weights(identity="x", model="nowhere")
    return Job(start=begin, recipe=Recipe(), new=(), work=folder / "run", shared=folder / "memory")


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Launch]]:
    """Groups end one after another as they are told; gives how each was started."""

    def told(*groups: End) -> list[Launch]:
        started: list[Launch] = []

        def run(launch: Launch, folder: Path | None, log: Path) -> int:
            started.append(launch)
            return groups[len(started) - 1](log.parent)

        monkeypatch.setattr("nacre.train.torchrun.run", run)
        return started

    return told


def killed(folder: Path) -> int:
    (folder / LOG).write_text(TOLD_BY_TORCHRUN)
    write_failure(folder, 0, GONE)
    return 1


def cut_off(folder: Path) -> int:
    write_failure(folder, 0, GONE)
    return 1


def wrong(folder: Path) -> int:
    write_failure(folder, 0, GONE)
    write_failure(folder, 1, InputError("no rows", where="here", fix="bring some"))
    return 1


def trained(folder: Path) -> int:
    made = Trained(folder, "full", Recipe(), 1, 1.0, 1, 0.5, ("what was decided",))
    (folder / RESULT).write_bytes(TypeAdapter(Trained).dump_json(made))
    return 0


def test_a_process_that_was_killed_is_named_and_so_is_the_checkpoint(ends, tmp_path):
    ends(killed, killed)
    with pytest.raises(Lost, match=r"process 3 of the training was killed \(SIGKILL\)") as caught:
        train_in_processes(job(tmp_path), TWO)
    assert "it begins anew, because no checkpoint was whole yet" in caught.value.fix
    assert "where memory was short" in caught.value.fix
    for step in (9, 10, 11):
        (tmp_path / "run" / f"checkpoint-{step}").mkdir(parents=True)
        (tmp_path / "run" / f"checkpoint-{min(step, 10)}" / MARKER).write_text("{}")
    with pytest.raises(Lost) as caught:
        train_in_processes(job(tmp_path), TWO)
    assert "give the same command again: it goes on from checkpoint-10" in caught.value.fix


def test_a_lost_connection_is_no_fault_of_the_program(ends, tmp_path):
    ends(cut_off)
    with pytest.raises(Lost, match="process 0 of the training lost its connection to another one") as caught:
        train_in_processes(job(tmp_path), TWO)
    assert "Connection closed by peer" in Path(caught.value.where).read_text()


def test_a_group_begins_again_as_often_as_it_may_and_says_so(ends, tmp_path):
    launch = Launch(processes=2, restarts=2)
    started = ends(killed, cut_off, trained)
    notes = train_in_processes(job(tmp_path), launch).notes
    assert notes == (
        "process 3 of the training was killed (SIGKILL); the group began again",
        "process 0 of the training lost its connection to another one; the group began again",
        "what was decided",
    )
    assert [(one.attempt, one.wait_s) for one in started] == [(0, JOIN_s), (1, AGAIN_s), (2, AGAIN_s)]
    ends(killed, killed, killed)
    with pytest.raises(Lost):
        train_in_processes(job(tmp_path), launch)


def test_what_is_wrong_with_the_job_is_not_tried_again(ends, tmp_path):
    started = ends(wrong)
    with pytest.raises(InputError, match="no rows"):
        train_in_processes(job(tmp_path), Launch(processes=2, restarts=3))
    assert len(started) == 1


def test_other_machines_begin_again_too_and_say_what_they_saw(ends, tmp_path):
    other = Launch(processes=1, nodes=2, node=1, address="10.0.0.1", port=29500, restarts=1)
    started = ends(
        cut_off, lambda folder: 1, lambda folder: 0
    )  # the second meets what is left of the first on machine 0
    follow_machine(other, tmp_path / LOG)
    assert [one.attempt for one in started] == [0, 1, 1]
    ends(lambda folder: 1)
    with pytest.raises(NacreError, match="ended with code 1"):
        follow_machine(other, tmp_path / LOG)
    ends(killed, killed)
    with pytest.raises(Lost, match="was killed") as caught:
        follow_machine(other, tmp_path / LOG)
    assert "see what machine 0 says" in caught.value.fix
    started = ends(wrong)
    with pytest.raises(InputError, match="no rows"):
        follow_machine(other, tmp_path / LOG)
    assert len(started) == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("nacre.train.pulse.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_machine_that_counts_no_more_is_lost(clock):
    counts = [0, 0, 0]

    def count(node: int, more: int) -> int:
        counts[node] += more
        return counts[node]

    pulse = Pulse(0, 3, count, patience_s=10)
    for second in range(0, 30, 2):
        clock[0] = float(second)
        counts[1] += 1
        counts[2] += second < 8
        pulse.beat()
        assert pulse.lost() == ([2] if second > 16 else [])


def test_a_store_that_does_not_answer_is_machine_0(clock):
    other, first = Pulse(1, 2, lambda node, more: 1, 10), Pulse(0, 2, lambda node, more: 1, 10)
    other.beat()
    clock[0] = 9.0
    assert other.lost() == []
    clock[0] = 11.0
    assert other.lost() == [0]
    assert first.lost() == [], "machine 0 has the store itself, and is merely busy"


def test_who_watches_and_for_how_long():
    def never(error: NacreError) -> None:
        raise error

    watch_machines(never, {"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "LOCAL_RANK": "0"})
    watch_machines(never, {"GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2", "LOCAL_RANK": "1"})
    for given in ("soon", "1", "nan"):
        several = {"GROUP_WORLD_SIZE": "2", "LOCAL_RANK": "0", "NACRE_LOST_AFTER_S": given}
        with pytest.raises(InputError, match=f"'{given}' is no time to wait for a machine"):
            watch_machines(never, several)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_worker_ends_the_group_and_the_same_command_goes_on_from_the_parts(yard: Yard):
    tag = str(yard.root)
    words = yard.words("fsdp=full_shard", "finetuning_type=full", "--launch", "torchrun", "--processes", "2", batch=4)
    running = start(*words, cwd=yard.root, env={TAG: tag})
    yard.until_saved([running])
    kill(workers(tag)[1])
    out, said = running.communicate()
    assert (running.returncode, "Traceback" in said) == (1, False)
    newest, error = yard.checkpoints()[-1], json.loads(out)["error"]
    assert error["what"] == "process 1 of the training was killed (SIGKILL)"
    assert f"it goes on from {newest.name}" in error["fix"]
    until(lambda: workers(tag) == {})
    for part in ("pytorch_model_fsdp_0", "optimizer_0"):
        sizes = [path.stat().st_size for path in (newest / part).glob("__[01]_*.distcp")]
        assert len(sizes) == 2, "each process writes its part"
        assert max(sizes) < 2 * min(sizes)
    assert not (newest / "model.safetensors").exists()
    found = _done(start(*words, cwd=yard.root))
    assert f"resumed from {newest.name}" in found["notes"]
    assert found["final_loss"] == pytest.approx(yard.alone("finetuning_type=full")["final_loss"], abs=1e-4)


def _done(running: "subprocess.Popen[str]") -> dict:
    out, said = running.communicate()
    assert running.returncode == 0, said
    return json.loads(out)
