"""What a cleaner is: a text goes in and comes out, or the whole record is dropped with a reason."""

from collections.abc import Sequence
from typing import ClassVar

from nacre.base.config import Settings


class Cleaner:
    """One step of the chain. Made once for a run from its own settings, then asked for every record in order.

    A cleaner overrides `text`, `refuse`, or both. Both are called for every string of a file, so they look first
    for what they act on (a character, a short substring) and give the very same object back where nothing changes:
    the chain counts a change by identity.

    Attributes:
        does: one line for the list of cleaners.
        default: whether the step runs when the user names no steps.
        Config: its settings.
    """

    does: ClassVar[str]
    default: ClassVar[bool] = True
    Config: ClassVar[type[Settings]] = Settings

    def __init__(self, config: Settings) -> None:
        self.config = config

    def text(self, text: str) -> str:
        """One text of the record, cleaned."""
        return text

    def refuse(self, texts: Sequence[str]) -> str:
        """Why the record is dropped, given all its texts as the steps before left them; empty where it stays."""
        return ""

    def notes(self) -> list[str]:
        """What is to be said once at the end of a run, beside the counts."""
        return []
