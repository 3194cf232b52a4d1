"""What the store keeps and finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chunk:
    """A piece of a document.

    Attributes:
        id: hash of the document, the place in it, and the text.
        document: the file, as the snapshot names it.
        source: the name that citations give it.
        place: lines or page; may be empty.
        text: what is quoted.
        words: its words as they are compared, with blanks between.
        allowed: whether its source may have sentences that speak to a model.
    """

    id: str
    document: str
    source: str
    place: str
    text: str
    words: str
    allowed: bool
