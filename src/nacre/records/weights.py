"""Where the weights of a model lie on disk."""

from pathlib import Path

from nacre.records.base import Record


class Weights(Record):
    """A folder in Hugging Face layout, with adapters to put on it, in order.

    Attributes:
        identity: what the weights are known by in reports (artifact hash, or the base's hash).
        model: folder of the full model, or a hub name that is in the local cache.
        adapters: PEFT adapter folders; each sits on what the ones before it make (merged in turn).
    """

    identity: str
    model: str
    adapters: tuple[Path, ...] = ()
