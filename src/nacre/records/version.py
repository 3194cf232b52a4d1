"""A version of the model: what it is made of and how it was made."""

from typing import Literal

from nacre.records.base import Record
from nacre.records.recipe import Recipe
from nacre.records.snapshot import Snapshot

ArtifactKind = Literal["full", "adapter", "merged"]


class Environment(Record):
    """What ran the training: package versions and hardware."""

    python: str
    packages: dict[str, str]
    machine: str
    device: str


class Version(Record):
    """One trained version.

    Attributes:
        number: 1, 2, 3 … in this ledger.
        parents: version numbers it was trained from; empty for one made from the base model.
        base: the base model: path or hub name, and the hash of its files.
        kind: what the artifact holds.
        artifact: SHA-256 of the artifact's files.
        needs: SHA-256 of the artifact an adapter sits on; empty when that is the base model itself.
        drift: KL divergence in nats per answer token on new rows, between the version trained from and this one.
        tasks: every task this version is meant to know, oldest first.
    """

    number: int
    parents: tuple[int, ...] = ()
    base: str
    base_sha256: str
    kind: ArtifactKind
    artifact: str
    needs: str = ""
    recipe: Recipe
    environment: Environment
    snapshot: Snapshot
    tasks: tuple[str, ...]
    memory: tuple[str, ...] = ()
    train_seconds: float = 0.0
    drift: float | None = None
    created: str = ""
