"""What a run leaves behind when it is killed, torn or out of space, and how the next one goes on."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from train_kit import Bomb, furthest, tensors
from transformers import TrainerState

from nacre.base.errors import NacreError
from nacre.train.checkpoints import MARKER, disk_errors_of_weights, newest_valid
from nacre.train.log import LOG, LiveLog
from nacre.train.protect import PROTECTIONS
from nacre.train.run import Job, train

ARM = {"train": {"save_steps": 3, "max_steps": 12}, "protect": ["replay", "distill", "bomb"]}
LORA = {"name": "lora", "rank": 4, "dropout": 0.2}
TUNES = {"full": "full", "lora": LORA}

LONG = {"protect": "auto", "train": {"save_steps": 5, "max_steps": 80, "epochs": 20.0}}

SCRIPT = f"""
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3].split(":")
from toy_kit import open_toy
from nacre.train.protect import PROTECTIONS
from nacre.train.run import Job, train
train(open_toy(Path(sys.argv[1])).job(Path(sys.argv[2]), **{LONG!r}))
"""


def checkpoints(work: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in work.glob("checkpoint-*"))


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    """By tuner: a folder with a run that stopped in its eighth step, and the weights of one that did not."""

    @cache
    def made(tune: str) -> tuple[Path, dict[str, torch.Tensor]]:
        folder = tmp_path_factory.mktemp(tune)
        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(PROTECTIONS._entries, "bomb", "train_kit:Bomb")
            patched.setattr(Bomb, "at", 7)
            job = toy.job(folder / "broken", tune=TUNES[tune], **ARM)
            with pytest.raises(KeyboardInterrupt):
                train(job)
            Bomb.at = None
            unbroken = toy.learn(folder / "unbroken", tune=TUNES[tune], **ARM)
        assert checkpoints(job.work) == [3, 6]
        assert not (job.work / "result").exists()
        return folder / "broken", tensors(unbroken)

    return made


@pytest.fixture
def broken_off(toy, bomb, runs, tmp_path):
    """A copy of the run that stopped, to go on with."""

    def copied(tune: str = "full") -> Job:
        shutil.copytree(runs(tune)[0], tmp_path / tune)
        return toy.job(tmp_path / tune, tune=TUNES[tune], **ARM)

    return copied


@pytest.fixture
def unbroken(runs):
    return lambda tune="full": runs(tune)[1]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(toy, tmp_path):
    job = toy.job(tmp_path / "killed", **LONG)
    kit = str(Path(__file__).parents[1])
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, toy.base.model, tmp_path / "killed", kit])
    try:
        deadline = time.monotonic() + 120
        while not list(job.work.glob(f"checkpoint-*/{MARKER}")) and time.monotonic() < deadline:
            assert process.poll() is None, "the run failed"
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.5))
        assert process.poll() is None, "the run must be killed before its end"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    newest = newest_valid(job.work)[0]
    assert newest is not None
    assert not (job.work / "result").exists()
    resumed = train(job)
    assert f"resumed from {newest.name}" in resumed.notes
    assert resumed.steps == 80
    assert furthest(tensors(resumed), tensors(toy.learn(tmp_path / "whole", **LONG))) < 1e-6


@pytest.mark.parametrize("tune", TUNES)
def test_a_run_that_broke_off_ends_with_the_weights_of_an_unbroken_one(broken_off, unbroken, tune):
    job = broken_off(tune)
    trained = train(job)
    assert "resumed from checkpoint-6" in trained.notes
    assert furthest(tensors(trained), unbroken(tune)) < 1e-6


@pytest.mark.slow
def test_an_adapter_is_resumed_beside_the_one_that_teaches_it(toy, bomb, tmp_path):
    first = toy.learn(tmp_path / "first", tune=LORA, train={"max_steps": 5})
    start = toy.base.changed(identity="first", adapter=first.folder)
    options = {**ARM, "tune": LORA}
    job = replace(toy.job(tmp_path / "broken", task="place", **options), start=start)
    bomb.at = 7
    with pytest.raises(KeyboardInterrupt):
        train(job)
    bomb.at = None
    resumed = train(job)
    whole = train(replace(toy.job(tmp_path / "whole", task="place", **options), start=start))
    assert "resumed from checkpoint-6" in resumed.notes
    assert furthest(tensors(resumed), tensors(whole)) < 1e-6


def tear(checkpoint: Path, how: str) -> None:
    if how == "no marker":
        (checkpoint / MARKER).unlink()
    elif how == "no optimizer":
        (checkpoint / "optimizer.pt").unlink()
    else:
        weights = checkpoint / "model.safetensors"
        os.truncate(weights, weights.stat().st_size - 1)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no marker", "skipped checkpoint-6: it was not finished (no list of its files)"),
        ("no optimizer", "skipped checkpoint-6: optimizer.pt is missing"),
        ("one byte less", "skipped checkpoint-6: model.safetensors has "),
    ],
)
def test_a_torn_checkpoint_is_skipped_by_name_for_the_one_before(broken_off, unbroken, how, said):
    job = broken_off()
    tear(job.work / "checkpoint-6", how)
    trained = train(job)
    assert any(note.startswith(said) for note in trained.notes)
    assert "resumed from checkpoint-3" in trained.notes
    assert furthest(tensors(trained), unbroken()) < 1e-6


def test_without_a_whole_checkpoint_the_run_begins_again_and_leaves_no_torn_one(broken_off, unbroken):
    job = broken_off()
    for step in (3, 6):
        tear(job.work / f"checkpoint-{step}", "no marker")
    (job.work / "checkpoint-99").mkdir()
    trained = train(job)
    assert not any(note.startswith("resumed") for note in trained.notes)
    assert furthest(tensors(trained), unbroken()) < 1e-6
    assert all((path / MARKER).exists() for path in job.work.glob("checkpoint-*"))


@pytest.mark.slow
def test_other_data_or_settings_never_go_on_from_a_checkpoint(broken_off, toy, tmp_path):
    job = broken_off()
    changed = {
        "data": replace(job, new=job.new[1:]),
        "memory": replace(job, memory={"place": toy.tasks["place"]}),
        "start": replace(job, start=toy.base.changed(identity="other"), previous=toy.base),
        "settings": replace(job, recipe=toy.job(tmp_path, **ARM | {"tune": LORA}).recipe),
    }
    for what, other in changed.items():
        work = tmp_path / f"other-{what}"
        shutil.copytree(job.work, work)
        trained = train(replace(other, work=work, recipe=other.recipe))
        assert "removed checkpoint-3, checkpoint-6: of other data or settings" in trained.notes, what
        assert not any(note.startswith("resumed") for note in trained.notes)
    assert "resumed from checkpoint-6" in train(job).notes


def test_a_finished_run_is_not_trained_again(toy, tmp_path, spy):
    job = toy.job(tmp_path, protect=["spy"], train={"max_steps": 4})
    first = train(job)
    weights = tensors(first)
    again = train(job)
    assert len(spy.steps) == 4
    assert furthest(tensors(again), weights) == 0
    assert again.final_loss == first.final_loss


@pytest.fixture
def little_disk(tmp_path):
    """Mounts a disk of so many kilobytes, where that is allowed."""
    mounted = []

    def mount(kilobytes: int) -> Path:
        place = tmp_path / "disk"
        place.mkdir()
        options = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place]
        if subprocess.run(options, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize("kilobytes", [60, 120, 240, 500])
def test_a_full_disk_ends_in_one_clear_error_and_nothing_half_written(toy, little_disk, tmp_path, kilobytes):
    """The space gives out in the weights, in the optimizer's state, or in the result."""
    disk = little_disk(kilobytes)
    job = replace(toy.job(tmp_path, train={"max_steps": 4, "save_steps": 2}), work=disk / "run")
    with pytest.raises(NacreError, match="the disk is full") as full:
        train(job)
    assert str(disk / "run") in full.value.where
    assert "free some space" in full.value.fix
    assert not (job.work / "result").exists()
    log = job.work / LOG
    if log.exists():  # stays for those who look on, in whole lines
        text = log.read_text()
        assert text == "" or text.endswith("\n")
        assert all("step" in json.loads(line) for line in text.splitlines())
    left = {path.name for path in job.work.iterdir()} - {"nacre-run.txt", LOG}
    assert left <= {"checkpoint-2", "checkpoint-4"}
    assert all((job.work / name / MARKER).exists() for name in left)


