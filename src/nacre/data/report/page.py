"""The report as one HTML page of its own: no script, nothing fetched. A page in both languages has a switch."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Literal

from nacre.base.files import atomic_write
from nacre.data.report.page_style import STYLE
from nacre.data.report.page_words import WORDS
from nacre.data.report.panels import PANELS
from nacre.data.report.records import DataReport, Flag, Said
from nacre.data.report.summary import MEASURES, NAMES, Line, summary

Language = Literal["en", "zh"]
Lang = Literal["en", "zh", "both"]

# personal data told by context alone is drawn hatched; one pattern for all plots of the page
_HATCH = (
    '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>'
    '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" class="track"/>'
    '<rect width="3" height="6" class="fill"/></pattern></defs></svg>'
)


def save(found: DataReport, path: Path, *, lang: Lang = "both") -> None:
    """Write the report: a page where the path ends with .html, else JSON.

    Raises:
        NacreError: the disk is full or cannot be written.
    """
    text = to_html(found, lang=lang) if path.suffix == ".html" else found.model_dump_json(indent=1) + "\n"
    atomic_write(path, text)


def to_html(found: DataReport, *, lang: Lang = "both") -> str:
    """The page. Names and what the reader of files notes stay as they are; all else is in `lang`, which may be both."""
    languages: tuple[Language, ...] = ("en", "zh") if lang == "both" else (lang,)
    said = Words(languages)
    lines = list(summary(found))
    title = f"{escape(found.target)} · {' · '.join(getattr(WORDS['title'], one) for one in languages)}"
    sections = "\n".join(_section(found, line, said) for line in lines)
    notes = "".join(f"<li>{said.either(note)}</li>" for note in found.notes)
    after = f'<h2>{said("notes")}</h2>\n<ul class="notes">{notes}</ul>\n' if notes else ""
    return (
        f'<!doctype html>\n<html lang="{"zh-CN" if languages[0] == "zh" else "en"}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>{_HATCH}\n{_header(found, said)}\n"
        f'<ul class="overview">{"".join(_tile(line, said) for line in lines)}</ul>\n'
        f"<h2>{said('advice')}</h2>\n{_advice(found.flags, said)}\n"
        f'<h2>{said("measures")}</h2>\n<div class="sections">\n{sections}\n</div>\n{after}</body></html>\n'
    )


class Words:
    """The page's own words, in each of its languages, one of which is shown."""

    def __init__(self, languages: Sequence[Language]) -> None:
        self.languages = languages

    def __call__(self, key: str) -> str:
        """The words under a key, as HTML."""
        return self.either(WORDS[key])

    def either(self, texts: Said) -> str:
        """The same said in each language; plain where there is one alone, or they do not differ."""
        found = [getattr(texts, one) for one in self.languages]
        if len(set(found)) == 1:
            return escape(found[0])
        return "".join(
            f'<span lang="{one}">{escape(text)}</span>' for one, text in zip(self.languages, found, strict=True)
        )


def _header(found: DataReport, said: Words) -> str:
    earlier = list(dict.fromkeys(one.name for one in found.earlier))
    against = f"{said('against')} {escape(', '.join(earlier))}" if earlier else said("alone")
    dropped = f" · {found.dropped:,} {said('dropped')}" if found.dropped else ""
    about = f"{found.rows:,} {said('rows')}{dropped} · {said('as of')} {found.today} · {against}"
    names = {"en": "English", "zh": "中文"}
    buttons = "".join(
        f'<label><input type="radio" name="lang" id="lang-{one}"{" checked" if not place else ""}>{names[one]}</label>'
        for place, one in enumerate(said.languages)
    )
    switch = f'<div class="switch">{buttons}</div>' if len(said.languages) > 1 else ""
    title = f"{escape(found.target)} <span>· {said('title')}</span>"
    return f'<header><div><h1>{title}</h1><p class="target">{about}</p></div>{switch}</header>'


def _state(line: Line, said: Words) -> str:
    if line.state == "plain":
        return ""
    sign = {"ok": "✓", "flag": "!", "unknown": "–"}[line.state]
    return f'<span class="state {line.state}">{sign} {said(line.state)}</span>'


def _tile(line: Line, said: Words) -> str:
    wanted = f'<span class="wanted">{said("wanted")} {said.either(line.wanted)}</span>' if line.wanted.en else ""
    return (
        f'<li><a href="#{line.measure}" class="{line.state}"><b>{said.either(line.name)}</b>{_state(line, said)}'
        f'<span class="value">{said.either(line.value)}</span>{wanted}</a></li>'
    )


def _advice(flags: Sequence[Flag], said: Words) -> str:
    if not flags:
        return f"<p>{said('all well')}</p>"
    lines = "".join(
        f'<li class="{flag.level}"><b>{said.either(NAMES[flag.measure])}</b>{said.either(flag.found)}'
        f"<p>{said.either(flag.advice)}</p></li>"
        for flag in sorted(flags, key=lambda flag: (flag.level != "flag", MEASURES.index(flag.measure)))
    )
    return f'<ul class="advice">{lines}</ul>'


def _section(found: DataReport, line: Line, said: Words) -> str:
    return (
        f'<section id="{line.measure}" class="{line.state}"><div class="head"><h3>{said.either(line.name)}</h3>'
        f"{_state(line, said)}</div>\n{PANELS[line.measure](found, said)}</section>"
    )
