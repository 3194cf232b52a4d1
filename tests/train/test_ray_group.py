"""`--launch ray`: the group that a real Ray starts here, one of whose workers is killed; and what is refused."""

import json
import os
import sys
from importlib.util import find_spec

import psutil
import pytest
from lost_kit import Yard, kill, until, yard

from nacre.base.errors import InputError
from nacre.cli.launch import set_variables, take_words
from nacre.records import Train
from nacre.train.launch import RAY, Launch, check_one_training, launch_of
from nacre.train.run import train
from workspace_kit import start

__all__ = ["yard"]

VARIABLES = ("USE_RAY", "FORCE_TORCHRUN", "NPROC_PER_NODE", "NNODES", "NODE_RANK", "MAX_RESTARTS")


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that say how a group is started, none of them set; as they were afterwards."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return os.environ


def test_words_for_ray(environ):
    others = take_words(["a.yaml", "--launch", "ray", "--processes", "4", "--nodes", "2", "--restarts=3"])
    assert others == ["a.yaml"]
    launch = launch_of(Train(), environ)
    assert launch == Launch(processes=4, nodes=2, by=RAY, restarts=3)
    assert (launch.world, launch.commands) == (8, 1)
    check_one_training(Train(learning_rate="pilot"), launch)
    take_words(["--processes", "3"])
    assert launch_of(Train(), environ) == Launch(processes=3, nodes=2, by=RAY, restarts=3)
    take_words(["--launch", "torchrun", "--nodes", "1"])
    assert launch_of(Train(), environ) == Launch(processes=3, restarts=3)


@pytest.mark.parametrize("word", [{"node_rank": "0"}, {"master": "10.0.0.1:29500"}])
def test_ray_connects_its_machines_itself(environ, word):
    with pytest.raises(InputError, match="Ray counts its machines and connects them itself"):
        set_variables({"launch": "ray", **word})
    assert "USE_RAY" not in environ


def test_a_launcher_that_does_not_exist(environ):
    with pytest.raises(InputError, match="unknown launcher 'rai'") as caught:
        set_variables({"launch": "rai"})
    assert "did you mean 'ray'?" in caught.value.fix


def test_what_ray_needs_is_named(toy, tmp_path, environ, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "nacre.train.ray_group", raising=False)
    monkeypatch.setenv("USE_RAY", "1")
    job = toy.job(tmp_path)
    with pytest.raises(InputError, match="ray is not installed here") as caught:
        train(job)
    assert "pip install 'nacre[ray]'" in caught.value.fix
    assert not job.work.exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make install-ray")
def test_ray_goes_on_without_a_lost_worker_to_the_loss_of_one_process(yard: Yard, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = yard.words("--launch", "ray", "--processes", "2", "--restarts", "1", batch=4)
    running = start(*words, cwd=yard.root)
    yard.until_saved([running])
    everything = psutil.Process(running.pid).children(recursive=True)
    trainers = [one for one in everything if "RayTrainWorker" in " ".join(one.cmdline())]
    assert len(trainers) == 2, [one.cmdline() for one in everything]
    kill(trainers[1].pid)
    out, said = running.communicate()
    assert running.returncode == 0, said
    found, alone = json.loads(out), yard.alone()
    assert any(note.endswith("; the group began again") for note in found["notes"]), found["notes"]
    assert any(note.startswith("resumed from checkpoint-") for note in found["notes"]), found["notes"]
    assert found["steps"] == alone["steps"]
    assert found["final_loss"] == pytest.approx(alone["final_loss"], abs=1e-4)
    until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in everything))
