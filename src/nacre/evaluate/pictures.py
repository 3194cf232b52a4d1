"""The accuracy matrix in the terminal; `heat_map` draws it as PNG, `page` as HTML.

All of them paint the same: a cell's colour is its score from 0 (vermilion) over 0.5 (sand) to 1 (teal), told
apart by colour-blind eyes too; scores of tasks that the version was not taught stay unpainted, and stand in
parentheses where there is no colour; the version that learned a task is marked.
"""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from nacre.evaluate.history import History
from nacre.evaluate.matrix import Figure, Grid, Matrix, asked_figures

Rgb = tuple[int, int, int]
Panel = tuple[str, Matrix]  # title and matrix

INK, PAPER, FAINT = (32, 36, 40), (255, 255, 255), (140, 144, 148)
READ_PER_VERSION = ("average accuracy", "BWT", "forgetting", "learning accuracy", "FWT", "general delta")
_LOW, _MIDDLE, _HIGH = (201, 76, 48), (247, 233, 203), (22, 122, 116)
_COLUMN = 9  # characters a column takes in the terminal at least, frame included
_LEGEND = "* the version that learned the task; (in parentheses) a task it was not taught; - not scored"
_SHORT = {"average accuracy": "AA", "learning accuracy": "LA", "general delta": "general"}
_NARROW = 100  # columns below which a figure and its definition stand one under the other


class Look(NamedTuple):
    """How one cell is shown; `background` is None where nothing is painted."""

    text: str
    background: Rgb | None
    foreground: Rgb
    learned: bool


def look(matrix: Grid, row: int, task: int) -> Look:
    """How the cell of version `row` and column `task` is shown."""
    score, state = matrix.cells[row][task], matrix.state(row, task)
    if score is None:
        return Look("-", None, FAINT, state == "learned")
    if state == "before":
        return Look(f"{score:.2f}", None, FAINT, False)
    background = shade(score)
    return Look(f"{score:.2f}", background, _ink(background), state == "learned")


def shade(score: float) -> Rgb:
    """Colour of a score in [0, 1]."""
    place = min(1.0, max(0.0, score)) * 2
    start, end = (_LOW, _MIDDLE) if place <= 1 else (_MIDDLE, _HIGH)
    share = place if place <= 1 else place - 1
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
    return red, green, blue


def terminal(title: str, matrix: Matrix, *, width: int = 100, read: Sequence[Figure] | None = None) -> RenderableType:
    """A coloured table for rich, in as many parts as `width` characters ask for, and the figures below it.

    `read` are the figures to show; default: those that something was measured for.
    """
    shown = asked_figures(matrix) if read is None else read
    return Group(*_tables(title, matrix, width), _wrapped(_LEGEND, width), _figures(shown, width))


def terminal_history(title: str, history: History, *, width: int = 100) -> RenderableType:
    """All versions on all tasks, and what is read off the line that led to each of them."""
    return Group(*_tables(title, history, width), _wrapped(_LEGEND, width), _read_table(history))


def figures_by_version(history: History) -> list[dict[str, Figure]]:
    """Per row what is read off the line that led to it, by name; nothing where no task of the line has dev rows."""
    lines = [history.line(row) for row in range(len(history.versions))]
    return [{each.name: each for each in asked_figures(line)} if line else {} for line in lines]


def heat_table(matrix: Grid) -> Table:
    """The coloured table alone, as wide as it has to be."""
    return _table("", matrix, 0, len(matrix.tasks))


def short(figure: str) -> str:
    """A figure's name where there is little room."""
    return _SHORT.get(figure, figure)


def _tables(title: str, matrix: Grid, width: int) -> list[Table]:
    names = max(map(cell_len, ("version", *matrix.versions)))
    size = max(1, (width - names - 4) // _COLUMN)
    starts = range(0, len(matrix.tasks), size)
    return [_table(title if not start else "", matrix, start, start + size) for start in starts]


def _table(title: str, matrix: Grid, start: int, stop: int) -> Table:
    table = Table(title=title or None, title_justify="left", title_style="bold")
    table.add_column("version", no_wrap=True)
    for name in matrix.tasks[start:stop]:
        table.add_column(Text(name), justify="center", overflow="fold", min_width=6)
    for row, version in enumerate(matrix.versions):
        cells = [_cell(look(matrix, row, task)) for task in range(start, min(stop, len(matrix.tasks)))]
        table.add_row(Text(version), *cells)
    return table


def _cell(shown: Look) -> Text:
    background = f"rgb({','.join(map(str, shown.background))})" if shown.background else None
    style = Style(color=f"rgb({','.join(map(str, shown.foreground))})", bgcolor=background, bold=shown.learned)
    if shown.background is None and not shown.learned and shown.text != "-":
        return Text(f"({shown.text})", style=style)
    return Text(shown.text + ("*" if shown.learned else " "), style=style)


def _wrapped(text: str, width: int, indent: int = 0, *, style: str = "dim") -> Text:
    """Lines of at most `width` characters, whatever the console does with longer ones."""
    space = " " * indent
    return Text("\n".join(textwrap.wrap(text, width, initial_indent=space, subsequent_indent=space)), style=style)


def _figures(read: Sequence[Figure], width: int) -> RenderableType:
    """Each figure with its definition and source: beside it, or below it where the terminal is narrow."""
    if width < _NARROW:
        lines = [
            (
                _wrapped(str(figure), width, style="bold"),
                _wrapped(f"{figure.definition} [{figure.source}]", width, indent=2),
            )
            for figure in read
        ]
        return Group(*(line for pair in lines for line in pair))
    grid = Table.grid(padding=(0, 2))
    for figure in read:
        grid.add_row(Text(str(figure), style="bold"), Text(f"{figure.definition} [{figure.source}]", style="dim"))
    return grid


def _read_table(history: History) -> Table:
    table = Table(title="read off the line that led to each version", title_justify="left", title_style="dim")
    table.add_column("version", no_wrap=True)
    found = figures_by_version(history)
    names = [name for name in READ_PER_VERSION if any(name in row for row in found)]
    for name in names:
        table.add_column(short(name), justify="right")
    for number, row in zip(history.numbers, found, strict=True):
        table.add_row(f"v{number}", *(_value(row.get(name)) for name in names))
    return table


def _value(figure: Figure | None) -> str:
    """The number alone."""
    return "" if figure is None or figure.value is None else str(figure)[len(figure.name) + 1 :]


def _ink(background: Rgb) -> Rgb:
    """Text colour that can be read on `background`."""
    red, green, blue = background
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else PAPER
