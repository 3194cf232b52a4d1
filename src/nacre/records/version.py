"""A version of the model: what it is made of and how it was made."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from nacre.records.base import Record
from nacre.records.combination import Combined
from nacre.records.compression import Compressed
from nacre.records.federated import Federated
from nacre.records.recipe import Recipe
from nacre.records.snapshot import RowsFile, Snapshot

ArtifactKind = Literal["full", "adapter", "merged", "int8", "int4", "pruned"]


class Environment(Record):
    """What ran the training: package versions and hardware, and how text became tokens.

    Attributes:
        tokenizer: SHA-256 of the tokenizer's files; empty where it was not written down.
        template: SHA-256 of the chat template.
        tokens: SHA-256 of the token ids of one fixed conversation, which differ where a library renders it otherwise.
    """

    python: str
    packages: dict[str, str]
    machine: str
    device: str
    tokenizer: str = ""
    template: str = ""
    tokens: str = ""


class Energy(Record):
    """What a training drew, as far as the machine could tell: `source` says which of its parts were read."""

    watt_hours: float
    source: str


class Lineage(Record):
    """One increment in a model's history: its task and where its rows are kept."""

    task: str
    train: RowsFile
    dev: RowsFile | None


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
        limits: what each past task was allowed to lose while training, in its score; None where that was not recorded.
        weak: what an earlier try lost of each past task, where the training was told.
        share: of each increment's rows, that could be replayed.
        general: SHA-256 of the generic text; empty where there was none.
        energy: None where nothing could be read.
        cpu_seconds: processor time of the training, all its processes; 0 where it was not counted. Of a training that
            was killed and taken up, what the last run took.
        size_bytes, parameters: of the artifact's files; 0 where they were not counted.
        weights: hash over its safetensors files alone, which a training that is repeated can be compared with.
        inherited: increments that the model had learned before it came into this ledger, oldest first.
        origin: for one that came from an archive: its number there, the archive's name and hash.
        compressed: for one that was made smaller out of its parent: how, and what it gained and cost.
        combined: for one that was put together from its parents: how, and what it gained and costs.
        federated: for one that several parties trained: how, and what came of each round.
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
    limits: dict[str, float] | None = None
    weak: dict[str, float] = Field(default_factory=dict)
    share: float = 1.0
    general: str = ""
    energy: Energy | None = None
    cpu_seconds: float = 0.0
    size_bytes: int = 0
    parameters: int = 0
    weights: str = ""
    inherited: tuple[Lineage, ...] = ()
    origin: dict[str, str] = Field(default_factory=dict)
    compressed: Compressed | None = None
    combined: Combined | None = None
    federated: Federated | None = None

    @property
    def made(self) -> str:
        """What it was made out of its parents, where it was not trained: int8, merged, vote …; else empty."""
        if self.combined:
            return self.combined.how.by
        return self.compressed.how.to if self.compressed else ""

    @model_serializer(mode="wrap")
    def _without_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)  # records of versions that were trained stay what they were
        for name in ("compressed", "combined", "federated"):
            if getattr(self, name) is None:
                written.pop(name, None)
        return written
