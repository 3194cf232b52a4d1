"""One spelling for each character: NFC, plain letters for full-width ones, and mojibake put right.

Mojibake (UTF-8 that was once read as another encoding) is repaired by ftfy, and only where ftfy's own measure finds
the text bad. That measure costs more than all other steps together, so a text must first show a pair of characters
that such damage leaves behind.
"""

import re
import unicodedata
from typing import ClassVar, Literal

from ftfy import fix_encoding
from pydantic import Field

from nacre.base.config import Settings
from nacre.data.clean.base import Cleaner
from nacre.data.clean.control import visible

_CP1252 = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
# a lead byte of UTF-8 beside a continuation byte, as Latin-1 or Windows-1252 show them; or Mac Roman's and DOS's quotes
_TRACES = re.compile(f"[\xc2-\xf4][\x80-\xbf{_CP1252}]|‚Ä|ΓÇ|√[\xa0-\xff]")
_C1 = re.compile("[\x80-\x9f]")
_LETTERS = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_ALL = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_FULL_WIDTH = {
    "keep": None,
    "letters": re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]"),
    "all": re.compile("[\uff01-\uff5e\u3000]"),
}
# in UTF-8: C1 controls; half a pair of mojibake; full-width forms; whatever NFC may change (by lead bytes: everything
# but Latin, Chinese, kana and most symbols, and of those the few that have another form)
_MARKS = (
    r"\xc2[\x80-\x9f]",
    r"\xc3[\x82-\xb4](\xc2|\xc5|\xc6|\xcb|\xe2)",
    "‚Ä|ΓÇ|√",
    r"\xef\xbc[\x90-\x99\xa1-\xba]|\xef\xbd[\x81-\x9a]",
    r"[\xc6-\xdf\xe0\xe1\xea-\xee\xf0-\xf4]|\xef[\xa4-\xad]",
    r"\xe2\x84[\xa6\xaa\xab]|\xe2\x8c[\xa9\xaa]|\xe2\xab\x9c|\xe2\x80[\x80\x81]|\xe3\x80[\xaa-\xaf]|\xe3\x82[\x99\x9a]",
)
_WIDE_MARK = r"\xef\xbc[\x81-\xbf]|\xef\xbd[\x80-\x9e]|\xe3\x80\x80"


class UnicodeConfig(Settings):
    """Settings of the step `unicode`."""

    full_width: Literal["keep", "letters", "all"] = Field(
        "letters", description="full-width ASCII (Ａ１，): kept, letters and digits made plain, or punctuation too"
    )
    mojibake: bool = Field(True, description="repair text that was read in a wrong encoding")


class Unicode(Cleaner):
    """Canonical composition (NFC), never compatibility composition: ² stays ²."""

    does: ClassVar[str] = "NFC, plain letters for full-width ones, mojibake repaired"
    Config = UnicodeConfig

    def __init__(self, config: UnicodeConfig) -> None:
        super().__init__(config)
        self._mojibake = config.mojibake
        self._full_width = _FULL_WIDTH[config.full_width]
        self._plain = _LETTERS if config.full_width == "letters" else _ALL

    def marks(self) -> list[str]:
        """Bytes of UTF-8 that any of the three needs."""
        return [*_MARKS, *((_WIDE_MARK,) if self._plain is _ALL else ())]

    def text(self, text: str) -> str:
        """The text in one spelling."""
        if text.isascii():
            return text
        cleaned = text
        if self._mojibake and _TRACES.search(text):
            cleaned = self._repaired(text)
        cleaned = _C1.sub("", cleaned)
        if self._full_width is not None and self._full_width.search(cleaned):
            cleaned = cleaned.translate(self._plain)
        if not unicodedata.is_normalized("NFC", cleaned):
            cleaned = unicodedata.normalize("NFC", cleaned)
        if cleaned == text:
            return text
        return self.text(cleaned)  # each part may have made work for another; every round shortens or settles

    def _repaired(self, text: str) -> str:
        fixed = fix_encoding(text)  # which asks its measure first
        if fixed == text:
            return text
        repaired = visible(fixed)
        self.counts["mojibake"] += repaired != text
        return repaired
