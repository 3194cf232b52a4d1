"""General rows mixed into every batch, so that learning a domain does not cost common abilities.

The customary ratio is one general row to three of the domain, a share of a quarter of every batch; the same rows
also hold the form of instructions and answers (Rolnick et al. 2019, arXiv 1811.11682, with rows that nobody has
learned as a task; for pre-training data Bethune et al. 2025, arXiv 2502.06042).
General rows are texts alone: those of the file that have pictures are left out, and counted.
Cost: `share` / (1 - `share`) more rows than plain training.
"""

from collections import Counter
from pathlib import Path

from pydantic import Field

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.data.convert import read_examples
from nacre.records import Example
from nacre.records.example import Kind
from nacre.train.protect.base import MixIn, TrainingRows
from nacre.train.protect.mixing import Mixing

_LEARNS: dict[str, tuple[Kind, ...]] = {
    "sft": ("sft", "text"),
    "pt": ("sft", "text"),
    "rm": ("preference",),
    "dpo": ("preference",),
    "kto": ("kto",),
}
_CALLED: dict[Kind, str] = {
    "sft": "rows with answers",
    "text": "plain texts",
    "preference": "preference pairs",
    "kto": "judged answers",
}


class General(Mixing):
    """Fill a share of every batch with rows of a general file, each as often as the others."""

    name = "general"
    pictures = True

    class Config(Settings):
        """Options of mixing general rows in."""

        share: float = Field(0.25, gt=0, lt=1, description="share of every batch; 0.25 is general to domain 1:3")
        file: Path | None = Field(None, description="alpaca, messages or plain text; default: data.general")

    def rows(self, rows: TrainingRows) -> TrainingRows:
        """Add the general rows as one stream.

        Raises:
            InputError: there is no file, or it has nothing that the stage learns from.
        """
        path = self.config.file or self.context.general
        if path is None:
            raise InputError(
                "mixing general rows in needs general rows",
                where="protect: general",
                fix="name a file in data.general, or in the option file",
            )
        if not path.is_file():
            raise InputError("the file with general rows does not exist", where=str(path), fix="check the path")
        found = read_examples(path)
        learns = _LEARNS[self.context.stage]
        texts = [row for row in found.examples if not _has_media(row)]
        usable: list[Example] = [row for row in texts if row.kind in learns]
        if found.examples and not texts:
            raise InputError(
                "every general row has pictures, sound or video", where=str(path), fix="give rows of text alone"
            )
        if not usable:
            raise InputError(
                f"the file has no row that the stage {self.context.stage} learns from",
                where=str(path),
                fix=f"give {' or '.join(_CALLED[kind] for kind in learns)}",
            )
        counts = Counter(_CALLED[row.kind] for row in usable)
        shown = " and ".join(f"{count} {kind}" for kind, count in counts.most_common())
        self.notes.append(f"general: {self.config.share:.0%} of every batch from {shown} of {path}")
        if seen := len(found.examples) - len(texts):
            self.notes.append(f"general: {seen} rows of {path} have pictures, sound or video and are left out")
        if left := len(found.dropped) + len(texts) - len(usable):
            self.notes.append(f"general: {left} rows of {path} cannot be used in the stage {self.context.stage}")
        return self.mix(rows, MixIn("general", self.config.share, (usable,)))


def _has_media(row: Example) -> bool:
    return bool(row.images or row.videos or row.audios)
