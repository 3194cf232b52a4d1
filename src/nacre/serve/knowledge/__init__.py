"""Documents beside the model: read, cut, searched for each question, and renewed without training."""

from collections.abc import Callable
from typing import Any

from nacre.base.errors import InputError
from nacre.base.plugins import Table

PARTS = Table(
    "part of the document store",
    {
        "chinese": "nacre.data.chinese:cut",
        "pdf": "nacre.serve.knowledge.pdf:pages",
        "search": "nacre.serve.knowledge.search:Searcher",
        "static": "nacre.serve.knowledge.static:StaticEncoder",
        "store": "nacre.serve.knowledge.store:Store",
        "transformers": "nacre.serve.knowledge.transformer:TransformerEncoder",
    },
)
"""What needs libraries that not every server has, or not every command wants to wait for; imported when needed."""


def part(name: str) -> Callable[..., Any]:
    """One of `PARTS`.

    Raises:
        InputError: its library is not installed.
    """
    try:
        found: Callable[..., Any] = PARTS.load(name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed", where="knowledge", fix="pip install 'nacre[knowledge]'"
        ) from None
    return found
