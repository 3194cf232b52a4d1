"""A model by its name on the Hugging Face hub. Apart, because the hub's client takes long to import."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from nacre.base.errors import InputError


def folder_of(name: str) -> Path:
    """The folder of a model `owner/name` in the hub's cache; downloaded only where HF_HUB_OFFLINE=0 allows it.

    Raises:
        InputError: it is not in the cache, and nothing may be downloaded, or there is no such model.
    """
    try:
        return Path(snapshot_download(name))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError) as error:
        raise InputError(
            "the model is neither a folder nor in the local hub cache",
            where=name,
            fix=f"hf download {name}, or allow it with HF_HUB_OFFLINE=0: nacre by itself downloads nothing",
        ) from error
