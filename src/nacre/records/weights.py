"""Where the weights of a model lie on disk."""

from pathlib import Path

from nacre.records.base import Record


class Weights(Record):
    """A model in Hugging Face layout, with or without one PEFT adapter on it.

    Attributes:
        identity: what the weights are known by in reports (artifact hash, or the base's hash).
        model: folder of the full model, or a hub name that is in the local cache.
        adapter: PEFT adapter folder that sits on `model`.
    """

    identity: str
    model: str
    adapter: Path | None = None

    @property
    def folder(self) -> str:
        """Where the tokenizer and the manifest are: the adapter's folder if there is one."""
        return str(self.adapter or self.model)
