"""What is known of a version: record, weights, scores, time and energy, environment and history."""

from collections.abc import Mapping
from typing import Any, Literal

from nacre.base.errors import NacreError
from nacre.cycle.differences import installed_differences
from nacre.cycle.workspace import Workspace
from nacre.records import Event, Version
from nacre.registry.weigh import folder_bytes, parameters
from nacre.serve.api.defaults import defaults_of

Where = Literal["here", "collected", "missing"]


def describe(workspace: Workspace, number: int) -> dict[str, Any]:
    """Everything about one version, as JSON.

    Raises:
        InputError: there is no such version.
    """
    ledger = workspace.ledger
    version, verdict = ledger.version(number), ledger.verdict(number)
    reports = ledger.reports(weights=version.artifact)
    bytes_, count = size_of(workspace, version)
    return {
        **version.model_dump(mode="json", exclude={"schema_version"}),
        "folder": str(workspace.store.root / version.artifact),
        "weights_are": where_weights_are(workspace, version),
        "size_bytes": bytes_,
        "parameters": count,
        "slots": [slot.name for slot in ledger.slots().values() if slot.version == number],
        "pinned": ledger.keeping.pins().get(number),
        "defaults": _defaults(workspace, version),
        "scores": {report.task: report.mean for report in reports},
        "verdict": verdict.model_dump(mode="json") if verdict else None,
        "environment_differs": installed_differences(version.environment),
        "events": [event.model_dump(mode="json") for event in ledger.events() if _concerns(event, number)],
    }


def _defaults(workspace: Workspace, version: Version) -> dict[str, float]:
    """What holds for its answers where a request says nothing; nothing where its weights are not here."""
    try:
        weights = workspace.weights(version)
    except NacreError:
        return {}
    return defaults_of(weights, workspace.settings.serve.defaults).model_dump(exclude_none=True)


def where_weights_are(workspace: Workspace, version: Version) -> Where:
    """Whether the version's weights are here, were collected by `nacre gc`, or are missing."""
    if workspace.store.has(version.artifact):
        return "here"
    return "collected" if version.artifact in workspace.ledger.keeping.collected()[0] else "missing"


def size_of(workspace: Workspace, version: Version) -> tuple[int, int]:
    """Bytes and parameters of a version's artifact; versions that were made before this was recorded are counted."""
    if version.size_bytes or not workspace.store.has(version.artifact):
        return version.size_bytes, version.parameters
    folder = workspace.store.path(version.artifact)
    return folder_bytes(folder), parameters(folder)


def comparable(found: Mapping[str, Any]) -> dict[str, Any]:
    """What two versions are compared by, of what `describe` told: nothing that differs by its nature, such as numbers.

    Returns:
        Values by dotted path, e.g. ``recipe.train.seed``.
    """
    data, energy = found["snapshot"], found["energy"]
    names = ("parents", "base", "base_sha256", "kind", "artifact", "size_bytes", "parameters", "tasks")
    snapshot = {"task": data["task"], "train": data["train"], "dev": data["dev"], "dropped": len(data["dropped"])}
    cost = {"train_seconds": found["train_seconds"], "energy_wh": energy["watt_hours"] if energy else "not measured"}
    more = {key: found[key] for key in ("recipe", "environment", "defaults", "scores", "drift")}
    outcome = found["verdict"]["outcome"] if found["verdict"] else None
    kept = {key: found[key] for key in names}
    return flat({**kept, **cost, "snapshot": snapshot, **more, "verdict": outcome})


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """A nested mapping as one, by dotted paths."""
    if isinstance(value, dict):
        return {
            key: found
            for name, part in value.items()
            for key, found in flat(part, f"{path}.{name}" if path else name).items()
        }
    return {path: value}


def _concerns(event: Event, number: int) -> bool:
    """Whether the event made, moved, displaced or collected that version."""
    detail = event.detail
    named = number in (detail.get("version"), detail.get("from"), detail.get("to"))
    return named or number in detail.get("left", ()) or number in detail.get("versions", ())
