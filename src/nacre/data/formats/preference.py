"""Preference pairs: one prompt, the answer that was chosen and the one that was rejected."""

from collections.abc import Mapping
from typing import Any

from nacre.data.formats.alpaca import alpaca_prompt
from nacre.data.formats.fields import Unusable, answer, beside, kind_of, missing
from nacre.data.formats.layout import Layout, Reading, is_annotated
from nacre.data.formats.messages import dialogue, joined, reply
from nacre.data.formats.spoken import as_dialogue
from nacre.records import Example, Message


class Preference(Reading):
    """``chosen`` and ``rejected`` beside an instruction (as texts), or beside or with a dialogue (as messages)."""

    @staticmethod
    def looks_like(record: Mapping[str, Any]) -> bool:
        """One side of a pair is there."""
        return ("chosen" in record or "rejected" in record) and not is_annotated(record)

    def read(self, record: Mapping[str, Any]) -> Example:
        """The answers are (chosen, rejected)."""
        record, layout = as_dialogue(record, self.layout(record))
        if layout.columns.chosen is None or layout.columns.rejected is None:
            fix = 'name both in dataset_info.json: "chosen": …, "rejected": …'
            raise Unusable("no columns are named as chosen and rejected", fix)
        columns = (layout.columns.chosen, layout.columns.rejected)
        if layout.formatting == "alpaca":
            prompt = alpaca_prompt(record, layout.columns)
            fields = beside(record, layout.columns, prompt)
            answers = tuple(Message(role="assistant", content=answer(record, column)) for column in columns)
        else:
            prompt, fields = dialogue(record, layout)
            if len(prompt) % 2 == 0:
                raise Unusable("the dialogue ends with an answer", "leave the answers to chosen and rejected")
            answers = tuple(_answer(record, column, layout) for column in columns)
        return Example(kind="preference", prompt=prompt, answers=answers, **fields)


def _answer(record: Mapping[str, Any], column: str, layout: Layout) -> Message:
    if column not in record:
        raise missing(record, column)
    value, tags = record[column], layout.tags
    if not isinstance(value, dict):
        fix = f'write {{"{tags.role_tag}": "{tags.assistant_tag}", "{tags.content_tag}": "…"}}'
        raise Unusable(f"column '{column}' is {kind_of(value)}, not a message", fix)
    role, content = value.get(str(tags.role_tag)), joined(value.get(str(tags.content_tag)), f"column '{column}'")
    if role not in (tags.assistant_tag, tags.function_tag) or not isinstance(content, str):
        fix = f"its '{tags.role_tag}' must be {tags.assistant_tag} and its '{tags.content_tag}' text"
        raise Unusable(f"column '{column}' is no answer of the assistant", fix)
    return reply(Message(role="assistant" if role == tags.assistant_tag else "function", content=content))
