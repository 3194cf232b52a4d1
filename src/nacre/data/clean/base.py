"""What a cleaner is: a text goes in and comes out, or the whole record is dropped with a reason."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from nacre.base.config import Settings
from nacre.data.formats.layout import is_judged, wanted


class Cleaner:
    """One step of the chain. Made once for a run from its own settings, then asked for every record in order.

    A cleaner overrides `text`, `refuse`, or both. `text` is called for the texts that show one of its `marks`:
    nearly every text has nothing to clean, and the marks of all steps are looked for at once. `refuse` is called
    once a record, when all steps have done their work on its texts. Where nothing changes, `text` gives the very
    same object back; the chain counts a change by identity.

    A text that has been cleaned must come out of a second cleaning as it went in.

    Attributes:
        does: one line for the list of cleaners.
        default: whether the step runs when the user names no steps.
        private: what it removes must not be shown, so its examples are what it left, not what it found.
        remembers: whether `refuse` depends on the records before this one. Such steps see every record in one place,
            in order, wherever the others are worked on; what `text` does may never depend on other records.
        Config: its settings.
        counts: what was found, by kind, for steps that know several.
    """

    does: ClassVar[str]
    default: ClassVar[bool] = True
    private: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    Config: ClassVar[type[Settings]] = Settings

    def __init__(self, config: Settings) -> None:
        self.config = config
        self.counts: Counter[str] = Counter()

    def prepare(self, clean: Callable[[str], str]) -> None:
        """Called once before the first record, with what the text steps of this run make of a text."""

    def marks(self) -> Sequence[str] | None:
        """Regular expressions of which one matches in every text that `text` would change or count in (see `Marks`).

        Without a match the chain does not call `text`. None: it is called for every text that is not empty.
        """
        return None

    def text(self, text: str) -> str:
        """One text of the record, cleaned."""
        return text

    def refuse(self, texts: Sequence[str], record: Mapping[str, Any]) -> str:
        """Why the record is dropped, given all its cleaned texts and the record itself; empty where it stays."""
        return ""

    def notes(self) -> list[str]:
        """What is to be said once at the end of a run, beside the counts."""
        return []

    def environment(self) -> Sequence[str]:
        """The environment variables that it reads."""
        return ()

    def close(self) -> None:
        """Called once after the last record, whatever came before: temporary files go."""


def record_text(texts: Sequence[str]) -> str:
    """A record as one text, for steps that compare whole records."""
    return "\n".join(texts)


def verdict_of(record: Mapping[str, Any]) -> bool | None:
    """What a judged row (KTO) says of its answer: equal texts judged differently are no duplicates."""
    return wanted(record.get("kto_tag", record.get("label"))) if is_judged(record) else None
