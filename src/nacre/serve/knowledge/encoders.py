"""Which embedding model a folder holds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nacre.base.errors import InputError
from nacre.serve.knowledge import part

if TYPE_CHECKING:
    import numpy as np


class Encoder(Protocol):
    """Texts as vectors of length 1.

    Attributes:
        dimensions: of a vector.
        most_tokens: a text may have; None: any number.
    """

    dimensions: int
    most_tokens: int | None

    def documents(self, texts: Sequence[str]) -> "np.ndarray":
        """Of texts that are kept: float32 [texts, dimensions]."""

    def question(self, text: str) -> "np.ndarray":
        """Of a text that is asked for: float32 [dimensions]."""


def model_folder(model: str, root: Path) -> Path:
    """The folder of an embedding model, given relative to the workspace.

    Raises:
        InputError: there is none, or it lacks its weights or its tokenizer.
    """
    folder = root / Path(model).expanduser()
    for name in ("model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            found = f"{folder} has no {name}" if folder.is_dir() else str(folder)
            raise InputError("this is no folder of an embedding model", where=f"knowledge.model: {found}", fix=_FIX)
    return folder.resolve()


_FIX = "name a local folder with model.safetensors and tokenizer.json; nacre by itself downloads nothing"


def load_encoder(folder: Path) -> Encoder:
    """The model of a folder: model2vec's layout is looked up, everything else is transformers'.

    Raises:
        InputError: it cannot be loaded.
    """
    config = folder / "config.json"
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type") if config.is_file() else "model2vec"
    except (ValueError, AttributeError) as error:
        raise InputError(f"it is not JSON: {error}", where=str(config), fix="restore the file") from None
    loaded: Encoder = part("static" if kind == "model2vec" else "transformers")(folder)
    return loaded
