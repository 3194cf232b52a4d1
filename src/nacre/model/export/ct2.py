"""CTranslate2's form: https://opennmt.net/CTranslate2, a fast engine for CPUs.

Shapes: T tokens of a text, V vocabulary.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.converters import TransformersConverter
from numpy.typing import NDArray

from nacre.base.errors import InputError
from nacre.model.building import BUILDING
from nacre.model.export import Reader, Source
from nacre.model.export.merged import refuse_unmergeable, save_merged
from nacre.model.load import configuration, load_tokenizer
from nacre.records import Weights

NAME = "ctranslate2"
_LLAMA3_POSITIONS = 8192
# Of their converter, where it meets a model that it does not know: each says so in a way of its own.
_UNKNOWN = (ValueError, AttributeError, KeyError, TypeError, RuntimeError)


class _Converter(TransformersConverter):
    """Theirs, which builds the model as we do: alone."""

    def load_model(self, *given: Any, **options: Any) -> Any:
        with BUILDING:
            return super().load_model(*given, **options)


class CTranslate2:
    """`model.bin` with its vocabulary, and the tokenizer with its chat template as transformers reads it."""

    precisions = ("int8", "float32", "float16", "bfloat16")

    def write(self, source: Source, folder: Path, precision: str) -> list[str]:
        """See `nacre.model.export.Form`."""
        convert(source.weights, folder, precision)
        return []

    def reader(self, source: Source, folder: Path) -> Reader:
        """Loaded by CTranslate2, on the CPU."""
        generator = ctranslate2.Generator(str(folder), device="cpu")

        def read(ids: Sequence[int]) -> NDArray[np.float32]:
            logits_1TV: NDArray[np.float32] = np.array(generator.forward_batch([list(ids)]), dtype=np.float32)
            logits_TV: NDArray[np.float32] = logits_1TV[0]
            return logits_TV

        return read


def convert(weights: Weights, folder: Path, precision: str) -> None:
    """Write a version into an empty folder, its adapter merged.

    Raises:
        InputError: the converter does not know this kind of model, or it is no single model.
    """
    refuse_unmergeable(weights, NAME)
    _check_positions(weights)
    with TemporaryDirectory(dir=folder.parent, prefix=".merged.") as merged:
        save_merged(weights, Path(merged), "float32")
        try:
            _Converter(merged).convert(str(folder), quantization=precision, force=True)
        except _UNKNOWN as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"CTranslate2 cannot hold this model: {reason}",
                where=weights.folder,
                fix="serve it with engine: embedded, or export it with --to hf",
            ) from error
    tokenizer = load_tokenizer(weights)
    tokenizer.save_pretrained(folder)
    _name_all(folder / "config.json", tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0))


def _check_positions(weights: Weights) -> None:
    """CTranslate2 scales Llama 3's positions for the 8,192 that it was first trained on, whatever the model says.

    Raises:
        InputError: the model was first trained on another number, so its answers would be others without a word.
    """
    rope = dict(getattr(configuration(weights), "rope_parameters", None) or {})
    known = rope.get("original_max_position_embeddings", _LLAMA3_POSITIONS)
    if rope.get("rope_type") == "llama3" and known != _LLAMA3_POSITIONS:
        raise InputError(
            f"CTranslate2 cannot hold this model: it scales positions from {known}, and CTranslate2 from 8,192",
            where=weights.folder,
            fix="serve it with engine: embedded, or export it with --to hf",
        )


def _name_all(path: Path, instead: str) -> None:
    """Give CTranslate2 a text for each special token that the tokenizer does not have: it takes no other value.

    None of them is used here, where every prompt has a token and the ends of answers are named.
    """
    given = json.loads(path.read_text(encoding="utf-8"))
    named = {key: instead if key.endswith("_token") and value is None else value for key, value in given.items()}
    path.write_text(json.dumps(named, ensure_ascii=False, indent=2), encoding="utf-8")
