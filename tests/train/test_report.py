"""The curves of a run, read back from where people look at them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nacre.base.errors import InputError
from nacre.train.report import check_reports, reporters

KINDS = ("tensorboard", "mlflow", "wandb")


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """One run that reports everywhere; W&B without its server."""
    for name in KINDS:
        pytest.importorskip(name)
    work = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        train = {"max_steps": 12, "logging_steps": 2, "report_to": list(KINDS)}
        job = {"max_drop": {"paint": 0.0}, "work": work / "runs" / "one"}
        return toy.learn(work, protect=["replay"], train=train, job=job), work.parent / work.name


def test_tensorboard_has_the_loss_and_the_budgets_curves(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, work = trained
    (events,) = (work / "logs").rglob("events.out.tfevents*")
    found = EventAccumulator(str(events)).Reload()
    losses = found.Scalars("train/loss")
    assert [point.step for point in losses] == [2, 4, 6, 8, 10, 12]
    assert losses[-1].value == pytest.approx(run.final_loss, rel=1e-3)
    assert "train/watched_drop/paint" in found.Tags()["scalars"]
    assert any(note.startswith("curves: tensorboard --logdir ") for note in run.notes)


def test_mlflow_has_the_run_with_its_loss(trained, monkeypatch):
    from mlflow import MlflowClient

    run, work = trained
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient((work / "logs" / "mlruns").resolve().as_uri())
    (kept,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert kept.data.metrics["loss"] == pytest.approx(run.final_loss, rel=1e-3)
    assert kept.data.params["learning_rate"] == "0.003"


def test_wandb_writes_its_files_without_a_server(trained):
    _, work = trained
    assert list((work / "logs").rglob("*.wandb"))


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_installed_is_refused_before_training_with_the_extra_that_brings_it(
    name, toy, tmp_path, monkeypatch
):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == name else real(wanted))
    with pytest.raises(InputError, match="is not installed") as refused:
        toy.learn(tmp_path, train={"report_to": [name]})
    assert f"nacre[{name}]" in refused.value.fix
    assert not Path(tmp_path / "run").exists()


@pytest.fixture
def stranger(monkeypatch, tmp_path):
    """Nobody who ever logged in to W&B."""
    monkeypatch.setattr(pytest.importorskip("wandb"), "run", None)  # another test's may still be open
    for name in ("MODE", "API_KEY", "IDENTITY_TOKEN_FILE", "BASE_URL", "DIR", "CONFIG_DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_wandb_without_a_login_is_refused_before_training(toy, stranger):
    with pytest.raises(InputError, match="nobody is logged in to Weights & Biases") as refused:
        toy.learn(stranger, train={"report_to": ["wandb"]})
    assert refused.value.where == "train.report_to: wandb"
    assert refused.value.fix == "wandb login, or WANDB_MODE=offline, or take wandb out of report_to"
    assert not (stranger / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_MODE", "offline"),
        ("WANDB_MODE", "disabled"),
        ("WANDB_API_KEY", 40 * "a"),
        ("WANDB_IDENTITY_TOKEN_FILE", "token"),
    ],
)
def test_wandb_is_fine_with_a_key_or_offline(stranger, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    check_reports(["wandb"])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".netrc", "machine api.wandb.ai login user password key"),
        ("_netrc", "machine api.wandb.ai login user password key"),
        ("wandb/settings", "[default]\nmode = offline\n"),
        (".wandb/settings", "[default]\nmode = offline\n"),
        (".config/wandb/settings", "[default]\napi_key = key\n"),
    ],
)
def test_what_wandb_remembers_of_a_login_counts(stranger, file, text):
    path = stranger / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    check_reports(["wandb"])


def test_a_login_elsewhere_or_one_that_cannot_be_read_is_none(stranger, monkeypatch):
    netrc = stranger / "mine"
    monkeypatch.setenv("NETRC", str(netrc))
    for text in ("machine example.org login user password key", "machine"):
        netrc.write_text(text)
        with pytest.raises(InputError, match="logged in"):
            check_reports(["wandb"])
    netrc.write_text("machine api.wandb.ai login user password key")
    check_reports(["wandb"])
    monkeypatch.setenv("WANDB_BASE_URL", "https://curves.example.org")
    with pytest.raises(InputError, match="logged in"):
        check_reports(["wandb"])
    netrc.write_text("machine curves.example.org login user password key")
    check_reports(["wandb"])


OFFLINE, ONLINE = "[default]\nmode = offline\n", "[default]\nmode = online\n"
FOUND = "import wandb; print(wandb.setup().settings.mode)"


@pytest.mark.parametrize(
    ("files", "folder", "mode"),
    [
        ({}, None, "online"),
        ({"wandb": OFFLINE}, None, "offline"),
        ({".wandb": OFFLINE}, None, "offline"),
        ({".wandb": OFFLINE, "wandb": ONLINE}, None, "offline"),
        ({".wandb": ONLINE, "wandb": OFFLINE}, None, "online"),
        ({".config/wandb": OFFLINE}, None, "offline"),
        ({".config/wandb": OFFLINE, "wandb": ONLINE}, None, "online"),
        ({".config/wandb": OFFLINE, "wandb": "no section"}, None, "offline"),
        ({"other/wandb": OFFLINE}, "other", "online"),
        ({"other/wandb": ONLINE, "wandb": OFFLINE}, "other", "offline"),
    ],
)
def test_the_mode_is_the_one_that_wandb_finds(stranger, monkeypatch, files, folder, mode):
    for place, text in files.items():
        (stranger / place).mkdir(parents=True)
        (stranger / place / "settings").write_text(text)
    if folder is not None:
        monkeypatch.setenv("WANDB_DIR", str(stranger / folder))
    found = subprocess.run([sys.executable, "-c", FOUND], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [mode]
    _, (note,) = reporters(["wandb"], stranger / "logs")
    assert note == f"curves: Weights & Biases, {mode}, files in {stranger / (folder or 'logs')}"
    if mode == "offline":
        check_reports(["wandb"])
    else:
        with pytest.raises(InputError, match="nobody is logged in"):
            check_reports(["wandb"])


def stored(place):
    """The MLflow runs of a folder, by experiment, with how they ended."""
    from mlflow import MlflowClient

    client = MlflowClient(place.resolve().as_uri())
    names = {one.experiment_id: one.name for one in client.search_experiments()}
    return [(names[run.info.experiment_id], run.info.status) for run in client.search_runs(list(names))]


@pytest.fixture
def learn(toy, tmp_path, monkeypatch):
    """Train in a folder of that name, with MLflow and W&B looking on, where neither was told anything."""
    for name in ("mlflow", "wandb"):
        pytest.importorskip(name)
    monkeypatch.setattr(sys.modules["wandb"], "run", None)
    for name in ("TRACKING_URI", "EXPERIMENT_NAME", "EXPERIMENT_ID", "ALLOW_FILE_STORE"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")

    def train(name):
        work = tmp_path / name
        told = {"max_steps": 1, "logging_steps": 1, "report_to": ["mlflow", "wandb"]}
        return " ".join(toy.learn(work, train=told, job={"work": work / "runs" / "one"}).notes)

    return train


def told_environment():
    """What the environment tells MLflow and W&B; W&B itself leaves there where its own process listens."""
    names = (name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_")) and name != "WANDB_SERVICE")
    return {name: os.environ[name] for name in names}


def test_each_training_of_a_process_has_curves_of_its_own(learn, tmp_path, monkeypatch):
    before = told_environment()
    for name in ("first", "second"):
        notes, logs = learn(name), tmp_path / name / "logs"
        assert f"MLflow at {(logs / 'mlruns').resolve().as_uri()}" in notes
        assert f"files in {logs / 'feed-one'}" in notes
        assert told_environment() == before
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name in ("first", "second"):
        logs = tmp_path / name / "logs"
        assert stored(logs / "mlruns") == [("nacre", "FINISHED")]
        assert len(list((logs / "feed-one").rglob("*.wandb"))) == 1

    theirs, files = tmp_path / "theirs", tmp_path / "files"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", theirs.as_uri())
    monkeypatch.setenv("WANDB_DIR", str(files))
    before = told_environment()
    notes = learn("third")
    assert f"MLflow at {theirs.as_uri()}" in notes
    assert f"files in {files}" in notes
    assert stored(theirs) == [("Default", "FINISHED")]
    assert len(list(files.rglob("*.wandb"))) == 1
    assert told_environment() == before
    assert not (tmp_path / "third" / "logs" / "mlruns").exists()


def test_a_training_that_failed_leaves_its_curves_to_no_later_one(learn, tmp_path, monkeypatch):
    from transformers.integrations import MLflowCallback

    kept = []

    def fail(self, *_, **__):
        kept.append(self)  # or it would be collected, and its run ended with it
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(MLflowCallback, "on_log", fail)
        with pytest.raises(OSError, match="the disk is full"):
            learn("first")
    learn("second")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert stored(tmp_path / "first" / "logs" / "mlruns") == [("nacre", "FAILED")]
    assert stored(tmp_path / "second" / "logs" / "mlruns") == [("nacre", "FINISHED")]
    assert len(list((tmp_path / "second" / "logs" / "feed-one").rglob("*.wandb"))) == 1
