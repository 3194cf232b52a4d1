"""The accuracy matrix as one HTML page of its own: no script, nothing fetched, for wide and narrow screens.

It follows the reader's light or dark setting. A page in both languages has a switch that is style alone.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal

from nacre.evaluate.history import History
from nacre.evaluate.matrix import Figure, General, Grid, Matrix, figures
from nacre.evaluate.page_words import FIGURES_ZH, WORDS, reason_zh
from nacre.evaluate.pictures import READ_PER_VERSION, Look, figures_by_version, look, shade

Language = Literal["en", "zh"]
Lang = Literal["en", "zh", "both"]

HEAT_STYLE = """
.wide { overflow-x: auto; margin: 0 -.2rem; padding: .2rem }
table { border-collapse: separate; border-spacing: 3px; font-variant-numeric: tabular-nums }
th { font-weight: 500; padding: .25rem .5rem; text-align: left; white-space: nowrap }
thead th { text-align: center; vertical-align: bottom; max-width: 10rem; white-space: normal; overflow-wrap: anywhere;
  color: var(--soft); font-size: .9rem; line-height: 1.25 }
thead th:first-child { text-align: left }
tbody th { position: sticky; left: 0; background: var(--paper); max-width: 22rem; white-space: normal;
  overflow-wrap: break-word; z-index: 1 }
td { padding: .45rem .6rem; text-align: center; border-radius: 4px; min-width: 3.6rem }
td.learned { outline: 2px solid var(--ink); outline-offset: -2px; font-weight: 600 }
td.before { color: var(--faint) }
.plain thead th { overflow-wrap: normal }
.plain td { text-align: right; background: var(--card) }
.legend { color: var(--soft); font-size: .9rem; margin: .5rem 0 0 }
.scale { display: inline-block; width: 8rem; height: .7rem; border-radius: 3px; margin: 0 .4rem }
@media (max-width: 40rem) {
  tbody th { max-width: 7.5rem; min-width: 2.5rem; font-size: .85rem; padding: .2rem .3rem; overflow-wrap: anywhere }
  tbody th.name { min-width: 6.2rem }
  td { padding: .4rem .35rem; min-width: 3rem }
  thead th { max-width: 5.5rem; font-size: .8rem; padding: .2rem }
}
"""
_STYLE = """
:root { color-scheme: light dark; --ink: #202428; --paper: #fff; --soft: #5c6166; --faint: #71767b; --line: #d9dcdf;
  --card: #f6f7f8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --paper: #15181b; --soft: #a6abb0; --faint: #8b9096; --line: #363b40; --card: #1d2125 }
}
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; color: var(--ink);
  background: var(--paper); margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 3rem; max-width: 75rem }
