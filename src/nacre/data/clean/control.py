"""Characters that nobody sees: control characters, zero-width marks, byte order marks, odd line ends."""

import re
from typing import ClassVar

from nacre.data.clean.base import Cleaner

_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]"
    # joiners mean something in emoji and in Indic and Persian words, nothing beside Latin or Chinese characters
    "|(?:(?<=[\x00-\u024f\u3000-\u9fff])|^)[\u200c\u200d]+(?=[\x00-\u024f\u3000-\u9fff]|$)"
)
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")


class Control(Cleaner):
    """Line ends become line feeds; tabs and line feeds stay."""

    does: ClassVar[str] = "control characters and zero-width marks go, line ends become line feeds"

    def marks(self) -> list[str]:
        """The characters themselves, in UTF-8."""
        return [
            r"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x85\xad]|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]"
            r"|\xef\xbb\xbf|\xef\xbf[\xb9-\xbb]"
        ]

    def text(self, text: str) -> str:
        """The text with nothing invisible in it."""
        return visible(text)


def visible(text: str) -> str:
    """The text without invisible characters, the same object where there are none."""
    cleaned = _LINE_ENDS.sub("\n", text)
    while (once := _INVISIBLE.sub("", cleaned)) != cleaned:  # joiners may come to stand beside other neighbours
        cleaned = _LINE_ENDS.sub("\n", once)
    return text if cleaned == text else cleaned
