"""MLflow shows what the ledger says: on its database at once, and on a real server, through its REST interface."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirror_kit import add_version, judge, listening, make_space
from nacre.cycle.mirrors.mirror import deliver, standings
from nacre.cycle.mirrors.receiver import DeliveryError
from nacre.cycle.workspace import Workspace
from nacre.records import Version
from workspace_kit import Place, start, write_increment

pytest.importorskip("mlflow")


@dataclass
class Server:
    """`mlflow server` on a SQLite database of its own."""

    root: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    names: str = "bot"  # of the model and of the experiment that are looked at

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        program = os.environ.get("NACRE_MLFLOW_SERVER") or str(Path(sys.executable).with_name("mlflow"))
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self.root}/mlflow.db"]
        words += ["--artifacts-destination", f"{self.root}/files"]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, *words], env=os.environ | quiet, stdout=log, stderr=log, cwd=self.root, start_new_session=True
            )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.root / "log").read_text()
            try:
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError((self.root / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def ask(self, path: str, **words: Any) -> Any:
        """GET of MLflow's REST interface."""
        answer = httpx.get(f"{self.url}/api/2.0/mlflow/{path}", params=words, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def versions(self) -> dict[str, dict[str, Any]]:
        """Registered versions by the ledger's number; none may be there twice."""
        found = self.ask("model-versions/search", filter=f"name='{self.names}'", max_results=1000).get(
            "model_versions", []
        )
        shown = {tags(one)["nacre.version"]: one for one in found}
        assert len(shown) == len(found), "a version is registered twice"
        return shown

    def runs(self) -> dict[str, dict[str, Any]]:
        """Runs by the ledger's number; none may be there twice."""
        experiment = self.ask("experiments/get-by-name", experiment_name=self.names)["experiment"]["experiment_id"]
        body = {"experiment_ids": [experiment], "max_results": 1000}
        found = httpx.post(f"{self.url}/api/2.0/mlflow/runs/search", json=body, timeout=30).json().get("runs", [])
        shown = {tags(one["data"])["nacre.version"]: one for one in found}
        assert len(shown) == len(found), "a version has two runs"
        return shown

    def aliases(self) -> dict[str, str]:
        """Each alias with the number that the ledger has for the version it points to."""
        model = self.ask("registered-models/get", name=self.names)["registered_model"]
        ours = {one["version"]: number for number, one in self.versions().items()}
        return {one["alias"]: ours[one["version"]] for one in model.get("aliases", [])}

    def curve(self, run: str, name: str) -> list[tuple[int, float]]:
        found = self.ask("metrics/get-history", run_id=run, metric_key=name, max_results=1000)["metrics"]
        return [(int(one["step"]), float(one["value"])) for one in found]


def tags(shown: dict[str, Any]) -> dict[str, str]:
    return {one["key"]: one["value"] for one in shown.get("tags", [])}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Server(tmp_path_factory.mktemp("mlflow"), port)
    found.start()
    yield found
    found.stop()


def assert_equal(server: Server, space: Workspace) -> None:
    """What the REST interface shows is what the ledger says: versions, lineage, curves, scores, verdicts, slots."""
    ledger = space.ledger
    known = ledger.versions()
    shown, runs = server.versions(), server.runs()
    assert set(shown) == set(runs) == {str(version.number) for version in known}
    for version in known:
        one, run = shown[str(version.number)], runs[str(version.number)]
        assert one["run_id"] == run["info"]["run_id"]
        assert one["version"] == str(version.number), "MLflow's number is another one"
        assert version.artifact in one["source"]
        for told in (tags(one), tags(run["data"])):
            assert_lineage(told, version, space)
        assert run["info"]["status"] == "FINISHED"
        params = {each["key"]: each["value"] for each in run["data"]["params"]}
        assert params["tune.name"] == version.recipe.tune.name
        assert params["train.learning_rate"] == str(version.recipe.train.learning_rate)
        log = (space.store.path(version.artifact) / "trainer_log.jsonl").read_text().splitlines()
        losses = [(entry["step"], entry["loss"]) for entry in map(json.loads, log) if "loss" in entry]
        assert losses
        curve = server.curve(one["run_id"], "loss")
        assert curve == [(step, pytest.approx(loss)) for step, loss in losses]
        metrics = {each["key"]: each["value"] for each in run["data"]["metrics"]}
        for report in ledger.reports(weights=version.artifact):
            assert metrics[f"score/{report.task.replace('/', '_')}"] == pytest.approx(report.mean)
    assert server.aliases() == {name: str(slot.version) for name, slot in ledger.slots().items()}


def assert_lineage(told: dict[str, str], version: Version, space: Workspace) -> None:
    verdict = space.ledger.verdict(version.number)
    assert told["nacre.artifact"] == version.artifact
    assert told["nacre.parents"] == ",".join(map(str, version.parents))
    assert told["nacre.base_sha256"] == version.base_sha256
    assert told["nacre.snapshot"] == version.snapshot.digest
    assert told.get("nacre.verdict") == (verdict.outcome if verdict else None)


def caught_up(space: Workspace) -> bool:
    (found,) = deliver(space, patient=False)
    assert not found.parked, found
    return found.whole


def test_its_database_is_followed_without_a_server(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    settings = {"uri": "sqlite:///mlflow.db", "experiment": "bot", "model": "bot"}
    with make_space(tmp_path / "space", mlflow=settings) as space:
        for number in (1, 2):
            add_version(space, number)
            judge(space, number, 0.5 * number)
            space.ledger.promote(number, actor="ann", why="x")
        assert caught_up(space)
        client = MlflowClient(f"sqlite:///{space.root}/mlflow.db", f"sqlite:///{space.root}/mlflow.db")
        model = client.get_registered_model("bot")
        assert model.aliases == {"champion": 2, "previous-1": 1}
        version = client.get_model_version_by_alias("bot", "champion")
        run = client.get_run(version.run_id)
        assert version.source == (space.store.root / space.ledger.version(2).artifact).as_uri()
        assert [(one.step, one.value) for one in client.get_metric_history(version.run_id, "loss")] == [
            (1, 2.0),
            (2, 1.0),
            (3, 2.0 / 3),
        ]
        assert run.data.metrics["score/paint"] == 1.0
        assert run.data.tags["nacre.verdict"] == version.tags["nacre.verdict"] == "pass"
        assert run.data.params["tune.name"] == "full"

        space.ledger.rollback(actor="ann", why="bad")
        client.set_registered_model_alias("bot", "my-own", "2")
        assert caught_up(space)
        assert client.get_registered_model("bot").aliases == {"champion": 1, "my-own": 2}
        assert not (Path.cwd() / "mlruns").exists()

        space.ledger.record("collected", "gc", {"artifacts": [space.ledger.version(2).artifact], "rows": []})
        assert caught_up(space)
        assert client.get_model_version("bot", "2").tags["nacre.weights"] == "removed by nacre gc"
        assert "nacre.weights" not in client.get_model_version("bot", "1").tags

    with make_space(tmp_path / "other", mlflow=settings | {"uri": f"sqlite:///{tmp_path}/space/mlflow.db"}) as other:
        add_version(other, 1)
        (found,) = deliver(other)
        assert "mirrors another ledger" in found.error
        assert len(client.search_model_versions("name='bot'")) == 2


def test_a_missing_mlflow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.delitem(sys.modules, "nacre.cycle.mirrors.mlflow_client", raising=False)
    with make_space(tmp_path, mlflow={"uri": "http://127.0.0.1:9"}) as space:
        add_version(space, 1)
        (found,) = deliver(space)
        assert "pip install 'nacre[mlflow]'" in found.error


@pytest.mark.parametrize("retries", [None, "2"])
def test_a_call_of_the_mirror_is_made_once_and_leaves_the_environment_alone(
    retries: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

    from nacre.cycle.mirrors.mlflow_client import Client

    for name in ("MAX_RETRIES", "TIMEOUT"):
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    if retries is not None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", retries)
    before = dict(os.environ)
    with listening() as address:
        client = Client(address.url.partition("/hook")[0], "bot", "ledger")
        assert dict(os.environ) == before
        address.answers = [503] * 20
        with pytest.raises(DeliveryError):
            client.create_run("one", {}, 0)
        assert len(address.got) == 1 + int(retries or 0), "what the user asks for is done"
    assert dict(os.environ) == before
    assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == int(retries or MLFLOW_HTTP_REQUEST_MAX_RETRIES.default) != 0
    assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() == MLFLOW_HTTP_REQUEST_TIMEOUT.default


def test_calls_of_the_mirror_that_overlap_keep_their_settings_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    from nacre.cycle.mirrors.mlflow_client import _asking

    name, timeout = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
    monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(timeout, raising=False)
    first, second = _asking(), _asking()
    with first:
        second.__enter__()
        assert os.environ[name] == "0"
    assert os.environ[name] == "0", "the second is under way"
    os.environ[timeout] = "77"
    second.__exit__(None, None, None)
    assert name not in os.environ
    assert os.environ[timeout] == "77", "somebody else has set it meanwhile"


@pytest.mark.slow
def test_a_real_server_shows_what_the_commands_did(server: Server, lived_in: Place) -> None:
    lived_in.settings(mlflow={"uri": server.url, "experiment": "bot", "model": "bot"})
    lived_in.json("rollback")
    lived_in.json("mirror", "run")
    with Workspace.open(lived_in.root) as space:
        assert_equal(server, space)
    lived_in.json("promote", 2)
    server.stop()
    write_increment(lived_in.dataset, "increment_2", "place")
    begun = time.monotonic()
    assert lived_in.json("evolve", "increment_2")["promoted"]
    assert time.monotonic() - begun < 120
    lived_in.json("rollback")
    lived_in.json("promote", 3)
    (found,) = lived_in.json("mirror", "status")["followers"]
    assert found["behind"] >= 4
    assert found["error"]
    server.start()
    lived_in.json("mirror", "run")
    with Workspace.open(lived_in.root) as space:
        assert_equal(server, space)
        assert server.aliases() == {"champion": "3", "previous-1": "2", "previous-2": "1"}


@pytest.mark.slow
def test_a_mirror_killed_at_any_moment_leaves_nothing_twice(server: Server, tmp_path: Path) -> None:
    settings = {"uri": server.url, "experiment": "bot-2", "model": "bot-2"}
    with make_space(tmp_path / "space", mlflow=settings) as space:
        for number in range(1, 9):
            add_version(space, number, steps=40)
            judge(space, number, number / 10)
            space.ledger.promote(number, actor="ann", why="x")
            if number == 3:
                space.ledger.rollback(actor="ann", why="x")
        space.ledger.place("shadow", 3, actor="ann", why="x")
        kills = 0
        while standings(space)[0].behind:
            child = start("mirror", "run", cwd=space.root)
            wait_for_progress(space, child)
            if child.poll() is None:
                kills += 1
            child.kill()
            child.communicate()
        assert kills >= 5, "the mirror was hardly ever killed in its work"
        assert caught_up(space)
        assert_equal(replace(server, names="bot-2"), space)


def wait_for_progress(space: Workspace, child: "subprocess.Popen[str]") -> None:
    """Until the child has told three events more, and a moment of chance beyond."""
    before, deadline = standings(space)[0].behind, time.monotonic() + 60
    while child.poll() is None and time.monotonic() < deadline:
        if standings(space)[0].behind <= before - 3:
            time.sleep((time.time_ns() % 97) / 400)
            return
        time.sleep(0.01)
