"""Which column holds what: as `dataset_info.json` says, or as a row itself shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal, Protocol, TypeGuard

from nacre.base.config import Settings
from nacre.records import Example

Formatting = Literal["alpaca", "sharegpt", "openai"]


class Columns(Settings):
    """Column names of a dataset; None where it has no such column."""

    prompt: str | None = None
    query: str | None = None
    response: str | None = None
    history: str | None = None
    messages: str | None = None
    system: str | None = None
    tools: str | None = None
    images: str | None = None
    videos: str | None = None
    audios: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    kto_tag: str | None = None

    @cached_property
    def named(self) -> dict[str, str]:
        """What each column is for, and its name in the file, without the absent ones."""
        return {what: name for what, name in self if name is not None}

    @cached_property
    def names(self) -> frozenset[str]:
        """The columns' names in the file."""
        return frozenset(self.named.values())


class Tags(Settings):
    """Keys and role names inside a list of messages; None where the dataset has no such role."""

    role_tag: str | None = None
    content_tag: str | None = None
    user_tag: str | None = None
    assistant_tag: str | None = None
    observation_tag: str | None = None
    function_tag: str | None = None
    system_tag: str | None = None


SHAREGPT_TAGS = Tags(
    role_tag="from",
    content_tag="value",
    user_tag="human",
    assistant_tag="gpt",
    observation_tag="observation",
    function_tag="function_call",
    system_tag="system",
)
OPENAI_TAGS = Tags(
    role_tag="role",
    content_tag="content",
    user_tag="user",
    assistant_tag="assistant",
    observation_tag="tool",
    function_tag="function_call",
    system_tag="system",
)
_JUDGEMENTS = {"true": True, "false": False, "1": True, "0": False}
_MEDIA = {"images": "images", "videos": "videos", "audios": "audios"}


@dataclass(frozen=True)
class Layout:
    """Everything about a dataset's rows that is not in the rows."""

    formatting: Formatting = "alpaca"
    columns: Columns = field(default_factory=Columns)
    tags: Tags = SHAREGPT_TAGS


RESPONSES = ("answer", "completion", "response", "output")  # what stands beside a column `prompt`


class Format(Protocol):
    """One way to write an example down."""

    def __init__(self, layout: Layout | None = None) -> None: ...

    @staticmethod
    def looks_like(record: Mapping[str, Any]) -> bool:
        """Whether this row is written in this format (perhaps with faults)."""
        ...

    def used(self, record: Mapping[str, Any]) -> frozenset[str]:
        """The columns that `read` looks at in this row; the others are reported as unused."""
        ...

    def read(self, record: Mapping[str, Any]) -> Example:
        """The row's example, without its origin.

        Raises:
            Unusable: the row has a fault that reading on must not hide.
        """
        ...


class Reading:
    """What the formats share: the layout that was given, or else the one that the row shows."""

    def __init__(self, layout: Layout | None = None) -> None:
        self._layout = layout

    def layout(self, record: Mapping[str, Any]) -> Layout:
        """The layout this row is read with."""
        return self._layout or conventional(record)

    def used(self, record: Mapping[str, Any]) -> frozenset[str]:
        """The columns that `read` looks at in this row."""
        names = self.layout(record).columns.names
        if self._layout is not None or is_judged(record):
            return names
        return names - {"label"}  # a class, perhaps, but nothing that is read


def conventional(record: Mapping[str, Any]) -> Layout:
    """The layout of a row that no `dataset_info.json` describes: the customary column names."""
    label = "kto_tag" if "kto_tag" in record else "label"
    messages = "messages" if "messages" in record else "conversations"
    if messages not in record or any(is_spoken(record.get(name)) for name in ("chosen", "rejected")):
        turns = messages if messages in record else None
        if not is_prompted(record):
            return _alpaca("instruction", "output", label, turns)
        return _alpaca("prompt", next((name for name in RESPONSES if name in record), RESPONSES[0]), label, turns)
    items = record[messages] if isinstance(record[messages], list) else []
    first = next((item for item in items if isinstance(item, dict)), {})
    return _messages(messages, label, openai="role" in first)


def is_prompted(record: Mapping[str, Any]) -> bool:
    """Whether the row's question is in the column ``prompt``."""
    return "prompt" in record and "instruction" not in record


def is_spoken(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    """Whether the value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def is_annotated(record: Mapping[str, Any]) -> bool:
    """Whether the row is a task of Label Studio, or a row of its flat JSON_MIN export."""
    return ("annotations" in record and "data" in record) or ("annotation_id" in record and "annotator" in record)


def is_judged(record: Mapping[str, Any]) -> bool:
    """Whether the row says if its answer was wanted, in ``kto_tag`` or ``label``.

    A label of 0 or 1 does so only in TRL's columns, prompt and completion: elsewhere it may as well name a class.
    """
    label = record.get("label")
    if label is None or isinstance(label, bool):
        return label is not None or "kto_tag" in record
    numbered = "prompt" in record and "completion" in record
    said = wanted(label) is not None and (numbered or str(label).strip().lower() in ("true", "false"))
    return said or "kto_tag" in record


def wanted(value: Any) -> bool | None:
    """What a judgement says: true or false, 1 or 0, as such or as text; None where it says neither."""
    if isinstance(value, str):
        return _JUDGEMENTS.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


@cache
def _alpaca(prompt: str, response: str, label: str, messages: str | None) -> Layout:
    names = ("history", "system", "tools", "chosen", "rejected")
    columns = {"prompt": prompt, "query": "input", "response": response, "kto_tag": label, "messages": messages}
    return Layout("alpaca", Columns(**columns, **{name: name for name in names}, **_MEDIA))


@cache
def _messages(messages: str, label: str, *, openai: bool) -> Layout:
    names = ("system", "tools", "chosen", "rejected")
    columns = Columns(messages=messages, kto_tag=label, **{name: name for name in names}, **_MEDIA)
    return Layout("openai", columns, OPENAI_TAGS) if openai else Layout("sharegpt", columns, SHAREGPT_TAGS)
