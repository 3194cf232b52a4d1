"""Where the weights of a model lie on disk."""

from pathlib import Path

from nacre.records.base import Record

ROUTER = "router.json"  # lies in an adapter folder that holds several, a subfolder each, and says who answers what
ENSEMBLE = "ensemble.json"  # the same, where all of them answer together


class Weights(Record):
    """A model in Hugging Face layout, with or without a PEFT adapter on it, or several behind a router or together.

    Attributes:
        identity: what the weights are known by in reports (artifact hash, or the base's hash).
        model: folder of the full model, or a hub name that is in the local cache.
        adapter: PEFT adapter folder that sits on `model`.
    """

    identity: str
    model: str
    adapter: Path | None = None

    def __hash__(self) -> int:
        """Equal weights have one identity, and looking them up is done for every request."""
        return hash(self.identity)

    @property
    def routed(self) -> bool:
        """Whether several adapters sit on the model, each row answered by the one of its task."""
        return self.adapter is not None and (self.adapter / ROUTER).exists()

    @property
    def ensemble(self) -> bool:
        """Whether several adapters sit on the model and answer together."""
        return self.adapter is not None and (self.adapter / ENSEMBLE).exists()

    @property
    def several(self) -> str:
        """What stands where one adapter would, in words; empty where there is one or none."""
        if self.routed:
            return "several adapters behind a router"
        return "several adapters that answer together" if self.ensemble else ""

    @property
    def folder(self) -> str:
        """Where the tokenizer and the manifest are: the adapter's folder if there is one."""
        return str(self.adapter or self.model)
