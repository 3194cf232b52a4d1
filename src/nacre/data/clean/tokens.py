"""Control tokens of chat templates inside a text, such as ``<|im_end|>``: a model would take them for its own."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from nacre.base.config import Settings
from nacre.data.clean.base import Cleaner

CONTROL_TOKEN = re.compile(
    r"<\|[A-Za-z_][A-Za-z0-9_]{0,40}\|>|<｜[^｜<>]{1,40}｜>|</?s>|<</?SYS>>|\[/?INST\]"
    r"|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
)


class TokensConfig(Settings):
    """Settings of the step `tokens`."""

    action: Literal["neutralise", "remove", "drop"] = Field(
        "neutralise",
        description="put a space into the token so that it is plain text, take it out, or drop the whole record",
    )


class Tokens(Cleaner):
    """``<|im_end|>`` becomes ``< |im_end|>``: it reads the same and no tokenizer takes it for one token."""

    does: ClassVar[str] = "control tokens of chat templates inside a text lose their power"
    Config = TokensConfig

    def __init__(self, config: TokensConfig) -> None:
        super().__init__(config)
        self._action = config.action

    def marks(self) -> list[str]:
        """What the tokens begin or end with."""
        return [r"<\|", "<｜", r"</?s>", r"<</?SYS", r"INST\]", "<(start|end)_of", "<(bos|eos|pad|unk)>"]

    def text(self, text: str) -> str:
        """The text with no token in it."""
        if self._action == "drop":
            return text
        cleaned = text
        while CONTROL_TOKEN.search(cleaned):  # taking one out may join the halves of another
            cleaned = CONTROL_TOKEN.sub(self._instead, cleaned)
        return cleaned

    def _instead(self, token: re.Match[str]) -> str:
        self.counts[token[0]] += 1
        return f"{token[0][0]} {token[0][1:]}" if self._action == "neutralise" else ""

    def refuse(self, texts: Sequence[str], record: Mapping[str, Any]) -> str:
        """Whether a text has a token, where such records are dropped."""
        if self._action != "drop":
            return ""
        found = next(
            (match for text in texts if "<" in text or "[" in text if (match := CONTROL_TOKEN.search(text))), None
        )
        return f"a text holds the control token {found[0]}" if found else ""
