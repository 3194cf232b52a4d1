"""KTO: one prompt, one answer, and whether such an answer is wanted."""

from collections.abc import Mapping
from typing import Any

from nacre.data.formats.alpaca import Alpaca
from nacre.data.formats.fields import Unusable, kind_of, missing
from nacre.data.formats.layout import Reading, is_annotated, is_judged, wanted
from nacre.data.formats.messages import Messages
from nacre.records import Example

_SHAPES = ("instruction", "output", "prompt", "messages", "conversations")


class Kto(Reading):
    """An alpaca row or a dialogue with ``label`` (or ``kto_tag``) true or false, or 1 or 0."""

    @staticmethod
    def looks_like(record: Mapping[str, Any]) -> bool:
        """A judged answer that is no side of a pair."""
        paired = "chosen" in record or "rejected" in record or is_annotated(record)
        return is_judged(record) and not paired and any(name in record for name in _SHAPES)

    def read(self, record: Mapping[str, Any]) -> Example:
        """The example of the row without its label, judged."""
        layout = self.layout(record)
        column = str(layout.columns.kto_tag)
        if column not in record:
            raise missing(record, column)
        desirable = wanted(record[column])
        if desirable is None:
            raise Unusable(
                f"column '{column}' is {kind_of(record[column])}", "write true (wanted) or false (not wanted)"
            )
        shape = Alpaca(layout) if layout.formatting == "alpaca" else Messages(layout)
        return shape.read(record).changed(kind="kto", desirable=desirable)
