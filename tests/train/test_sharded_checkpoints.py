"""Checkpoints of which each process writes its part: gone on from, by as many processes or by others."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from safetensors.torch import load_file
from train_kit import furthest, tensors

from nacre.base.errors import InputError
from nacre.records import Recipe, Train
from nacre.train import processes
from nacre.train.checkpoints import check_writers
from nacre.train.job import Job, Trained

SCRIPT = Path(__file__).with_name("group_resume_script.py")
SHARDINGS = ("none", "fsdp2", *(("zero2", "zero3") if find_spec("deepspeed") else ()))
PARTS = {
    "fsdp2": "optimizer_0/__[01]_*.distcp",
    "zero2": "global_step3/*optim_states.pt",
    "zero3": "global_step3/*optim_states.pt",
}
CLOSE = 1e-5


def run(count: int, how: str, files: list[Path]) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.run([*words, str(SCRIPT), how, *map(str, files)], capture_output=True, text=True, check=False)


def write(path: Path, job: Job) -> Path:
    path.write_bytes(TypeAdapter(Job).dump_json(job))
    return path


def trained(path: Path) -> Trained:
    return TypeAdapter(Trained).validate_json(path.with_suffix(".trained").read_bytes())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_parts_are_gone_on_from_by_as_many_processes_or_by_others(toy, tmp_path):
    settings = {"save_steps": 3, "max_steps": 6, "batch_size": 6}
    jobs = {
        name: toy.job(tmp_path / name, protect=["replay"], train={**settings, "sharding": name}) for name in SHARDINGS
    }
    files = {name: write(tmp_path / f"{name}.json", job) for name, job in jobs.items()}
    done = run(2, "twice", list(files.values()))
    assert done.returncode == 0, done.stderr[-4000:]
    for name, parts in PARTS.items():
        found = sorted((tmp_path / name / "run" / "checkpoint-3").glob(parts))
        assert len(found) == 2 or name not in SHARDINGS, f"{name}: each process writes its part"
    first = {name: load_file(tmp_path / name / "first" / "model.safetensors") for name in SHARDINGS}
    for name, path in files.items():
        again = trained(path)
        assert "resumed from checkpoint-3" in again.notes, name
        assert not any("was written by" in note for note in again.notes)
        assert furthest(first[name], tensors(again)) < CLOSE, name
        whole = trained(files["none"]).drift
        assert whole > 0.01
        assert again.drift == pytest.approx(whole, rel=1e-2), f"{name}: compared with the start, not the checkpoint"

    copies = {name: replace(job, work=job.work.with_name("copy")) for name, job in jobs.items()}
    others = {name: write(tmp_path / f"{name}-by-3.json", job) for name, job in copies.items()}
    done = run(3, "once", list(others.values()))
    for name in ("none", "fsdp2"):
        again = trained(others[name])
        assert {"resumed from checkpoint-3", _told(again)} <= set(again.notes), name
        assert furthest(first[name], tensors(again)) < CLOSE, name
    if "zero2" in others:
        assert done.returncode != 0
        said = others["zero2"].with_suffix(".refused").read_text()
        assert "checkpoint-3 was written by 2 processes, each its part; zero2 cannot deal it out to 3" in said
        assert (copies["zero2"].work / "checkpoint-3").is_dir(), "it is still there for those who can"


def _told(again: Trained) -> str:
    return next(note for note in again.notes if note.startswith("checkpoint-3 was written by 2 processes: "))


def test_who_may_go_on_from_what_others_wrote(tmp_path, monkeypatch):
    for rank in range(2):
        (tmp_path / f"rng_state_{rank}.pth").touch()
    monkeypatch.setattr(processes, "world", lambda: 2)
    assert [check_writers(tmp_path, name) for name in ("none", "fsdp2", "zero2", "zero3")] == [[], [], [], []]
    monkeypatch.setattr(processes, "world", lambda: 3)
    assert "dropout" in check_writers(tmp_path, "fsdp2")[0]
    for name in ("zero2", "zero3"):
        with pytest.raises(InputError, match="cannot deal it out to 3") as caught:
            check_writers(tmp_path, name)
        assert "train in 2 processes" in caught.value.fix


def test_how_many_share_a_step_is_no_other_training():
    two, three = (Recipe(train=Train(processes=count)) for count in (2, 3))
    assert two.alone == three.alone == Recipe()
    assert two.alone != Recipe(train=Train(sharding="fsdp2")).alone
