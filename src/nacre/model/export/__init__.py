"""A version for other programs: the table of forms it can be written in, and what each of them must offer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nacre.base.errors import InputError
from nacre.base.plugins import Table
from nacre.records import Weights

FORMS = Table(
    "export",
    {
        "hf": "nacre.model.export.hf:HuggingFace",
        "gguf": "nacre.model.export.gguf:Gguf",
        "ctranslate2": "nacre.model.export.ct2:CTranslate2",
        "openvino": "nacre.model.export.openvino:OpenVino",
        "ollama": "nacre.model.export.ollama:Ollama",
        "lm-eval": "nacre.model.export.lm_eval:LmEval",
        "triton": "nacre.model.export.triton:Triton",
    },
)

# Logits of a text's tokens as the written form gives them: ids of one text in, [tokens, vocabulary] out.
Reader = Callable[[Sequence[int]], NDArray[np.float32]]


@dataclass(frozen=True)
class Source:
    """What is to be written.

    Attributes:
        weights: the version's.
        name: what it is called in the written form.
        defaults: how answers are drawn where nobody says: temperature, top_p, top_k, repetition_penalty, max_tokens.
        place: the folder that the written form will have in the end.
        adapter: leave an adapter an adapter, where the form can.
    """

    weights: Weights
    name: str
    defaults: dict[str, float]
    place: Path
    adapter: bool = False


@dataclass(frozen=True)
class Bound:
    """How far a written form may be from its version, over the answers that the version gives.

    Attributes:
        tokens: least share of the version's greedy tokens that are the form's likeliest, too, after the same text.
        nats: most that the mean negative log probability of these tokens may differ, in nats a token.
    """

    tokens: float
    nats: float


class Form(Protocol):
    """One way to write a version."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """In what the weights can be written; the first is the default."""

    def write(self, source: Source, folder: Path, precision: str) -> list[str]:
        """Write into an empty folder; returns what was decided or left out, in sentences.

        Raises:
            InputError: this version cannot be written so, or a library is missing.
        """

    def reader(self, source: Source, folder: Path) -> Reader:
        """The form that lies in `folder`, loaded by the program it is made for, or by another that reads it."""


# What each precision may cost. 32 bits differ by the order of additions, 16 by rounding, 8 by quantisation.
BOUNDS = {
    "float32": Bound(0.99, 0.01),
    "float16": Bound(0.98, 0.02),
    "bfloat16": Bound(0.97, 0.05),
    "int8": Bound(0.95, 0.1),
    "q8_0": Bound(0.95, 0.1),
}


def load_form(name: str) -> Form:
    """The form of that name.

    Raises:
        InputError: there is none, or the package that it needs is not installed.
    """
    try:
        form: Form = FORMS.load(name, where="--to")()
    except ImportError as error:
        what = f"{name} needs a package that is not installed: {error.name}"
        raise InputError(what, where="--to", fix="pip install 'nacre[export]'") from None
    return form