h1 { font-size: 1.5rem; margin: 0 }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
header { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: baseline; justify-content: space-between }
.switch { display: inline-flex; border: 1px solid var(--line); border-radius: 6px; overflow: hidden }
.switch label { padding: .3rem .8rem; cursor: pointer; color: var(--soft) }
.switch input { position: absolute; opacity: 0 }
.switch label:has(:checked) { background: var(--ink); color: var(--paper) }
.switch label:has(:focus-visible) { outline: 2px solid #2f7fd0; outline-offset: -2px }
html:has(#lang-en:checked) [lang=zh], html:has(#lang-zh:checked) [lang=en] { display: none }
.legend + dl { margin-top: .6rem }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: .7rem; margin: 0 }
dl > div { background: var(--card); border-radius: 8px; padding: .7rem .9rem }
dt { display: flex; justify-content: space-between; gap: 1rem; font-weight: 600 }
dd { margin: .2rem 0 0; color: var(--soft); font-size: .88rem; overflow-wrap: anywhere }
dd.source { color: var(--faint) }
ul { color: var(--soft); padding-left: 1.2rem }
@media (max-width: 40rem) {
  body { font-size: 15px; padding-top: 1rem }
}
@media print { .switch { display: none } .wide { overflow: visible } }
"""


def to_html(panels: Sequence[tuple[str, Matrix | History]], *, lang: Lang = "both", notes: Sequence[str] = ()) -> str:
    """A page with one heat map after the other, the figures with their formulas, and what was measured beside them.

    Args:
        panels: title and matrix of a line, or the whole history.
        lang: the language of the page's words; `both` can be switched. Names and notes stay as they are.
        notes: sentences to show at the end, in English.
    """
    languages: tuple[Language, ...] = ("en", "zh") if lang == "both" else (lang,)
    said = Words(languages)
    body = "\n".join(_panel(title, grid, said) for title, grid in panels)
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    after = f"<h2>{said('notes')}</h2>\n<ul>{listed}</ul>\n" if notes else ""
    title = " · ".join(WORDS["title"][one] for one in languages)
    return (
        f'<!doctype html>\n<html lang="{"zh-CN" if languages[0] == "zh" else "en"}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}{HEAT_STYLE}</style></head>\n"
        f"<body>\n<header><h1>{said('title')}</h1>{switch(languages)}</header>\n{body}\n{after}</body></html>\n"
    )


class Words:
    """A page's own words, in each of its languages, one of which is shown."""

    def __init__(self, languages: Sequence[Language], words: Mapping[str, Mapping[Language, str]] = WORDS) -> None:
        self.languages = languages
        self.words = words

    def __call__(self, key: str) -> str:
        """The words under a key, as HTML."""
        return self.either(self.words[key])

    def either(self, texts: Mapping[Language, str]) -> str:
        """The same said in each language; plain where there is one alone, or they do not differ."""
        found = [texts[one] for one in self.languages]
        if len(set(found)) == 1:
            return escape(found[0])
        return "".join(f'<span lang="{one}">{escape(texts[one])}</span>' for one in self.languages)


def switch(languages: Sequence[Language]) -> str:
    """The buttons that choose the language; nothing where there is one alone."""
    if len(languages) == 1:
        return ""
    names = {"en": "English", "zh": "中文"}
    buttons = "".join(
        f'<label><input type="radio" name="lang" id="lang-{one}"{" checked" if not place else ""}>{names[one]}</label>'
        for place, one in enumerate(languages)
    )
    return f'<div class="switch">{buttons}</div>'


def _panel(title: str, grid: Matrix | History, said: Words) -> str:
    parts = [f"<h2>{escape(title)}</h2>", heat_map(grid, said), legend(said)]
    if isinstance(grid, History):
        parts.append(_by_version(grid, said))
    else:
        parts.append(_figures(figures(grid), said))
        if grid.general:
            parts.append(_general(grid.general, said))
        if grid.joint or grid.plain:
            parts.append(_brackets(grid, said))
    return "\n".join(parts)


def heat_map(grid: Grid, said: Words) -> str:
    """The matrix as a painted table; `said` knows the word `version`."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in grid.tasks)
    rows = "\n".join(
        f'<tr><th scope="row" class="name">{escape(version)}</th>'
        + "".join(_cell(look(grid, row, task)) for task in range(len(grid.tasks)))
        + "</tr>"
        for row, version in enumerate(grid.versions)
    )
    top = f"<thead><tr><th>{said('version')}</th>{head}</tr></thead>"
    return f'<div class="wide"><table>\n{top}\n<tbody>{rows}</tbody></table></div>'


def _cell(shown: Look) -> str:
    kind = "learned" if shown.learned else "before" if shown.background is None else ""
    paint = ""
    if shown.background:
        background, foreground = (f"rgb{colour}" for colour in (shown.background, shown.foreground))
        paint = f' style="background:{background};color:{foreground}"'
    return f'<td class="{kind}"{paint}>{shown.text}</td>' if kind else f"<td{paint}>{shown.text}</td>"


def legend(said: Words) -> str:
    """What the colours and frames of `heat_map` mean; `said` knows the word `legend`."""
    stops = ", ".join(f"rgb{shade(place / 4)}" for place in range(5))
    scale = f'0<span class="scale" style="background:linear-gradient(90deg, {stops})"></span>1'
    return f'<p class="legend">{scale} &ensp; {said("legend")}</p>'


def _figures(read: Sequence[Figure], said: Words) -> str:
    cards = "".join(_figure(each, said) for each in read)
    return f'<h2>{said("figures")}</h2>\n<p class="legend">{said("symbols")}</p>\n<dl>{cards}</dl>'


def _figure(figure: Figure, said: Words) -> str:
    name, definition = FIGURES_ZH[figure.name]
    value = "–" if figure.value is None else str(figure)[len(figure.name) + 1 :]
    named = said.either({"en": figure.name, "zh": name})
    defined = said.either({"en": figure.definition, "zh": definition})
    why = ""
    if figure.reason:
        why = f"<dd>{said('unknown')} {said.either({'en': figure.reason, 'zh': reason_zh(figure.reason)})}</dd>"
    return (
        f"<div><dt><span>{named}</span><span>{value}</span></dt><dd>{defined}</dd>{why}"
        f'<dd class="source">{escape(figure.source)}</dd></div>'
    )


def _general(rows: Sequence[General], said: Words) -> str:
    head = "".join(f'<th scope="col">{said(word)}</th>' for word in ("name", "measure", "base", "this version"))
    body = "".join(
        f'<tr><th scope="row" class="name">{escape(row.name)}</th><td>{said(row.measure)}</td>'
        f"<td>{_number(row.base)}</td><td>{_number(row.version)}</td></tr>"
        for row in rows
    )
    return (
        f"<h2>{said('general')}</h2>\n"
        f'<div class="wide"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _brackets(matrix: Matrix, said: Words) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in matrix.tasks)
    named = (("plain", matrix.plain), ("this version", matrix.cells[matrix.last]), ("joint", matrix.joint))
    body = "".join(
        f'<tr><th scope="row" class="name">{said(word)}</th>'
        + "".join(f"<td>{_number(score)}</td>" for score in scores)
        + "</tr>"
        for word, scores in named
        if scores
    )
    table = f'<table class="plain"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<h2>{said("brackets")}</h2>\n<div class="wide">{table}</div>'


def _by_version(history: History, said: Words) -> str:
    found = figures_by_version(history)
    names = [name for name in READ_PER_VERSION if any(name in row for row in found)]
    zh = {name: FIGURES_ZH[name][0] for name in names}
    head = "".join(f'<th scope="col">{said.either({"en": name, "zh": zh[name]})}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">v{version}</th>'
        + "".join(f"<td>{_number(row[name].value) if name in row else ''}</td>" for name in names)
        + "</tr>"
        for version, row in zip(history.numbers, found, strict=True)
    )
    table = f'<table class="plain"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>'
    # a version that learned little may lack a figure that others have
    defined = {name: figure for row in found for name, figure in row.items()}
    cards = "".join(_definition(defined[name], said) for name in names)
    return (
        f'<h2>{said("by version")}</h2>\n<div class="wide">{table}</div>\n<h2>{said("figures")}</h2>\n<dl>{cards}</dl>'
    )


def _definition(figure: Figure, said: Words) -> str:
    name, definition = FIGURES_ZH[figure.name]
    named = said.either({"en": figure.name, "zh": name})
    defined = said.either({"en": figure.definition, "zh": definition})
    source = f'<dd class="source">{escape(figure.source)}</dd>'
    return f"<div><dt><span>{named}</span></dt><dd>{defined}</dd>{source}</div>"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
