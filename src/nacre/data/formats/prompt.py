"""A prompt with its answer in two columns: TRACE's prompt and answer, TRL's prompt and completion."""

from collections.abc import Mapping
from typing import Any

from nacre.data.formats.alpaca import Alpaca
from nacre.data.formats.layout import RESPONSES, is_annotated, is_judged, is_prompted

_OTHERS = frozenset({"messages", "conversations", "chosen", "rejected"})


class Prompt(Alpaca):
    """``{"prompt": …, "answer": …}``; the answer may be called completion, response or output, and both be messages."""

    @staticmethod
    def looks_like(record: Mapping[str, Any]) -> bool:
        """A prompt of its own, that no instruction stands beside and nobody has judged."""
        if not is_prompted(record) or is_judged(record) or is_annotated(record) or _OTHERS & record.keys():
            return False
        return "text" not in record or any(name in record for name in RESPONSES)
