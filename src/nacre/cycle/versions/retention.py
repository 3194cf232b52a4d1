"""What must stay in a workspace, and why: the versions that are needed, and with them weights, rows and memory."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from nacre.base.hashing import content_hash
from nacre.cycle.workspace import Workspace
from nacre.data.rows import without_forgotten
from nacre.records import Version
from nacre.registry import leases
from nacre.registry.fingerprint import file_hashes

_DAY_S = 86_400.0


@dataclass(frozen=True)
class Needed:
    """What is needed, each with the reason.

    Attributes:
        versions: numbers of the versions whose weights stay.
        artifacts: hashes of the artifacts that stay.
        rows: hashes of the rows files that stay.
        weights: identities (artifact hashes, and the base model's) whose memory files stay.
        keys: hashes over the safetensors files of the same weights, by which other memory files are named.
    """

    versions: dict[int, str]
    artifacts: dict[str, str]
    rows: dict[str, str]
    weights: dict[str, str]
    keys: dict[str, str]


def needed(workspace: Workspace) -> Needed:
    """Everything that a slot, a rollout, a running server, a pin or the settings need, and what those need below them.

    Raises:
        NacreError: a running server does not say what it holds.
    """
    known = {version.number: version for version in workspace.ledger.versions()}
    kept = {number: why for number, why in _needed_versions(workspace, known).items() if number in known}
    artifacts: dict[str, str] = {}
    rows: dict[str, str] = {}
    for number, why in kept.items():
        version = known[number]
        artifacts.setdefault(version.artifact, f"version {number}: {why}")
        if version.needs:
            artifacts.setdefault(version.needs, f"version {number} sits on it")
        rows.setdefault(version.snapshot.train.sha256, f"version {number} was trained on them")
        for one in _line(known, number):
            rows.setdefault(one.snapshot.replayable.sha256, f"version {number} may replay them")
            learned = [one.snapshot.dev, *(file for past in one.inherited for file in (past.train, past.dev))]
            for file in filter(None, learned):
                rows.setdefault(file.sha256, f"version {number} is judged by them, or may replay them")
    base = workspace.base.identity
    for report in workspace.ledger.reports(aside=True):
        if report.weights in artifacts or report.weights == base:
            rows.setdefault(report.dev, f"a report on {report.task} is about them")
    for old, now in without_forgotten(workspace.memory).items():
        if old in rows:
            rows.setdefault(now.sha256, rows[old])
    weights = {base: "the base model"} | artifacts
    return Needed(kept, artifacts, rows, weights, _keys(workspace, base, artifacts))


def _needed_versions(workspace: Workspace, known: dict[int, Version]) -> dict[int, str]:
    """Version numbers with the first reason that keeps each."""
    ledger, settings = workspace.ledger, workspace.settings.retention
    found: dict[int, str] = {slot.version: f"stands in {slot.name}" for slot in ledger.slots().values()}
    for number, state in ledger.keeping.rollouts():
        found.setdefault(number, f"is being released ({state})")
    for server in leases.held(workspace.serving)[0]:
        for number in server.versions:
            found.setdefault(number, f"is held by the server {server.pid} on {server.host}")
    for number, why in ledger.keeping.pins().items():
        found.setdefault(number, f"is pinned: {why}")
    for number, why in _recent(known, settings.versions, settings.days):
        found.setdefault(number, why)
    for number in list(found):
        if number not in known:
            continue
        for above in _line(known, number) if settings.parents == "all" else [known[number]]:
            for parent in above.parents:
                found.setdefault(parent, f"version {above.number} was trained from it")
    return found


def _recent(known: dict[int, Version], versions: int | None, days: float | None) -> Iterable[tuple[int, str]]:
    """What the settings keep by number and age; everything, where they say nothing."""
    if versions is None and days is None:
        return [(number, "retention keeps every version") for number in known]
    found = [(number, f"is one of the last {versions}") for number in sorted(known)[-versions:]] if versions else []
    if days is not None:
        oldest = time.time() - days * _DAY_S
        for number, version in known.items():
            if datetime.fromisoformat(version.created).timestamp() >= oldest:
                found.append((number, f"is younger than {days:g} days"))
    return found


def _line(known: dict[int, Version], number: int) -> list[Version]:
    """A version and all it descends from, by every parent."""
    found: dict[int, Version] = {}
    waiting = [number]
    while waiting:
        one = waiting.pop()
        if one in known and one not in found:
            found[one] = known[one]
            waiting += known[one].parents
    return list(found.values())


def _keys(workspace: Workspace, base: str, artifacts: dict[str, str]) -> dict[str, str]:
    """The names that importance and stored opinions carry: a hash over the weights' safetensors files."""
    folders = {why: workspace.store.hashes(sha) for sha, why in artifacts.items()}
    folders["the base model"] = file_hashes(workspace.base.model, workspace.hidden / "fingerprints.json")
    return {
        content_hash({name: sha for name, sha in files.items() if name.endswith(".safetensors") and "/" not in name}): (
            why
        )
        for why, files in folders.items()
    }
