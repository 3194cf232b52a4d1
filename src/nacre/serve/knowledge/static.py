"""Embeddings that are looked up: one vector a token, averaged. The layout of model2vec's folders; needs no torch."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from nacre.base.errors import InputError


class StaticEncoder:
    """An embedding model without layers.

    Args:
        folder: with `model.safetensors` and `tokenizer.json`.

    Attributes:
        dimensions: of a vector.
        most_tokens: of a text; there is no bound.

    Raises:
        InputError: the folder does not hold such a model.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._unknown = _unknown(folder / "tokenizer.json")
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            tensors = load_file(folder / "model.safetensors")
            table = tensors["embeddings"]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            fix = "name a folder in model2vec's layout, or one that transformers can read"
            raise InputError(f"this is no embedding model: {error}", where=str(folder), fix=fix) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._table_VD = table
        self._rows_of = tensors.get("mapping")
        self._weights = tensors.get("weights")
        self.dimensions = int(table.shape[1])
        self.most_tokens: int | None = None

    def documents(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of length 1, one a text: float32 [texts, dimensions]; zeros where no token is known."""
        found = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for place, read in enumerate(self._tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            ids = np.array([one for one in read.ids if one != self._unknown], dtype=np.int64)
            if not len(ids):
                continue
            rows = ids if self._rows_of is None else self._rows_of[ids]
            vectors = self._table_VD[rows].astype(np.float32)
            if self._weights is not None:
                vectors = vectors * self._weights[ids][:, None].astype(np.float32)
            mean = vectors.mean(axis=0)
            length = float(np.linalg.norm(mean))
            found[place] = mean / length if length else 0.0
        return found

    def question(self, text: str) -> np.ndarray:
        """The vector of a question."""
        vector: np.ndarray = self.documents([text])[0]
        return vector


def _unknown(path: Path) -> int | None:
    """The id of the token that stands for what the vocabulary lacks: it says nothing."""
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    token, place = model.get("unk_token"), model.get("unk_id")
    if token is not None and isinstance(model["vocab"], dict):
        place = model["vocab"].get(token)
    return None if place is None else int(place)
