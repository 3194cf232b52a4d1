"""Alpaca: one column each for the instruction, its input and the answer, and earlier turns beside."""

from collections.abc import Mapping
from typing import Any

from nacre.data.formats.fields import Unusable, answer, beside, missing, optional
from nacre.data.formats.layout import Columns, Reading, is_annotated, is_judged, is_prompted
from nacre.data.formats.messages import Messages
from nacre.data.formats.spoken import as_dialogue
from nacre.records import Example, Message

_OTHERS = ("messages", "conversations", "chosen", "rejected")


class Alpaca(Reading):
    """``{"instruction": …, "input": …, "output": …}``, with ``history``, ``system`` and ``tools`` if need be."""

    @staticmethod
    def looks_like(record: Mapping[str, Any]) -> bool:
        """An instruction or an answer, in columns of their own, that nobody has judged."""
        if any(name in record for name in _OTHERS) or is_judged(record) or is_annotated(record) or is_prompted(record):
            return False
        return "instruction" in record or "output" in record

    def read(self, record: Mapping[str, Any]) -> Example:
        """The prompt is the history, then instruction and input joined by a line feed; or it is a dialogue."""
        record, layout = as_dialogue(record, self.layout(record))
        if layout.formatting != "alpaca":
            return Messages(layout).read(record)
        columns = layout.columns
        prompt = alpaca_prompt(record, columns)
        if columns.response is None:
            raise Unusable("no column is named as the response", 'name it in dataset_info.json: "response": …')
        reply = Message(role="assistant", content=answer(record, columns.response))
        return Example(prompt=prompt, answers=(reply,), **beside(record, columns, (*prompt, reply)))


def alpaca_prompt(record: Mapping[str, Any], columns: Columns) -> tuple[Message, ...]:
    """The earlier turns and the question of an alpaca row."""
    turns = _history(record, columns.history)
    if columns.prompt and columns.prompt not in record:
        raise missing(record, columns.prompt)
    parts = [part for column in (columns.prompt, columns.query) if (part := optional(record, column))]
    question = "\n".join(parts)
    if not question.strip():
        named = " and ".join(f"'{name}'" for name in (columns.prompt, columns.query) if name)
        raise Unusable(f"the prompt is blank (column {named})", "fill it in, or delete the row")
    return (*turns, Message(role="user", content=question))


def _history(record: Mapping[str, Any], column: str | None) -> list[Message]:
    value = record.get(column) if column else None
    if value is None:
        return []
    turns: list[Message] = []
    for pair in value if isinstance(value, list) else [value]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise Unusable(f"column '{column}' is not a list of [question, answer]", 'write [["…", "…"], …] or []')
        turns += [Message(role="user", content=pair[0]), Message(role="assistant", content=pair[1])]
    return turns
