"""A row that a model made up, or that feedback made, waiting for a person."""

from typing import Literal

from nacre.records.base import Record
from nacre.records.example import Example

FROM_FEEDBACK = "feedback"  # in the place of the model that made a row up
DraftStatus = Literal["open", "accepted", "rejected"]


class Draft(Record):
    """A made-up row and what a person decided.

    Attributes:
        id: given by the ledger; 0 before.
        queue: what it belongs to.
        row: as the model made it, or as the person corrected it.
        model: the name that the server knows the model by; `FROM_FEEDBACK` of rows that people's opinions made.
        seeds: content ids of the rows that were shown to it as examples.
        by, time: who decided, and when; empty while it is open.
        edited: whether the person changed it.
        written: the file that it was written to after it was accepted.
    """

    id: int = 0
    queue: str
    row: Example
    model: str
    seeds: tuple[str, ...] = ()
    status: DraftStatus = "open"
    by: str = ""
    time: str = ""
    edited: bool = False
    written: str = ""
    created: str
