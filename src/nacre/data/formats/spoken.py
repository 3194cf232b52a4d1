"""TRL's conversational rows: prompt, completion, chosen and rejected are lists of messages.

Which columns there are, and that a prompt may be left to what chosen and rejected begin with, is TRL's description of
dataset formats (https://huggingface.co/docs/trl/dataset_formats).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from nacre.data.formats.fields import Unusable, kind_of, missing
from nacre.data.formats.layout import OPENAI_TAGS, SHAREGPT_TAGS, Columns, Layout, Tags, is_spoken

_MESSAGES = "messages"

Turns = list[Any]


def as_dialogue(record: Mapping[str, Any], layout: Layout) -> tuple[Mapping[str, Any], Layout]:
    """The row as one of `messages`, and the layout to read it by; as it is where none of its columns is a list of them.

    A prompt or an answer that is a text beside the lists is a message too.

    Raises:
        Unusable: chosen and rejected differ in more than their last message, or a column has no place in a dialogue.
    """
    columns = layout.columns
    pair = [name for name in (columns.chosen, columns.rejected) if name is not None and name in record]
    alone = layout.formatting == "alpaca"
    replies = pair or ([columns.response] if alone and columns.response else [])
    asked = columns.prompt if alone else columns.messages
    given = [record.get(name) for name in ([asked, *replies] if alone and asked else replies)]
    if not any(is_spoken(value) for value in given):
        return record, layout
    tags = layout.tags if not alone else _tags(next(value for value in given if is_spoken(value)))
    for name in (columns.query, columns.history):
        if name and record.get(name):
            raise Unusable(f"column '{name}' stands beside a list of messages", "make it a message of the list")
    question = _question(record, asked, tags)
    answers = {name: _turns(record, name, tags, str(tags.assistant_tag)) for name in replies}
    read = {name: value for name, value in record.items() if name not in (asked, *replies)}
    if len(pair) == 2:
        chosen, rejected = answers.values()
        shared = _shared(chosen, rejected)
        read |= {name: turns[len(shared)] for name, turns in answers.items()}
        question = _asked(question, shared, is_text=not is_spoken(record.get(asked or "")))
        if not question:
            raise Unusable("chosen and rejected begin with no question", "put it before both answers, or into 'prompt'")
    elif pair:
        raise missing(record, str(columns.rejected if pair == [columns.chosen] else columns.chosen))
    else:
        question += [turn for turns in answers.values() for turn in turns]
    formatting = layout.formatting if not alone else "openai" if tags is OPENAI_TAGS else "sharegpt"
    target = columns.messages or _MESSAGES
    made = replace(layout, formatting=formatting, columns=_with_messages(columns, target), tags=tags)
    return {**read, target: question}, made


@cache
def _with_messages(columns: Columns, name: str) -> Columns:
    return Columns(**{**columns.named, "messages": name, "prompt": None, "query": None, "history": None})


def _tags(turns: Sequence[Mapping[str, Any]]) -> Tags:
    return OPENAI_TAGS if "role" in turns[0] else SHAREGPT_TAGS


def _question(record: Mapping[str, Any], asked: str | None, tags: Tags) -> Turns:
    """The turns that the row gives as its prompt; none where it leaves them to its answers."""
    for name in (asked, "messages", "conversations"):
        if name is not None and record.get(name) is not None:
            return _turns(record, name, tags, str(tags.user_tag))
    return []


def _turns(record: Mapping[str, Any], name: str, tags: Tags, role: str) -> Turns:
    """The messages in a column; a text is one by that role."""
    if name not in record:
        raise missing(record, name)
    value = record[name]
    if isinstance(value, str):
        return [{str(tags.role_tag): role, str(tags.content_tag): value}]
    if isinstance(value, dict):
        return [value]
    if not is_spoken(value):
        found = "an empty list" if value == [] else kind_of(value)
        raise Unusable(f"column '{name}' is {found}, not a list of messages", "write [{…}, {…}]")
    return list(value)


def _shared(chosen: Turns, rejected: Turns) -> Turns:
    """What both begin with; one message of each must be left."""
    most = min(len(chosen), len(rejected)) - 1
    same = next((place for place in range(most) if chosen[place] != rejected[place]), most)
    if len(chosen) != same + 1 or len(rejected) != same + 1:
        reason = "chosen and rejected differ in more than their last message"
        raise Unusable(reason, "end both with the first answer that differs")
    return chosen[:same]


def _asked(question: Turns, shared: Turns, *, is_text: bool) -> Turns:
    """The prompt of a pair: what is given, and what both answers begin with where that does not repeat it."""
    if shared[: len(question)] == question or (is_text and shared):
        return shared
    return question + shared
