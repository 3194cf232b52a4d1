"""The few words of MLflow that the mirror needs, and what its errors mean. The one module that imports mlflow, imported
by whoever tells MLflow something, when there is something to tell.

Each search looks at tags, so that nothing depends on MLflow's own numbers. What a killed process has made twice, the
search finds, and takes the later one away.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from nacre.base.addresses import scrubbed
from nacre.cycle.mirrors.receiver import DeliveryError

BATCH_METRICS, BATCH_PARAMS = 1000, 100  # what MLflow takes at once
LEDGER, VERSION = "nacre.ledger", "nacre.version"
_NOT_THERE, _THERE = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
_REFUSED = (400, 409, 413, 422)
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the mirror tries again itself; a POST made twice is a run made twice
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where commands print JSON
}


@dataclass(frozen=True)
class Run:
    """A run in MLflow."""

    id: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Registered:
    """A registered version in MLflow, with MLflow's own number."""

    number: str
    run_id: str


def connect(uri: str, experiment: str, model: str, ledger: str, folder: str) -> "Client":
    """Reach MLflow, and make the experiment and the registered model where they are missing.

    Args:
        uri: of a server or a database.
        experiment: its name.
        model: name of the registered model.
        ledger: what the ledger is known by.
        folder: where runs of a database without a server would keep files; the mirror writes none.

    Raises:
        DeliveryError: MLflow is not reached, or what stands there belongs to somebody else.
    """
    client = Client(uri, model, ledger)
    client.prepare(experiment, folder)
    return client


