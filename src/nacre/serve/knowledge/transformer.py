"""Embeddings by an encoder of transformers, pooled as the folder says: Sentence-BERT (Reimers and Gurevych 2019)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from nacre.base.errors import InputError
from nacre.model.building import BUILDING

_BATCH = 32
_POOLING = "1_Pooling/config.json"  # as sentence-transformers lays it out
_PROMPTS = "config_sentence_transformers.json"


class TransformerEncoder:
    """An embedding model with layers. Nothing is downloaded, and no code of the folder is run.

    Args:
        folder: in Hugging Face layout; sentence-transformers' files beside it say how to pool (mean, or the first
            token) and what stands before questions and documents. Without them: mean, and nothing.

    Attributes:
        dimensions: of a vector.
        most_tokens: of a text, those that the tokenizer adds not counted.

    Raises:
        InputError: the folder does not hold such a model, or asks for another pooling.
    """

    def __init__(self, folder: Path) -> None:
        self._by_first_token = _pooling(folder)
        prompts = _read(folder / _PROMPTS).get("prompts", {})
        self._before_question = prompts.get("query", "")
        self._before_document = prompts.get("document", prompts.get("passage", ""))
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            with BUILDING:
                model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
            self._model = model.eval()
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"this is no embedding model: {reason}", where=str(folder), fix="name its folder"
            ) from None
        self.dimensions = int(self._model.config.hidden_size)
        longest = getattr(self._model.config, "max_position_embeddings", None) or 512
        self._most = min(int(longest), int(self._tokenizer.model_max_length))
        prompt = len(self._tokenizer(self._before_document, add_special_tokens=False)["input_ids"])
        self.most_tokens: int | None = self._most - self._tokenizer.num_special_tokens_to_add() - prompt

    def documents(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of length 1, one a text: float32 [texts, dimensions]."""
        return self._vectors([self._before_document + text for text in texts])

    def question(self, text: str) -> np.ndarray:
        """The vector of a question; what is longer than the model reads is cut."""
        vector: np.ndarray = self._vectors([self._before_question + text])[0]
        return vector

    @torch.inference_mode()
    def _vectors(self, texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for begin in range(0, len(order), _BATCH):
            places = order[begin : begin + _BATCH]
            read: Any = self._tokenizer(
                [texts[place] for place in places],
                padding=True,
                truncation=True,
                max_length=self._most,
                return_tensors="pt",
            )
            hidden_BTD = self._model(**read).last_hidden_state
            if self._by_first_token:
                pooled_BD = hidden_BTD[:, 0]
            else:
                mask_BT1 = read["attention_mask"].unsqueeze(-1).to(hidden_BTD.dtype)
                pooled_BD = (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)
            found[places] = torch.nn.functional.normalize(pooled_BD.float(), dim=1).numpy()
        return found


def _pooling(folder: Path) -> bool:
    """Whether the first token stands for the text; otherwise it is the mean of all."""
    said = _read(folder / _POOLING)
    chosen = [key for key, value in said.items() if key.startswith("pooling_mode_") and value is True]
    if not chosen or chosen == ["pooling_mode_mean_tokens"]:
        return False
    if chosen == ["pooling_mode_cls_token"]:
        return True
    where = f"{folder / _POOLING}: {', '.join(chosen)}"
    raise InputError("this pooling is not known", where=where, fix="take a model that pools by mean or first token")


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"it is not JSON: {error}", where=str(path), fix="restore the file") from None
    return said if isinstance(said, dict) else {}
