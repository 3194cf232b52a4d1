"""`nacre.json`: what lies beside the weights of every artifact and output folder."""

from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from nacre.records.base import Record
from nacre.records.combination import Combining
from nacre.records.compression import Compressing
from nacre.records.recipe import Recipe
from nacre.records.version import ArtifactKind, Environment, Lineage

MANIFEST = "nacre.json"


class Manifest(Record):
    """How the weights in this folder came to be.

    Attributes:
        base: path or hub name of the base model; `base_sha256` the hash of its files.
        parent: weights this was trained from (path, or artifact hash); empty for the base model.
        needs: for an adapter, the folder or artifact it sits on.
        lineage: every increment up to this one, oldest first.
        memory: folder that holds the rows, relative to this folder; empty when the ledger knows it.
        key: identity of the run (data, start, recipe), so that a repeated command is recognised.
        compressed: for weights that were made smaller out of their parent: how.
        combined: for adapters that were put together: how, and of which versions.
    """

    kind: ArtifactKind
    base: str
    base_sha256: str
    parent: str = ""
    needs: str = ""
    recipe: Recipe
    environment: Environment
    lineage: tuple[Lineage, ...] = ()
    memory: str = ""
    nacre: str = ""
    key: str = ""
    compressed: Compressing | None = None
    combined: Combining | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        for name in ("compressed", "combined"):
            if getattr(self, name) is None:
                written.pop(name, None)
        return written
