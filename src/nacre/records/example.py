"""The one thing that flows: a training or evaluation example."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from nacre.base.hashing import content_hash
from nacre.base.pictures import picture_name
from nacre.records.base import Record

Role = Literal["user", "assistant", "observation", "function"]
Kind = Literal["sft", "preference", "kto", "text"]


class Message(Record):
    """One turn. `function` is a tool call by the assistant, `observation` is what the tool returned."""

    role: Role
    content: str


class Origin(Record):
    """Where an example came from: file, line (1-based), task, and what is known beside it.

    `extra` has the short values of columns that are not trained on, by name; it is written only where there are any.
    """

    file: str = ""
    line: int = 0
    task: str = ""
    time: str = ""
    licence: str = ""
    extra: dict[str, str | int | float] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _without_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return written if written.get("extra") else {key: value for key, value in written.items() if key != "extra"}


class Example(Record):
    """A prompt with its answer or answers.

    Attributes:
        kind: `sft` has one answer; `preference` two (chosen, rejected); `kto` one, judged by `desirable`;
            `text` none: its text is the only prompt message.
        prompt: messages up to and including the last one that is not trained as *the* answer.
        answers: assistant messages, see `kind`.
        tools: JSON text of the tool declarations, or empty.
        images, videos, audios: paths, or None when the file has no such column. A kept picture is its hash.
    """

    kind: Kind = "sft"
    prompt: tuple[Message, ...]
    answers: tuple[Message, ...] = ()
    system: str = ""
    tools: str = ""
    images: tuple[str, ...] | None = None
    videos: tuple[str, ...] | None = None
    audios: tuple[str, ...] | None = None
    desirable: bool | None = None
    origin: Origin = Field(default_factory=Origin)  # a default of its own would be copied deeply for every example

    @property
    def answer(self) -> str:
        """Text of the first answer; empty for plain text."""
        return self.answers[0].content if self.answers else ""

    @property
    def content_id(self) -> str:
        """Hash of what is trained on: equal rows of different files are equal."""
        told = self.model_dump(mode="json", exclude={"origin", "schema_version"})
        if self.images:  # wherever the memory folder lies
            told["images"] = [picture_name(path) for path in self.images]
        return content_hash(told)
