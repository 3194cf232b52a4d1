"""The MLflow mirror: a run and a registered version for each version of the ledger, an alias for each slot.

What stands in MLflow is made equal to what the ledger says; nothing is ever read from there for a decision. Each step
looks for what an earlier, killed one has left, by the tags ``nacre.ledger`` and ``nacre.version``, and all that is
logged carries times of the ledger, so that logging it again changes nothing.
"""

import json
import math
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nacre.base.addresses import shown_address
from nacre.base.files import file_lock
from nacre.base.hashing import sha256_text
from nacre.base.plugins import Table
from nacre.cycle.mirrors.receiver import DeliveryError
from nacre.cycle.workspace import Workspace
from nacre.records import Event, Report, Version
from nacre.records.mirror import Mlflow
from nacre.registry.slots import NAMES

if TYPE_CHECKING:
    from nacre.cycle.mirrors.mlflow_client import Client

# Importing mlflow takes seconds, and it is an extra to install.
CLIENTS = Table("mlflow_client", {"mlflow": "nacre.cycle.mirrors.mlflow_client:connect"})

CURVES = "trainer_log.jsonl"
_POSITION = ("step", "epoch", "elapsed_s")  # where a line of the log stands, not what was measured
_LLAMAFACTORY = ("lr", "current_steps", "total_steps", "percentage", "elapsed_time", "remaining_time")  # said twice
_SQLITE = "sqlite:///"
LEDGER, VERSION, WHOLE, WEIGHTS = "nacre.ledger", "nacre.version", "nacre.whole", "nacre.weights"


class MlflowMirror:
    """Keeps one experiment and one registered model equal to the ledger."""

    from_start = follows_slots = True

    def __init__(self, workspace: Workspace, settings: Mlflow) -> None:
        self._workspace, self._settings = workspace, settings
        self._client: Client | None = None
        identity = f"{settings.uri} {settings.experiment} {settings.model}"
        self.name = f"mlflow {sha256_text(identity)[:12]}"
        self.shown = f"MLflow at {shown_address(settings.uri)}, model {settings.model}"

    def wants(self, event: Event) -> bool:
        """Versions, verdicts, moves of slots, and weights that were removed."""
        return event.kind in ("registered", "judged", "collected", "restored") or "slots" in event.detail

    def deliver(self, event: Event, *, superseded: bool) -> None:
        """Bring MLflow to where the event leaves the ledger. Raises as `Receiver.deliver`."""
        client = self._connected()
        if event.kind in ("registered", "judged"):  # an old ledger has verdicts without events of their own
            version = self._workspace.ledger.version(event.detail["version"])
            self._judge(client, version, self._mirror(client, version, event), event)
        elif event.kind in ("collected", "restored"):
            state = "removed by nacre gc" if event.kind == "collected" else "kept"
            touched = {*event.detail.get("artifacts", ()), event.detail.get("artifact")}
            for version in self._workspace.ledger.versions():
                if version.artifact in touched:
                    client.tag(self._mirror(client, version, event), {WEIGHTS: state})
        elif not superseded:
            self._place(client, event)

    def _connected(self) -> "Client":
        """The client, made at the first use."""
        if self._client is None:
            uri, lock = self._settings.uri, self._workspace.hidden / "mlflow.lock"
            if uri.startswith(_SQLITE):
                database = self._workspace.root / uri.removeprefix(_SQLITE)
                uri, lock = f"{_SQLITE}{database}", database.with_name(f"{database.name}.lock")
            places = (self._settings.experiment, self._settings.model, self._ledger)
            folder = (self._workspace.hidden / "logs" / "mlflow").as_uri()
            with file_lock(lock):  # a fresh database bears no two first users
                self._client = _connect()(uri, *places, folder)
        return self._client

    @property
    def _ledger(self) -> str:
        """What this ledger is known by: the hash of its first event."""
        first = self._workspace.ledger.followers.one(1)
        return first.hash[:16] if first else ""

    def _mirror(self, client: "Client", version: Version, event: Event) -> str:
        """Make sure that the version has its run and its registered version; returns MLflow's number of it."""
        ledger = self._workspace.ledger
        known = client.find_version(version.number)
        run = client.find_run(version.number)
        tags = self._tags(version)
        if run is None:
            run = client.create_run(f"version {version.number}: {version.snapshot.task}", tags, _begin_ms(version))
        if run.tags.get(WHOLE) != "yes":
            curves, told = self._curves(version)
            params = dict(_flat("", version.recipe.model_dump(mode="json")))
            scores = _scores(ledger.reports(weights=version.artifact), _ms(event.time))
            client.log(run.id, params, [*curves, *scores])
            client.finish(run.id, _ms(version.created), {"nacre.curves": told, WHOLE: "yes"})
        if known is None:
            known = client.create_version(version.number, self._source(client, version), run.id, tags)
        return known.number

    def _judge(self, client: "Client", version: Version, number: str, event: Event) -> None:
        """Show the latest verdict and the scores it came from, those of the version it was held against, too."""
        ledger = self._workspace.ledger
        verdict, against = ledger.verdict(version.number), ledger.judged_against(version.number)
        run = client.find_run(version.number)
        if run is None or verdict is None:
            return
        scores = _scores(ledger.reports(weights=version.artifact), _ms(event.time))
        known, time_ms = {name for name, *_ in scores}, _ms(event.time)
        seen = {f"drop/{_clean(one.task)}": one.drop for one in verdict.tasks}
        seen |= {f"score/{_clean(one.task)}": one.after for one in verdict.tasks}  # of the rows the gate looked at
        found = [(name, value, time_ms, 0) for name, value in seen.items() if name not in known]
        client.log(run.id, {}, [*scores, *(one for one in found if math.isfinite(one[1]))])
        other = client.find_run(against) if against else None
        if against and other:  # it was scored on tasks that came after it
            client.log(other.id, {}, _scores(ledger.reports(weights=ledger.version(against).artifact), _ms(event.time)))
        tags = {"nacre.verdict": verdict.outcome, "nacre.verdict_digest": verdict.digest}
        tags["nacre.judged_against"] = str(against) if against else "the base model"
        client.tag_run(run.id, tags)
        client.tag(number, tags)

    def _place(self, client: "Client", event: Event) -> None:
        """Set the aliases exactly as the slots are; aliases of other names are left alone."""
        wanted = {}
        for slot, number in event.detail["slots"].items():
            wanted[slot] = self._mirror(client, self._workspace.ledger.version(number), event)
        known = client.aliases()
        for alias, number in wanted.items():
            if known.get(alias) != number:
                client.set_alias(alias, number)
        for alias in known:
            if alias in NAMES and alias not in wanted:
                client.delete_alias(alias)

    def _tags(self, version: Version) -> dict[str, str]:
        """Where the version comes from."""
        packages = version.environment.packages
        return {
            LEDGER: self._ledger,
            VERSION: str(version.number),
            "nacre.parents": ",".join(map(str, version.parents)),
            "nacre.kind": version.kind,
            "nacre.base": version.base,
            "nacre.base_sha256": version.base_sha256,
            "nacre.artifact": version.artifact,
            "nacre.needs": version.needs,
            "nacre.task": version.snapshot.task,
            "nacre.tasks": ",".join(version.tasks)[:5000],
            "nacre.snapshot": version.snapshot.digest,
            "nacre.data": version.snapshot.data_hash,
            "nacre.device": version.environment.device,
            "nacre.packages": ", ".join(f"{name} {number}" for name, number in sorted(packages.items()))[:5000],
            "nacre.folder": str(self._workspace.store.root / version.artifact),
        }

    def _source(self, client: "Client", version: Version) -> str:
        """Where the weights lie. A server takes no path of a machine, so that one is told which machine's it is."""
        folder = self._workspace.store.root / version.artifact
        return f"nacre://{socket.gethostname()}{folder}" if client.remote else folder.as_uri()

    def _curves(self, version: Version) -> tuple[list["Metric"], str]:
        """What the trainer logged, step by step; and where that is from."""
        path = self._workspace.store.root / version.artifact / CURVES
        if not path.exists():
            return [], "none: the weights have no log beside them"
        begin_ms, left_out = _begin_ms(version), 0
        found: list[Metric] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            time_ms = begin_ms + round(1000 * float(entry.get("elapsed_s", 0.0)))
            for name, value in entry.items():
                if name in (*_POSITION, *_LLAMAFACTORY) or isinstance(value, bool | str | None):
                    continue
                if isinstance(value, int | float) and math.isfinite(value):
                    found.append((_clean(name), float(value), time_ms, int(entry.get("step", 0))))
                else:
                    left_out += 1
        return found, f"{CURVES}, {left_out} values left out: not finite" if left_out else CURVES


