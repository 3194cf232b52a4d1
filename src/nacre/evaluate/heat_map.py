"""The accuracy matrix as a PNG heat map."""

import io
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle

from nacre.base.files import atomic_write
from nacre.evaluate.matrix import Grid, Matrix, average_accuracy, bwt, forgetting
from nacre.evaluate.pictures import FAINT, INK, Rgb, look

_FONT = "DejaVu Sans"  # comes with matplotlib
_REGULAR = (400, "normal", "regular", "book", "roman", "medium")
_COLUMN, _ROW, _SIDE, _TOP = 0.95, 0.55, 1.3, 2.3  # inches
_NARROW = 4.4  # inches a panel needs for its figures, however few its tasks
_DPI = 160
_LETTERS, _LINE = 15, 0.16  # the legend: letters in an inch, inches a line
_LEGEND = "outlined: the version that learned the task; grey: a task the version was not taught; -: not scored"
_READ: tuple[Callable[[Matrix], Any], ...] = (average_accuracy, bwt, forgetting)


def save_png(panels: Sequence[tuple[str, Grid]], path: Path) -> list[str]:
    """Draw the panels side by side into one PNG file.

    A name with characters that no installed font has (Chinese on a bare server) is drawn as its number,
    "task 2", never as boxes.

    Returns:
        Notes for the user: what each such number stands for.

    Raises:
        NacreError: the file cannot be written.
    """
    draws = _Labels([text for title, matrix in panels for text in (title, *matrix.versions, *matrix.tasks)])
    widths = [max(_NARROW, _SIDE + _COLUMN * len(matrix.tasks)) for _, matrix in panels]
    height = _TOP + _ROW * max(len(matrix.versions) for _, matrix in panels)
    figure = Figure(figsize=(sum(widths), height), dpi=_DPI, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for place, (title, matrix) in enumerate(panels):
        _draw(axes[place], draws.name(title, f"model {place + 1}"), matrix, draws)
    legend = textwrap.wrap(_LEGEND, int(sum(widths) * _LETTERS))
    reserved = (0.1 + _LINE * len(legend)) / height
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1, rect=(0, reserved, 1, 1 - reserved))
    figure.text(0.12 / sum(widths), 0.08 / height, "\n".join(legend), fontsize=8, color=_colour(FAINT))
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    atomic_write(path, buffer.getvalue())
    return draws.notes


class _Labels:
    """Fonts for a set of texts, and stand-ins for the texts that no font can draw."""

    def __init__(self, texts: Sequence[str]) -> None:
        wanted = {ord(character) for text in texts for character in text if not character.isspace()}
        self._known = _characters(findfont(_FONT))
        self.family = [_FONT]
        self.notes: list[str] = []
        missing = wanted - self._known
        if missing:
            regular = [font for font in fontManager.ttflist if _usable(font)]
            held = [(len(missing & _characters(font.fname)), font) for font in regular]
            most, best = max(held, key=lambda pair: pair[0])
            if most:
                self.family.append(best.name)
                self._known |= _characters(best.fname)

    def name(self, text: str, stand_in: str) -> str:
        """The text, or `stand_in` with a note where it cannot be drawn."""
        if all(character.isspace() or ord(character) in self._known for character in text):
            return text
        note = f"{stand_in} = {text} (no installed font draws it; install one, e.g. Noto Sans CJK, to see it)"
        if note not in self.notes:
            self.notes.append(note)
        return stand_in


def _usable(font: Any) -> bool:
    """Upright, of normal weight, and not matplotlib's own font of boxes, which claims every character."""
    return font.style == "normal" and font.weight in _REGULAR and not font.name.startswith("Last Resort")


def _characters(font: str) -> set[int]:
    return set(FT2Font(font).get_charmap())


def _draw(axes: Any, title: str, matrix: Grid, labels: _Labels) -> None:
    rows, columns = len(matrix.versions), len(matrix.tasks)
    for row in range(rows):
        for task in range(columns):
            shown = look(matrix, row, task)
            face = _colour(shown.background) if shown.background else "none"
            axes.add_patch(Rectangle((task + 0.03, row + 0.04), 0.94, 0.92, facecolor=face, edgecolor="none"))
            if shown.learned:
                edge = {"facecolor": "none", "edgecolor": _colour(INK), "linewidth": 1.6}
                axes.add_patch(Rectangle((task + 0.045, row + 0.06), 0.91, 0.88, **edge))
            axes.text(
                task + 0.5,
                row + 0.5,
                shown.text,
                ha="center",
                va="center",
                fontsize=10,
                color=_colour(shown.foreground),
            )
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", fontfamily=labels.family, color=_colour(INK))
    tasks = [labels.name(text, f"task {place + 1}") for place, text in enumerate(matrix.tasks)]
    versions = [labels.name(text, f"version {place + 1}") for place, text in enumerate(matrix.versions)]
    slanted = any(_width(text) > 9 for text in tasks)
    slant = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    text = {"fontsize": 9, "fontfamily": labels.family, "color": _colour(INK)}
    axes.set_xticks([place + 0.5 for place in range(columns)], tasks, **text, **slant)
    axes.set_yticks([place + 0.5 for place in range(rows)], versions, **text)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    read = _read(matrix) if isinstance(matrix, Matrix) else ""  # a branching history has no one line to read
    axes.set_xlabel(read, fontsize=9, fontfamily=labels.family, color=_colour(INK), loc="left", labelpad=8)


def _read(matrix: Matrix) -> str:
    return "   ".join(str(figure(matrix)) for figure in _READ if figure(matrix).value is not None)


def _width(text: str) -> int:
    """Columns the text takes, wide characters counted twice."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _colour(rgb: Rgb) -> tuple[float, float, float]:
    red, green, blue = rgb
    return red / 255, green / 255, blue / 255
