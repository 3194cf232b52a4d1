"""The text of a web page that its readers see."""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

_SILENT = "script, style, noscript, template, iframe, svg, object, head, select, textarea"
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|opacity\s*:\s*0(?:\.0+)?\s*(?:[;!]|$)|"
    r"font-size\s*:\s*0(?![.\d])|(?:left|top|right|bottom|text-indent|margin-left)\s*:\s*-\d{3,}|clip\s*:\s*rect\(\s*0|"
    r"clip-path\s*:\s*inset\(\s*(?:50|100)%|(?<![-\w])(?:max-)?(?:height|width)\s*:\s*0(?![.\d])",
    re.IGNORECASE,
)
_COLOUR = re.compile(r"(?<![-\w])(color|background)(?:-color)?\s*:\s*([^;!]+)", re.IGNORECASE)
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_BLANKS, _BREAKS = re.compile(r"[^\S\n]+"), re.compile(r"\s*\n\s*\n\s*")
_BLOCKS = (
    "address, article, aside, blockquote, br, caption, dd, details, div, dl, dt, figcaption, footer, form, h1, h2, h3, "
    "h4, h5, h6, header, hr, li, main, nav, ol, p, pre, section, summary, table, td, th, tr, ul"
)
_GOES = "data-nacre-goes"


def visible(text: str) -> tuple[str, int]:
    """The text of a page as its readers see it, and how many hidden elements were left out.

    Hidden is what `hidden`, inline styles or the page's own style sheets take out of sight, or show in the colour of
    its background; comments, scripts and form fields are no text of a page. Other files' style sheets are not read.
    """
    tree = LexborHTMLParser(text)
    title = tree.css_first("title")
    name = title.text(strip=True) if title is not None else ""
    hidden = _hidden(tree)
    for node in [*hidden, *tree.css(_SILENT)]:
        node.attrs[_GOES] = "1"
    while (gone := tree.css_first(f"[{_GOES}]")) is not None:  # one by one: a node goes with those inside it
        gone.decompose()
    for node in tree.css(_BLOCKS):
        node.insert_before("\n")
        node.insert_after("\n")
    body = tree.body.text() if tree.body is not None else ""
    told = _BREAKS.sub("\n\n", _BLANKS.sub(" ", f"{name}\n\n{body}"))
    return "\n".join(line.strip() for line in told.split("\n")).strip(), len(hidden)


def _hidden(tree: LexborHTMLParser) -> list[LexborNode]:
    found = [
        node
        for node in tree.css("[hidden], [style]")
        if "hidden" in node.attributes or _hides(node.attributes.get("style") or "")
    ]
    sheets = [_COMMENT.sub("", node.text()) for node in tree.css("style")]
    for where, what in (rule for sheet in sheets for rule in _RULE.findall(sheet)):
        if not _hides(what):
            continue
        try:
            found += tree.css(where.strip())
        except (SelectolaxError, ValueError):  # a selector that only browsers know
            continue
    return [node for node in found if node.tag not in ("html", "body")]


def _hides(style: str) -> bool:
    """Whether a style takes an element out of sight, names one colour for text and background, or none for the text."""
    said = {key.lower(): value.strip().lower() for key, value in _COLOUR.findall(style)}
    text = said.get("color", "")
    return bool(_HIDDEN.search(style)) or text == "transparent" or (text != "" and text == said.get("background"))
