"""Dialogues: sharegpt (`conversations` of `from` and `value`) and OpenAI (`messages` of `role` and `content`)."""

import json
from collections.abc import Mapping
from typing import Any

from nacre.data.formats.fields import Unusable, beside, kind_of, missing
from nacre.data.formats.layout import Layout, Reading, Tags, is_annotated, is_judged, is_spoken
from nacre.records import Example, Message
from nacre.records.example import Role

_BETWEEN_TOOL_RESULTS = "\n</tool_response>\n<tool_response>\n"
_ASKING, _ANSWERING = ("user", "observation"), ("assistant", "function")


class Messages(Reading):
    """A list of messages whose last one is the answer."""

    @staticmethod
    def looks_like(record: Mapping[str, Any]) -> bool:
        """A list of messages that is neither one side of a pair nor judged."""
        if "chosen" in record or "rejected" in record or is_judged(record) or is_annotated(record):
            return False
        return "messages" in record or "conversations" in record

    def read(self, record: Mapping[str, Any]) -> Example:
        """The prompt is everything before the last message."""
        layout = self.layout(record)
        turns, fields = dialogue(record, layout)
        if len(turns) % 2:
            raise Unusable("the dialogue ends with a question", "add the answer, or delete the last message")
        return Example(prompt=turns[:-1], answers=(reply(turns[-1]),), **fields)


def dialogue(record: Mapping[str, Any], layout: Layout) -> tuple[tuple[Message, ...], dict[str, Any]]:
    """The turns of a row, asking and answering in turn, and the fields beside them.

    A first message with the system role is the system text, before any column. With the formatting
    ``openai``, tool calls become the text of a `function` message and successive tool results one message.
    LlamaFactory also adds "detailed thinking off" to the system text of that formatting; nacre adds nothing.
    """
    column = layout.columns.messages
    if column is None:
        raise Unusable("no column is named as the messages", 'name it in dataset_info.json: "messages": …')
    if column not in record:
        raise missing(record, column)
    items = record[column]
    if not isinstance(items, list) or not items:
        found = "an empty list" if items == [] else kind_of(items)
        raise Unusable(f"column '{column}' is {found}, not a list of messages", "write [{…}, {…}]")
    turns = [_turn(item, number, layout) for number, item in enumerate(items, 1)]
    system = ""
    if turns[0][0] == "system":
        system = turns.pop(0)[1]
    if layout.formatting == "openai":
        turns = _join_results(turns)
    _check_order(turns, layout.tags)
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    fields = beside(record, layout.columns, messages)
    return messages, fields | {"system": system or fields["system"]}


def reply(message: Message) -> Message:
    """The message as an answer to train on: one that says something."""
    if not message.content.strip():
        raise Unusable("the answer is blank", "fill it in, or delete the row")
    return message


def joined(content: Any, where: str) -> Any:
    """A content that is a list of OpenAI's parts, as the text that they are together; any other as it is.

    Raises:
        Unusable: a part is no text.
    """
    if not is_spoken(content):
        return content
    for part in content:
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type")
            found = f"of type '{kind}'" if isinstance(kind, str) and kind != "text" else "without text"
            fix = "delete the row, or leave the part out: this version trains text only"
            raise Unusable(f"{where} has a part {found}", fix)
    return "".join(part["text"] for part in content)


def _turn(item: Any, number: int, layout: Layout) -> tuple[Role | str, str]:
    """Role and text of one message."""
    tags = layout.tags
    if not isinstance(item, dict):
        raise Unusable(f"message {number} is {kind_of(item)}, not an object", _shape(tags))
    role, content = item.get(str(tags.role_tag)), item.get(str(tags.content_tag))
    if tags.role_tag not in item or (tags.content_tag not in item and "tool_calls" not in item):
        raise Unusable(f"message {number} has no '{tags.role_tag}' or no '{tags.content_tag}'", _shape(tags))
    if layout.formatting == "openai" and item.get("tool_calls"):
        return "function", _calls(item["tool_calls"], number)
    content = joined(content, f"message {number}")
    if not isinstance(content, str):
        raise Unusable(f"message {number}: '{tags.content_tag}' is {kind_of(content)}, not text", _shape(tags))
    roles = _roles(tags)
    if not isinstance(role, str) or role not in roles:
        raise Unusable(f"message {number} has the unknown role {role!r}", f"known: {', '.join(roles)}")
    return roles[role], content


def _roles(tags: Tags) -> dict[str, str]:
    named = {
        tags.user_tag: "user",
        tags.assistant_tag: "assistant",
        tags.observation_tag: "observation",
        tags.function_tag: "function",
        tags.system_tag: "system",
    }
    return {tag: role for tag, role in named.items() if tag is not None}


def _shape(tags: Tags) -> str:
    return f'write {{"{tags.role_tag}": "{tags.user_tag}", "{tags.content_tag}": "…"}}'


def _calls(calls: Any, number: int) -> str:
    well = isinstance(calls, list) and all(isinstance(call, dict) and "function" in call for call in calls)
    if not well:
        raise Unusable(f"message {number}: 'tool_calls' is not a list of calls", 'write [{"function": {…}}, …]')
    return json.dumps([call["function"] for call in calls], ensure_ascii=False)


def _join_results(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    joined: list[tuple[str, str]] = []
    for role, content in turns:
        if role == "observation" and joined and joined[-1][0] == "observation":
            joined[-1] = (role, joined[-1][1] + _BETWEEN_TOOL_RESULTS + content)
        else:
            joined.append((role, content))
    return joined


def _check_order(turns: list[tuple[str, str]], tags: Tags) -> None:
    if not turns:
        raise Unusable("the dialogue has no messages but the system text", "add a question and an answer")
    for number, (role, _) in enumerate(turns):
        wanted = _ANSWERING if number % 2 else _ASKING
        if role not in wanted:
            names = {role: tag for tag, role in _roles(tags).items()}
            expected = " or ".join(names[role] for role in wanted if role in names)
            reason = f"turn {number + 1} is by {names.get(role, role)}, where {expected} must speak"
            raise Unusable(reason, "questions and answers must alternate; merge or delete messages")
