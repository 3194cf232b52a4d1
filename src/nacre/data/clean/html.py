"""HTML out of a text: tags go, entities become characters, line structure stays.

Only real HTML is touched: names HTML knows, with attributes or with their other half. ``a < b``, ``List<String>``,
``<your name>`` and ``x<b>c`` stay as they are, and so does everything between backticks. A text that is itself a page
or a form, or that speaks of HTML (somebody asked for it), is left alone and counted, unless `pages` says otherwise.
"""

import re
from html import unescape
from typing import ClassVar, Literal

from pydantic import Field
from selectolax.lexbor import LexborHTMLParser

from nacre.base.config import Settings
from nacre.data.clean.base import Cleaner

_BLOCKS = (
    "address|article|aside|blockquote|body|caption|center|dd|details|div|dl|dt|fieldset|figcaption|figure|footer|form"
    "|h[1-6]|head|header|hr|html|legend|li|main|nav|noscript|ol|option|p|pre|section|select|summary|table|tbody|tfoot"
    "|thead|title|tr|ul"
)
_INLINE = (
    "a|abbr|acronym|b|bdi|bdo|big|button|cite|code|col|colgroup|del|dfn|em|embed|font|i|iframe|img|input|ins|kbd|label"
    "|link|mark|meta|q|rp|rt|ruby|samp|script|small|span|strike|strong|style|sub|sup|svg|td|template|textarea|th|tt|u"
    "|var|wbr"
)
# these need no other half to be HTML
_ALONE = frozenset(("br", "hr", "img", "p", "li", "td", "th", "tr", "div", "input", "link", "meta", "wbr"))
_NAMES = f"{_BLOCKS}|{_INLINE}|br"
_ATTRIBUTES = r"(?:\s+[a-zA-Z_:@][\w:.\-]*\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>=`]+)|\s+[a-z]{4,15}(?=[\s/>]))*"
# where the sign at the beginning is outside what ignores case, the search for it is several times faster
_TAG = re.compile(rf"<(?i:(/?)({_NAMES})({_ATTRIBUTES})\s*/?>|!--.*?-->|!doctype[^<>]*>)", re.DOTALL)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_HINT = re.compile(rf"<(?i:/?(?:{_NAMES})[\s/>]|!--|!doctype)")
_CODE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`)", re.DOTALL)
_PAGE = re.compile(r"<(?i:!doctype\s+html|(?:html|head|body|form|input|button|select|textarea|svg)[\s>])")
_ABOUT = re.compile(r"(?<![./])\bHTML\b")
_BREAK = re.compile(rf"<(?:/?(?:{_BLOCKS})|br)[\s/>]", re.IGNORECASE)
_CELL = re.compile(r"</?t[dh][\s/>]", re.IGNORECASE)
_SILENT = ["script", "style", "noscript", "template", "iframe", "svg"]
_SPACE_BEFORE_BREAK = re.compile(r"[ \t]+\n")
_BREAKS = re.compile(r"\n{3,}")


class HtmlConfig(Settings):
    """Settings of the step `html`."""

    pages: Literal["keep", "strip"] = Field(
        "keep", description="texts that are a page or a form or speak of HTML, as answers to 'write me a page' do"
    )


class Html(Cleaner):
    """Parsed by selectolax where a text has a real tag; entities alone are decoded without a parser."""

    does: ClassVar[str] = "HTML tags and entities become plain text; code and comparisons stay"
    Config = HtmlConfig

    def __init__(self, config: HtmlConfig) -> None:
        super().__init__(config)
        self._keep_pages = config.pages == "keep"

    def marks(self) -> list[str]:
        """A tag's beginning, or a whole entity."""
        return [r"</?[A-Za-z][A-Za-z0-9]{0,9}[\s/>]", "<!", r"&#?[A-Za-z0-9]{1,32};"]

    def text(self, text: str) -> str:
        """The text without markup. Repeated until nothing changes: an entity may spell a tag."""
        if not self._may_have(text):
            return text
        if self._keep_pages and _is_page(text):
            self.counts["pages kept"] += 1
            return text
        cleaned = text
        while True:
            pieces = _CODE.split(cleaned) if _has_code(cleaned) else [cleaned]
            pieces[::2] = [_plain(piece) if piece else piece for piece in pieces[::2]]
            once = "".join(pieces)
            if once == cleaned or (self._keep_pages and _is_page(once)):
                break
            cleaned = once
        if cleaned != text:
            cleaned = cleaned.strip()
        return text if cleaned == text else cleaned

    @staticmethod
    def _may_have(text: str) -> bool:
        if "<" in text and _HINT.search(text):
            return True
        return "&" in text and _ENTITY.search(text) is not None

    def notes(self) -> list[str]:
        """How many texts were left because they are pages."""
        kept = self.counts["pages kept"]
        return [f"html: {kept} texts are pages or forms or speak of HTML, and were kept (pages: strip)"] if kept else []


def _has_code(text: str) -> bool:
    return "`" in text or "~~~" in text


def _is_page(text: str) -> bool:
    """Whether a text is a page or a form, or speaks of HTML, outside its code."""
    if "<" not in text and "HTML" not in text:
        return False
    outside = _CODE.sub("", text) if _has_code(text) else text
    return _PAGE.search(outside) is not None or ("HTML" in outside and _ABOUT.search(outside) is not None)


def _plain(piece: str) -> str:
    """A piece without code: tags out, entities decoded once."""
    tags = _tags(piece)
    if not tags:
        return _ENTITY.sub(_decoded, piece) if "&" in piece else piece
    parts, end = [], 0
    for start, stop in tags:
        tag = piece[start:stop]
        parts.append(_escaped(piece[end:start]))
        parts.append(f"\n{tag}" if _BREAK.match(tag) else f" {tag}" if _CELL.match(tag) else tag)
        end = stop
    parts.append(_escaped(piece[end:]))
    # within an element, so that white space at the ends survives the parser
    tree = LexborHTMLParser(f"<body><div>{''.join(parts)}</div></body>")
    tree.strip_tags(_SILENT)
    plain = tree.body.text(deep=True, separator="").replace("\xa0", " ") if tree.body else ""
    if " \n" in plain or "\t\n" in plain:
        plain = _SPACE_BEFORE_BREAK.sub("\n", plain)
    return _BREAKS.sub("\n\n", plain) if "\n\n\n" in plain else plain


def _tags(piece: str) -> list[tuple[int, int]]:
    """Where the markup stands: what only looks like it is left out."""
    found = list(_TAG.finditer(piece)) if "<" in piece else []
    first_open: dict[str, int] = {}
    last_close: dict[str, int] = {}
    for match in found:
        name = (match[2] or "").lower()
        if match[1]:
            last_close[name] = match.start()
        else:
            first_open.setdefault(name, match.start())
    spans = []
    for match in found:
        name, start = (match[2] or "").lower(), match.start()
        whole = first_open.get(name, start) < start if match[1] else start < last_close.get(name, 0)
        if not name or whole or name in _ALONE or "=" in (match[3] or ""):
            spans.append(match.span())
    return spans


def _escaped(text: str) -> str:
    """Text between tags, such that the parser changes nothing in it but entities."""
    if "&" in text:
        text = re.sub(rf"&(?!{_ENTITY.pattern[1:]})", "&amp;", text)
    return text.replace("<", "&lt;") if "<" in text else text


def _decoded(entity: re.Match[str]) -> str:
    return unescape(entity[0]).replace("\xa0", " ")
