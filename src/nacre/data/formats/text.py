"""Plain text, for pretraining: no question and no answer."""

from collections.abc import Mapping
from typing import Any

from nacre.data.formats.alpaca import alpaca_prompt
from nacre.data.formats.fields import beside
from nacre.data.formats.layout import RESPONSES, Columns, Layout, Reading, is_annotated, is_prompted
from nacre.records import Example

_OTHERS = frozenset({"instruction", "output", "messages", "conversations", "chosen", "rejected"})
_LAYOUT = Layout("alpaca", Columns(prompt="text"))


class Text(Reading):
    """``{"text": …}``, a line of a ``.txt`` file, or an alpaca dataset whose description names no response."""

    @staticmethod
    def looks_like(record: Mapping[str, Any]) -> bool:
        """A text alone."""
        prompted = is_prompted(record) and any(name in record for name in RESPONSES)
        return not prompted and "text" in record and not is_annotated(record) and not _OTHERS & record.keys()

    def layout(self, record: Mapping[str, Any]) -> Layout:
        """The column `text`, unless a description names another."""
        return self._layout or _LAYOUT

    def read(self, record: Mapping[str, Any]) -> Example:
        """The text is the only prompt message."""
        columns = self.layout(record).columns
        prompt = alpaca_prompt(record, columns)
        return Example(kind="text", prompt=prompt, **beside(record, columns, prompt))
