"""Two processes train what one would, under every way of sharing the model; and what is said when they cannot."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from safetensors.torch import load_file
from train_kit import furthest, tensors

from nacre.base.errors import InputError, NacreError
from nacre.cli.evolve import one_try
from nacre.cli.launch import only_helps
from nacre.cycle.workspace import Workspace
from nacre.records import Recipe, Train, Weights
from nacre.train.group import train_in_processes
from nacre.train.job import Job, Trained
from nacre.train.last_words import Lost, write_failure
from nacre.train.launch import JOB, Launch, check_batch, launch_of
from nacre.train.protect.auto import ALL
from nacre.train.protect.build import check_protections, fitting
from nacre.train.run import train
from nacre.train.sharding import sharding_of, sharding_options

SCRIPT = Path(__file__).with_name("group_script.py")
BOTH = ["replay", {"name": "distill", "on": ["generic", "replayed"], "rows": 3}]
LORA = {"name": "lora", "rank": 4}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"protect": "none"},
    "replay and distill": {"protect": BOTH},
    "in micro-batches": {"protect": BOTH, "train": {"accumulation": 2}},
    "lora": {"protect": BOTH, "tune": LORA},
    "replay": {"protect": ["replay"]},
    "replay with lora": {"protect": ["replay"], "tune": LORA},
    "ewc": {"protect": ["replay", "ewc"]},
    "l2": {"protect": ["l2"]},
    "agem": {"protect": ["agem"]},
}
# Adam divides by the gradient's size, so that the rounding of a sum made in another order shows in single weights
CLOSE = 1e-5

needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


def job_of(toy, work: Path, case: str, **train: Any) -> Job:
    options = CASES[case]
    return toy.job(work, **{**options, "train": {"max_steps": 5, **options.get("train", {}), **train}})


def in_a_group(jobs: dict[str, Job], folder: Path) -> dict[str, Trained]:
    """Train the jobs one after another in one group of two processes."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{place}.json" for place, name in enumerate(jobs)}
    for name, path in files.items():
        path.write_bytes(TypeAdapter(Job).dump_json(jobs[name]))
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    done = subprocess.run([*words, *map(str, files.values())], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return {
        name: TypeAdapter(Trained).validate_json(path.with_suffix(".trained").read_bytes())
        for name, path in files.items()
    }


def compare(toy, folder: Path, cases: list[str], shardings: list[str]) -> None:
    """The same rows a step, the same losses, the same weights as one process."""
    names = [(case, sharding) for case in cases for sharding in shardings]
    jobs = {
        f"{case}/{sharding}": job_of(toy, folder / sharding / case, case, sharding=sharding) for case, sharding in names
    }
    found = in_a_group(jobs, folder)
    for case, sharding in names:
        alone = train(job_of(toy, folder / "alone" / case, case))
        together = found[f"{case}/{sharding}"]
        assert together.steps == alone.steps
        assert together.final_loss == pytest.approx(alone.final_loss, abs=CLOSE), (case, sharding)
        assert furthest(tensors(alone), tensors(together)) < CLOSE, (case, sharding)
        assert alone.drift > 0.01
        assert together.drift == pytest.approx(alone.drift, abs=1e-4), (case, sharding)


@pytest.mark.slow
def test_two_processes_make_the_weights_of_one(toy, tmp_path):
    compare(toy, tmp_path, ["replay and distill", "in micro-batches", "ewc", "agem"], ["none"])


@pytest.mark.slow
def test_other_protections_and_tuners_too(toy, tmp_path):
    compare(toy, tmp_path, ["plain", "lora", "l2"], ["none"])


@pytest.mark.slow
@needs_deepspeed
def test_zero_makes_the_weights_of_one_process(toy, tmp_path):
    compare(toy, tmp_path / "2", ["replay and distill", "lora"], ["zero2"])
    compare(toy, tmp_path / "3", ["replay", "replay with lora"], ["zero3"])


@pytest.mark.slow
def test_fsdp2_makes_the_weights_of_one_process(toy, tmp_path):
    compare(toy, tmp_path, ["plain", "replay"], ["fsdp2"])


@pytest.mark.parametrize(
    ("sharding", "protection", "reason"),
    [
        ("zero2", "l2", "DeepSpeed makes the step before anyone sees its gradients"),
        ("zero3", "ewc", "DeepSpeed makes the step before anyone sees its gradients"),
        ("zero3", "distill", "what it asks the model beside its rows"),
        ("zero3", "average", "after training no process has the whole model"),
        ("fsdp2", "l2", "each process sees a part of each gradient only"),
    ],
)
def test_a_protection_that_cannot_act_is_refused_before_anything_starts(toy, tmp_path, sharding, protection, reason):
    job = toy.job(tmp_path, protect=[protection], train={"processes": 2, "sharding": sharding})
    with pytest.raises(InputError, match=f"'{protection}' cannot act under {sharding}: {reason}"):
        train(job)
    assert not job.work.exists()


def test_a_fixed_choice_to_freeze_needs_no_gradient(toy, tmp_path):
    def refuses(**options: Any) -> bool:
        freeze = {"name": "freeze", "first": 1, **options}
        try:
            check_protections(toy.job(tmp_path, protect=[freeze], train={"sharding": "zero2"}).recipe)
        except InputError:
            return True
        return False

    assert refuses(gradual=True)
    assert not refuses()


@pytest.mark.slow
def test_what_every_process_was_told_is_kept(toy, tmp_path):
    protect = ["replay", {"name": "distill", "on": ["replayed"], "cache": 8}, {"name": "der", "top": 4}]
    jobs = {
        name: toy.job(tmp_path / name, protect=protect, train={"max_steps": 5, **train})
        for name, train in (("alone", {}), ("together", {"processes": 2}))
    }
    train(jobs["alone"])
    in_a_group({"together": jobs["together"]}, tmp_path / "group")
    for kind in (False, True):
        kept = []
        for job in jobs.values():
            found = (job.shared / "teacher").glob("*.safetensors")
            (path,) = [path for path in found if path.stem.startswith("der-") == kind]
            kept.append({bytes(key) for key in load_file(path)["keys"].tolist()})
        assert kept[0] == kept[1]


@pytest.mark.slow
def test_an_error_of_the_workers_is_told_once_and_nothing_is_left_running(toy, tmp_path, capfd):
    job = toy.job(tmp_path, protect=[{"name": "distill", "length": 64}], train={"processes": 2})
    general = tmp_path / "short.txt"
    general.write_text("red\n", encoding="utf-8")
    job = Job(**{**vars(job), "general": general})
    with pytest.raises(InputError, match="the generic text is shorter than one block of 64 tokens"):
        train(job)
    assert "Traceback" not in capfd.readouterr().err
    assert not running(job.work)


@pytest.mark.slow
def test_a_group_that_was_killed_goes_on_from_its_checkpoint(toy, tmp_path):
    def job(work: Path) -> Job:
        return toy.job(
            work, protect=BOTH, tune=LORA, train={"processes": 2, "max_steps": 60, "save_steps": 5, "epochs": 20.0}
        )

    broken = job(tmp_path / "broken")
    words = "import sys; from pathlib import Path; from pydantic import TypeAdapter; from nacre.train.job import Job"
    words += (
        "; from nacre.train.run import train; train(TypeAdapter(Job).validate_json(Path(sys.argv[1]).read_bytes()))"
    )
    (tmp_path / JOB).write_bytes(TypeAdapter(Job).dump_json(broken))
    command = subprocess.Popen([sys.executable, "-c", words, str(tmp_path / JOB)])
    deadline = time.monotonic() + 300
    while not any(broken.work.glob("checkpoint-*/nacre-checkpoint.json")):
        assert command.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    command.send_signal(signal.SIGKILL)
    command.wait()
    while running(broken.work):  # the workers see by themselves that nobody waits for them any more
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not (broken.work / "result").exists()
    resumed, unbroken = train(broken), train(job(tmp_path / "unbroken"))
    assert any(note.startswith("resumed from checkpoint-") for note in resumed.notes)
    assert furthest(tensors(resumed), tensors(unbroken)) < CLOSE


def running(work: Path) -> list[str]:
    """Command lines of this machine's workers for a work folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "nacre.train.worker" in words and str(work) in words:
            found.append(words)
    return found


def test_who_trains_where():
    assert launch_of(Train(), {}) is None
    assert launch_of(Train(processes=3), {}) == Launch(processes=3)
    assert launch_of(Train(processes=3), {"LOCAL_RANK": "0"}) is None, "a worker starts no workers"
    assert launch_of(Train(), {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "4"}) == Launch(processes=4)
    assert launch_of(Train(), {"NPROC_PER_NODE": "4"}) is None
    assert launch_of(Train(), {"FORCE_TORCHRUN": "1", "CUDA_VISIBLE_DEVICES": "0,2"}) == Launch(processes=2)
    several = {
        "FORCE_TORCHRUN": "1",
        "NNODES": "2",
        "NODE_RANK": "1",
        "NPROC_PER_NODE": "8",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "29500",
    }
    launch = launch_of(Train(), several)
    assert launch == Launch(processes=8, nodes=2, node=1, address="10.0.0.1", port=29500)
    assert launch.world == 16


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"NPROC_PER_NODE": "many"}, "'many' is no number from 1 on"),
        ({"NNODES": "2"}, "2 machines need the address and a free port of the first"),
        ({"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "machine 2 of 2"),
    ],
)
def test_wrong_variables_are_refused(environ, message):
    with pytest.raises(InputError, match=message):
        launch_of(Train(), {"FORCE_TORCHRUN": "1", **environ})


TWO_MACHINES = {
    "FORCE_TORCHRUN": "1",
    "NNODES": "2",
    "NPROC_PER_NODE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29511",
}


@pytest.mark.parametrize("node", ["0", "1"])
def test_several_machines_train_once_only(node, toy, tmp_path, monkeypatch):
    for name, value in TWO_MACHINES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NODE_RANK", node)
    pilot = toy.job(tmp_path, train={"learning_rate": "pilot"})
    with pytest.raises(InputError, match="of 2 machines all but the first train once and end"):
        train(pilot) if node == "0" else only_helps(pilot.recipe.train)


def test_auto_makes_one_try_on_several_machines_and_says_so(tmp_path, monkeypatch):
    Workspace.init(tmp_path / "w", "MODEL")
    with Workspace.open(tmp_path / "w") as space:
        assert one_try(space) == (space, [])
        for name, value in TWO_MACHINES.items():
            monkeypatch.setenv(name, value)
        once, said = one_try(space)
        assert once.settings.keep.tries == 1
        assert said == ["auto: one try of keep.tries 3, because the other machines of 2 train once"]
        assert once.settings.recipe == space.settings.recipe
        assert one_try(once) == (once, [])
    with Workspace.open(tmp_path / "w", {"protect": "none"}) as plain:
        assert one_try(plain) == (plain, [])


def test_a_batch_that_the_processes_cannot_share_is_refused(toy, tmp_path):
    with pytest.raises(InputError, match="for each of 3 processes") as caught:
        train(toy.job(tmp_path, train={"processes": 3, "batch_size": 8}))
    assert "multiple of 3, e.g. 6 or 9" in caught.value.fix
    check_batch(Train(batch_size=12, accumulation=2), 3)


def test_the_users_error_counts_before_what_broke_because_of_it(tmp_path, monkeypatch):
    def broken(launch: Launch, folder: Path, log: Path) -> int:
        write_failure(folder, 0, RuntimeError("connection closed by peer"))
        write_failure(folder, 1, InputError("no rows", where="here", fix="bring some"))
        return 1

    monkeypatch.setattr("nacre.train.torchrun.run", broken)
    with pytest.raises(InputError, match="no rows") as caught:
        train_in_processes(_empty_job(tmp_path), Launch(processes=2))
    assert (caught.value.where, caught.value.fix) == ("here", "bring some")


def test_a_fault_of_the_program_is_one_sentence_and_a_file(tmp_path, monkeypatch):
    def broken(launch: Launch, folder: Path, log: Path) -> int:
        try:
            raise RuntimeError("out of cheese")
        except RuntimeError as error:
            write_failure(folder, 1, error)
        return 1

    monkeypatch.setattr("nacre.train.torchrun.run", broken)
    with pytest.raises(NacreError, match="process 1 of the training broke: RuntimeError: out of cheese") as caught:
        train_in_processes(_empty_job(tmp_path), Launch(processes=2))
    assert "RuntimeError: out of cheese" in Path(caught.value.where).read_text()


def test_a_group_that_ends_without_a_word_is_no_success(tmp_path, monkeypatch):
    def silent(launch: Launch, folder: Path, log: Path) -> int:
        log.write_text("nothing to be read from")
        return 1

    monkeypatch.setattr("nacre.train.torchrun.run", silent)
    with pytest.raises(NacreError, match="ended with code 1") as caught:
        train_in_processes(_empty_job(tmp_path), Launch(processes=2, restarts=1))
    assert not isinstance(caught.value, Lost)
    assert caught.value.fix == "look at the log"


def _empty_job(folder: Path) -> Job:
    start = Weights(identity="x", model="nowhere")
    return Job(start=start, recipe=Recipe(), new=(), work=folder / "run", shared=folder / "memory")


def test_the_launcher_needs_no_torch():
    words = "import sys, nacre.train.group, nacre.train.torchrun, nacre.cli.launch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], env={**os.environ}).returncode == 0


def test_a_deepspeed_file_says_how_the_model_is_shared(tmp_path):
    path = tmp_path / "ds_z3_config.json"
    path.write_text('{"train_batch_size": "auto", "zero_optimization": {"stage": 3, "overlap_comm": true}}')
    assert sharding_of(Train(deepspeed=path)) == "zero3"
    options = sharding_options(Train(deepspeed=path))["deepspeed"]
    assert options["zero_optimization"]["overlap_comm"] is True
    assert options["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    with pytest.raises(InputError, match="sharding is zero2, but the DeepSpeed file says zero3"):
        sharding_of(Train(deepspeed=path, sharding="zero2"))
    path.write_text('{"zero_optimization": {"stage": 7}}')
    with pytest.raises(InputError, match="ZeRO has no stage 7"):
        sharding_of(Train(deepspeed=path))
    with pytest.raises(InputError, match="cannot be read"):
        sharding_of(Train(deepspeed=tmp_path / "missing.json"))


def test_auto_leaves_out_what_cannot_act_and_says_so():
    rungs = fitting(ALL, Recipe(train=Train(sharding="zero3")))
    assert [entry["name"] for entry in rungs[0].protect] == ["replay"]
    assert "left out, because they cannot act in this run: distill" in rungs[0].why
    assert len(rungs) < len(ALL), "the same list is not tried twice"
    assert fitting(ALL, Recipe()) == ALL
