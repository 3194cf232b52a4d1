"""Long plain texts cut into pieces of equal length that overlap, so that no sentence is seen only in halves."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from tokenizers import Tokenizer

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.records import Example

Documents = Literal["line", "paragraph", "file"]
Spans = Callable[[str], list[tuple[int, int]]]
"""Where each token of a text begins and ends, in characters."""

_TOKENIZER = "tokenizer.json"
_NEEDED = "name a model folder or a tokenizer.json as tokenizer, or cut by characters"


class Chunking(Settings):
    """How plain text is cut."""

    size: int = Field(512, ge=8, description="tokens or characters of a piece, at most")
    overlap: int = Field(32, ge=0, description="of them shared with the piece before")
    by: Literal["tokens", "characters"] = Field("tokens", description="what is counted")
    documents: Documents = Field("line", description="what is one text in a .txt file: a line, a paragraph, all of it")
    tokenizer: str | None = Field(None, description="by tokens: a model folder, or its tokenizer.json")

    @model_validator(mode="after")
    def _overlap_is_a_part(self) -> Self:
        if self.overlap > self.size // 2:
            raise ValueError(f"overlap {self.overlap} is more than half of size {self.size}")
        return self


class Chunker:
    """Cuts texts. Counts what it did in `texts` and `pieces`.

    Args:
        chunking: how.
        spans: where the tokens lie; by default as `chunking.tokenizer` says.

    Raises:
        InputError: tokens are to be counted, and there is no tokenizer.
    """

    def __init__(self, chunking: Chunking, spans: Spans | None = None) -> None:
        self._chunking = chunking
        by_tokens = chunking.by == "tokens"
        self._spans = (spans or token_spans(chunking.tokenizer)) if by_tokens else None
        self.texts = self.pieces = 0

    def cut(self, text: str) -> list[str]:
        """The pieces of a text; each but the first begins with the end of the one before."""
        return [text[begin:end] for begin, end in self.bounds(text)]

    def bounds(self, text: str) -> list[tuple[int, int]]:
        """Where each piece of a text begins and ends, in characters."""
        size, overlap = self._chunking.size, self._chunking.overlap
        if len(text) <= size and (self._spans is None or len(text.encode()) <= size):  # a token has a byte at least
            return [(0, len(text))]
        spans = self._spans(text) if self._spans else [(place, place + 1) for place in range(len(text))]
        starts = [0, *(start for start, _ in spans[1:])]
        pieces = list(_bounds(starts, len(text), size, overlap))
        if len(pieces) > 1:
            self.texts += 1
            self.pieces += len(pieces)
        return pieces

    def examples(self, example: Example) -> Iterator[Example]:
        """The plain text of an example in pieces; any other example as it is."""
        if example.kind != "text":
            yield example
            return
        (message,) = example.prompt
        pieces = self.cut(message.content)
        if len(pieces) == 1:
            yield example
            return
        for piece in pieces:
            if piece.strip():
                yield example.model_copy(update={"prompt": (message.model_copy(update={"content": piece}),)})

    def notes(self, where: str) -> list[str]:
        """What was cut, in a sentence."""
        if not self.texts:
            return []
        how = f"{self._chunking.size} {self._chunking.by}, {self._chunking.overlap} of them shared"
        return [f"{where}: {self.texts} long texts were cut into {self.pieces} pieces of {how}"]


def token_spans(tokenizer: str | None) -> Spans:
    """Where the tokens of a text lie, by the tokenizer of a model.

    Raises:
        InputError: none is named, or what is named has none.
    """
    if tokenizer is None:
        raise InputError("cutting by tokens needs a tokenizer", where="chunk", fix=_NEEDED)
    path = Path(tokenizer)
    path = path / _TOKENIZER if path.is_dir() else path
    if not path.is_file():
        raise InputError("there is no such tokenizer", where=str(path), fix=_NEEDED)
    loaded = _loaded(path)

    def spans(text: str) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = loaded.encode(text, add_special_tokens=False).offsets
        return found

    return spans


def _loaded(path: Path) -> Tokenizer:
    try:
        text = path.read_text(encoding="utf-8")
        if not isinstance(json.loads(text), dict) or '"model"' not in text:
            raise ValueError("it describes no model")
        loaded: Tokenizer = Tokenizer.from_file(str(path))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the tokenizer cannot be read: {reason}", where=str(path), fix=_NEEDED) from None
    return loaded


def _bounds(starts: list[int], length: int, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each piece, in characters, where the units begin at `starts`.

    Several units may begin at one character, whose bytes they share: it is not cut through.
    """
    first = 0
    while True:
        after = first + size
        if after >= len(starts):
            yield starts[first], length
            return
        after = _whole(starts, after, above=first)
        yield starts[first], starts[after]
        first = _whole(starts, after - overlap, above=first)


def _whole(starts: list[int], place: int, *, above: int) -> int:
    """The first unit that begins where the one at `place` does; a later character's if that is not above `above`."""
    found = place
    while found > 0 and starts[found - 1] == starts[place]:
        found -= 1
    while found < len(starts) - 1 and starts[found] <= starts[above]:
        found += 1
    return found
