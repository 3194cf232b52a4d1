"""The accuracy matrix in the terminal and as HTML; `heat_map` draws it as PNG.

All of them paint the same: a cell's colour is its score from 0 (vermilion) over 0.5 (sand) to 1 (teal), told
apart by colour-blind eyes too; scores from before a task was learned stay unpainted; the version that
learned a task is marked.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from nacre.evaluate.matrix import Matrix, figures

Rgb = tuple[int, int, int]
Panel = tuple[str, Matrix]  # title and matrix

INK, PAPER, FAINT = (32, 36, 40), (255, 255, 255), (140, 144, 148)
_LOW, _MIDDLE, _HIGH = (201, 76, 48), (247, 233, 203), (22, 122, 116)
_COLUMN = 8  # characters a column takes in the terminal at least, frame included
_LEGEND = "* the version that learned the task; without colour: scored before it was learned; - not scored"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #202428; margin: 2rem }
table { border-collapse: separate; border-spacing: 2px }
th { font-weight: 500; padding: .3rem .6rem; text-align: left }
td { padding: .4rem .7rem; text-align: center; border-radius: 3px; font-variant-numeric: tabular-nums }
td.learned { outline: 2px solid #202428; outline-offset: -2px }
td.before { color: #8c9094 }
dt { font-weight: 600; margin-top: .4rem }
dd { margin: 0; color: #5c6166 }
"""


class Look(NamedTuple):
    """How one cell is shown; `background` is None where nothing is painted."""

    text: str
    background: Rgb | None
    foreground: Rgb
    learned: bool


def look(matrix: Matrix, row: int, task: int) -> Look:
    """How the cell of version `row` and column `task` is shown."""
    score, learned_at = matrix.cells[row][task], matrix.learned_at[task]
    if score is None:
        return Look("-", None, FAINT, row == learned_at)
    if row < learned_at:
        return Look(f"{score:.2f}", None, FAINT, False)
    background = shade(score)
    return Look(f"{score:.2f}", background, _ink(background), row == learned_at)


def shade(score: float) -> Rgb:
    """Colour of a score in [0, 1]."""
    place = min(1.0, max(0.0, score)) * 2
    start, end = (_LOW, _MIDDLE) if place <= 1 else (_MIDDLE, _HIGH)
    share = place if place <= 1 else place - 1
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
    return red, green, blue


def terminal(title: str, matrix: Matrix, *, width: int = 100) -> RenderableType:
    """A coloured table for rich, in as many parts as `width` characters ask for, and the figures below it."""
    names = max(cell_len(version) for version in matrix.versions)
    size = max(1, (width - names - 4) // _COLUMN)
    starts = range(0, len(matrix.tasks), size)
    tables = [_table(title if not start else "", matrix, start, start + size) for start in starts]
    read = Table.grid(padding=(0, 2))
    for figure in figures(matrix):
        read.add_row(Text(str(figure), style="bold"), Text(f"{figure.definition} [{figure.source}]", style="dim"))
    return Group(*tables, Text(_LEGEND, style="dim"), read)


def heat_table(matrix: Matrix) -> Table:
    """The coloured table alone, as wide as it has to be."""
    return _table("", matrix, 0, len(matrix.tasks))


def to_html(panels: Sequence[Panel]) -> str:
    """A page of its own with one heat map after the other: no script, nothing fetched."""
    body = "\n".join(_html_panel(title, matrix) for title, matrix in panels)
    legend = "Outlined: the version that learned the task. Grey: scored before it was learned. Dash: not scored."
    return (
        '<!doctype html>\n<html><head><meta charset="utf-8"><title>Accuracy matrix</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n<p>{legend}</p>\n</body></html>\n"
    )


def _table(title: str, matrix: Matrix, start: int, stop: int) -> Table:
    table = Table(title=title or None, title_justify="left", title_style="bold")
    table.add_column("version", no_wrap=True)
    for name in matrix.tasks[start:stop]:
        table.add_column(Text(name), justify="center", overflow="fold", min_width=5)
    for row, version in enumerate(matrix.versions):
        cells = [_cell(look(matrix, row, task)) for task in range(start, min(stop, len(matrix.tasks)))]
        table.add_row(Text(version), *cells)
    return table


def _cell(shown: Look) -> Text:
    background = f"rgb({','.join(map(str, shown.background))})" if shown.background else None
    style = Style(color=f"rgb({','.join(map(str, shown.foreground))})", bgcolor=background, bold=shown.learned)
    return Text(shown.text + ("*" if shown.learned else " "), style=style)


def _html_panel(title: str, matrix: Matrix) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("version", *matrix.tasks))
    rows = "\n".join(
        f"<tr><th>{escape(version)}</th>"
        + "".join(_html_cell(look(matrix, row, task)) for task in range(len(matrix.tasks)))
        + "</tr>"
        for row, version in enumerate(matrix.versions)
    )
    read = "".join(
        f"<dt>{escape(str(figure))}</dt><dd>{escape(figure.definition)} [{escape(figure.source)}]</dd>"
        for figure in figures(matrix)
    )
    return f"<h2>{escape(title)}</h2>\n<table>\n<tr>{head}</tr>\n{rows}\n</table>\n<dl>{read}</dl>"


def _html_cell(shown: Look) -> str:
    kind = "learned" if shown.learned else "before" if shown.background is None else ""
    paint = ""
    if shown.background:
        background, foreground = (f"rgb{colour}" for colour in (shown.background, shown.foreground))
        paint = f' style="background:{background};color:{foreground}"'
    return f'<td class="{kind}"{paint}>{shown.text}</td>' if kind else f"<td{paint}>{shown.text}</td>"


def _ink(background: Rgb) -> Rgb:
    """Text colour that can be read on `background`."""
    red, green, blue = background
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else PAPER