FULL = {
    "system": OSError(28, "No space left on device"),
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    "torch's writer": RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_every_librarys_words_for_a_full_disk_are_understood(error, tmp_path):
    with pytest.raises(NacreError, match="the disk is full") as full, disk_errors_of_weights(tmp_path):
        raise error
    assert full.value.where == str(tmp_path)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), SafetensorError("header too small"), KeyError(1)])
def test_other_errors_are_not_taken_for_a_full_disk(error, tmp_path):
    with pytest.raises(type(error)), disk_errors_of_weights(tmp_path):
        raise error


def test_a_disk_that_is_full_for_the_result_leaves_the_checkpoint(toy, tmp_path, monkeypatch):
    job = toy.job(tmp_path, train={"max_steps": 2})
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with monkeypatch.context() as patched:
        patched.setattr(
            type(toy.tokenizer), "save_pretrained", lambda self, folder, **_: failing(folder, job.work, full)
        )
        with pytest.raises(NacreError, match="the disk is full"):
            train(job)
    assert [path.name for path in job.work.iterdir() if path.name.startswith((".", "result"))] == []
    trained = train(job)
    assert "resumed from checkpoint-2" in trained.notes
    assert (trained.folder / "model.safetensors").exists()


def test_a_log_on_a_full_disk_ends_with_a_whole_line(tmp_path):
    state = TrainerState(is_world_process_zero=True, max_steps=2)
    log = LiveLog(tmp_path)
    log.on_train_begin(None, state, None)
    state.log_history.append({"step": 1, "loss": 0.5})
    log.on_log(None, state, None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / LOG).stat().st_size + 10, before[1]))
    state.log_history.append({"step": 2, "loss": 0.4})
    try:
        with pytest.raises(OSError, match="File too large"):
            log.on_log(None, state, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [json.loads(line)["step"] for line in (tmp_path / LOG).read_text().splitlines()] == [1]


def failing(folder: str, work: Path, error: Exception) -> None:
    """Fails in the result's folder only: checkpoints hold the tokenizer too."""
    if Path(folder).parent == work and not Path(folder).name.startswith("checkpoint"):
        raise error


def test_a_marker_lists_every_file_with_its_size(toy, tmp_path):
    job = toy.job(tmp_path, train={"max_steps": 2})
    train(job)
    checkpoint = job.work / "checkpoint-2"
    listed = json.loads((checkpoint / MARKER).read_text())
    assert listed == {path.name: path.stat().st_size for path in checkpoint.iterdir() if path.name != MARKER}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= listed.keys()
    assert newest_valid(tmp_path / "nowhere") == (None, [])