class Client:
    """One experiment and one registered model at one MLflow."""

    def __init__(self, uri: str, model: str, ledger: str) -> None:
        with _asking():
            self._client: Any = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._model, self._ledger = model, ledger
        self._experiment = ""
        self.remote = uri.startswith("http")

    def prepare(self, experiment: str, folder: str) -> None:
        """See `connect`."""
        with _asking():
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                place = {} if self.remote else {"artifact_location": folder}
                with _unless(_THERE):
                    self._client.create_experiment(experiment, **place)
                found = self._client.get_experiment_by_name(experiment)
            if found.lifecycle_stage != "active":
                raise DeliveryError(
                    "failed",
                    f"the experiment {experiment} was deleted in MLflow",
                    fix="restore it there, or name another one under mlflow.experiment",
                )
            self._experiment = found.experiment_id
            with _unless(_THERE):
                self._client.create_registered_model(self._model, tags={LEDGER: self._ledger})
            owner = self._client.get_registered_model(self._model).tags.get(LEDGER)
        if owner != self._ledger:
            whose = "mirrors another ledger" if owner else "was made by somebody else"
            raise DeliveryError(
                "failed",
                f"the model {self._model} in MLflow {whose}",
                fix="name another one under mlflow.model",
            )

    # runs

    def find_run(self, number: int) -> Run | None:
        """The run of a version; of several that a killed process left, all but the registered one are deleted."""
        mine = f"tags.`{LEDGER}` = '{self._ledger}' and tags.`{VERSION}` = '{number}'"
        with _asking():
            found = self._client.search_runs([self._experiment], mine, max_results=100)
            if len(found) > 1:
                known = self.find_version(number)
                kept = known.run_id if known else ""
                found = sorted(found, key=lambda run: (run.info.run_id != kept, run.info.run_id))
            for double in found[1:]:
                self._client.delete_run(double.info.run_id)
        return Run(found[0].info.run_id, dict(found[0].data.tags)) if found else None

    def create_run(self, name: str, tags: Mapping[str, str], begin_ms: int) -> Run:
        """A run with its tags, made in one request."""
        with _asking():
            run = self._client.create_run(self._experiment, begin_ms, tags=dict(tags), run_name=name)
        return Run(run.info.run_id, dict(tags))

    def log(self, run: str, params: Mapping[str, str], metrics: Sequence[tuple[str, float, int, int]]) -> None:
        """Log all of it, in as few requests as MLflow allows. What is there already stays as it is."""
        named = [Param(key, value) for key, value in params.items()]
        measured = [Metric(*one) for one in metrics]
        with _asking():
            for begin in range(0, len(named), BATCH_PARAMS):
                self._client.log_batch(run, params=named[begin : begin + BATCH_PARAMS], synchronous=True)
            for begin in range(0, len(measured), BATCH_METRICS):
                self._client.log_batch(run, metrics=measured[begin : begin + BATCH_METRICS], synchronous=True)

    def finish(self, run: str, end_ms: int, tags: Mapping[str, str]) -> None:
        """Close the run; the tags come last and say that it is whole."""
        with _asking():
            self._client.set_terminated(run, "FINISHED", end_ms)
        self.tag_run(run, tags)

    def tag_run(self, run: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        found = [RunTag(key, value) for key, value in tags.items()]
        with _asking():
            self._client.log_batch(run, tags=found, synchronous=True)

    # versions

    def find_version(self, number: int) -> Registered | None:
        """The registered version of a version; of several that a killed process left, all but the first are deleted."""
        wanted = f"name = '{self._model}' and tags.`{VERSION}` = '{number}'"
        with _asking():
            found = list(self._client.search_model_versions(wanted, max_results=100))
            found = sorted(found, key=lambda one: int(one.version))
            for double in found[1:]:
                self._client.delete_model_version(self._model, double.version)
        return Registered(str(found[0].version), found[0].run_id) if found else None

    def create_version(self, number: int, source: str, run: str, tags: Mapping[str, str]) -> Registered:
        """A registered version with its tags, made in one request."""
        told = f"version {number} of the ledger"
        with _asking():
            made = self._client.create_model_version(
                self._model, source, run, dict(tags), description=told, await_creation_for=0
            )
        return Registered(str(made.version), run)

    def tag(self, number: str, tags: Mapping[str, str]) -> None:
        """Set tags of a registered version."""
        with _asking():
            for key, value in tags.items():
                self._client.set_model_version_tag(self._model, number, key, value)

    # aliases

    def aliases(self) -> dict[str, str]:
        """Every alias of the registered model, with MLflow's number of the version it names."""
        with _asking():
            return {
                name: str(number) for name, number in self._client.get_registered_model(self._model).aliases.items()
            }

    def set_alias(self, alias: str, number: str) -> None:
        """Point an alias to a version, wherever it pointed before."""
        with _asking():
            self._client.set_registered_model_alias(self._model, alias, number)

    def delete_alias(self, alias: str) -> None:
        """Take an alias away, if it is there."""
        with _asking(), _unless(_NOT_THERE):
            self._client.delete_registered_model_alias(self._model, alias)


@contextmanager
def _unless(code: str) -> Iterator[None]:
    """Let MLflow's error of that code pass."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != code:
            raise


class _Settings:
    """The mirror's own settings of MLflow, in the environment while one of its calls is under way.

    MLflow has no other place for them and reads them at each request. Were they to stay, a training of this process
    would report its curves without a second try, and every child would inherit them. What the user has set wins.
    """

    def __init__(self) -> None:
        self._lock, self._calls = threading.Lock(), 0
        self._put: dict[str, str] = {}

    def put(self) -> None:
        """At the begin of a call; calls may overlap."""
        with self._lock:
            if not self._calls:
                self._put = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
                os.environ.update(self._put)
            self._calls += 1

    def take_back(self) -> None:
        """At its end."""
        with self._lock:
            self._calls -= 1
            if not self._calls:
                for name in (name for name, value in self._put.items() if os.environ.get(name) == value):
                    del os.environ[name]


_settings = _Settings()


@contextmanager
def _asking() -> Iterator[None]:
    """A call, or some: under the mirror's settings, and with MLflow's errors by what can be done about them."""
    _settings.put()
    try:
        yield
    except MlflowException as error:
        text = scrubbed(str(error))
        raise DeliveryError(_fault(text, error.get_http_status_code()), f"MLflow: {text[:300]}") from error
    except (SQLAlchemyError, OSError) as error:
        raise DeliveryError("failed", f"MLflow: {type(error).__name__}: {scrubbed(str(error))[:300]}") from error
    finally:
        _settings.take_back()


def _fault(text: str, status: int) -> Literal["unreachable", "failed", "refused"]:
    if "failed with exception" in text or "failed with timeout exception" in text:
        return "unreachable"
    return "refused" if status in _REFUSED else "failed"