def _connect() -> Callable[..., "Client"]:
    """The function that reaches MLflow, imported now."""
    try:
        connect: Callable[..., Client] = CLIENTS.load("mlflow")
    except ModuleNotFoundError as error:
        what = f"{error.name} is not installed, which telling MLflow needs"
        raise DeliveryError("failed", what, fix="pip install 'nacre[mlflow]'") from None
    return connect


Metric = tuple[str, float, int, int]  # name, value, milliseconds since 1970, step


def _scores(reports: Sequence[Report], time_ms: int) -> list[Metric]:
    """The newest scores of each task: `score/<task>` is what the gate reads, the others carry their metric's name."""
    newest = {report.task: report for report in reports}
    found: list[Metric] = []
    for task, report in newest.items():
        name = _clean(task)
        found.append((f"score/{name}", report.mean, time_ms, 0))
        means = {metric: sum(scores) / len(scores) for metric, scores in report.scores.items() if scores}
        found += [(f"{_clean(key)}/{name}", value, time_ms, 0) for key, value in {**report.totals, **means}.items()]
    return [one for one in found if math.isfinite(one[1])]


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """A tree of settings as `a.b.0.c`: text."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list | tuple) and value:
        for place, inner in enumerate(value):
            yield from _flat(f"{prefix}.{place}", inner)
    else:
        yield _clean(prefix), value if isinstance(value, str) else json.dumps(value)


def _clean(name: str) -> str:
    """A name that MLflow takes for a metric."""
    return re.sub(r"[^\w.\- ]", "_", name).strip(". ")[:200] or "_"


def _begin_ms(version: Version) -> int:
    """When its training began."""
    return _ms(version.created) - round(1000 * version.train_seconds)


def _ms(time: str) -> int:
    return round(1000 * datetime.fromisoformat(time).timestamp())
