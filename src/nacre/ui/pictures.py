"""What the page draws: tables as HTML, lines as SVG, all of it from what the API told."""

import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle
from typing import Any

from nacre.cycle.versions.lineage_picture import Node, as_svg
from nacre.evaluate.history import History
from nacre.evaluate.matrix import Matrix
from nacre.evaluate.pictures import look
from nacre.ui.words import word

# told apart by colour-blind eyes (Okabe & Ito), darkened until they stand out from white by 3 to 1
_COLOURS = ("#0072b2", "#b35900", "#00795c", "#a8487f", "#5a5a5a", "#2f7f9f", "#8a6d00", "#7a3fa0")
_DASHES = ("", "6 3", "2 3", "9 3 2 3")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720.0, 300.0, 58.0, 34.0, 14.0
_INK, _SOFT, _LINE, _PAPER = "#202428", "#5c6166", "#d9dcdf", "#ffffff"

Point = tuple[float, float]


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], *, label: str) -> str:
    """A table of plain texts, in a box of its own that scrolls where it is too wide."""
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{_text(one)}</td>" for one in row) + "</tr>" for row in rows)
    return (
        f'<div class="n-wide" tabindex="0" role="region" aria-label="{escape(label)}"><table class="n-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def notice(text: str, *, wrong: bool = False) -> str:
    """One sentence that screen readers say when it comes."""
    return f'<p class="n-said{" n-wrong" if wrong else ""}" role="{"alert" if wrong else "status"}">{escape(text)}</p>'


def seen(text: str) -> str:
    """A text of somebody else as HTML; what is not seen or turns the direction of writing is shown as its code:
    nobody shall accept what they could not see."""
    hidden = {letter for letter in text if letter not in "\n\t" and unicodedata.category(letter) in ("Cc", "Cf")}
    return escape(text.translate({ord(letter): f"<U+{ord(letter):04X}>" for letter in hidden}))


def framed(page: str, title: str) -> str:
    """A page in a frame that runs no script and reaches nothing."""
    return f'<iframe class="n-frame" sandbox="" title="{escape(title)}" srcdoc="{escape(page)}"></iframe>'


def grid_of(told: Mapping[str, Any]) -> Matrix | History:
    """The matrix as the API tells it."""
    return (Matrix if told["kind"] == "line" else History).model_validate(told["grid"])


def heat_map(grid: Matrix | History, language: str) -> str:
    """Scores of versions on tasks, coloured."""
    heads = "".join(f'<th scope="col">{escape(task)}</th>' for task in grid.tasks)
    rows = []
    for row, version in enumerate(grid.versions):
        cells = []
        for task in range(len(grid.tasks)):
            shown = look(grid, row, task)
            paint = (
                ""
                if shown.background is None
                else f"background:{_rgb(shown.background)};color:{_rgb(shown.foreground)}"
            )
            mark = "n-learned" if shown.learned else "n-before" if shown.background is None else ""
            cells.append(f'<td class="{mark}" style="{paint}">{escape(shown.text.replace("-", "–"))}</td>')
        rows.append(f'<tr><th scope="row">{escape(version)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="n-wide" tabindex="0" role="region" aria-label="{escape(word("matrix", language))}">'
        f'<table class="n-heat"><thead><tr><th scope="col">{escape(word("version", language))}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="n-soft">{escape(word("legend", language))}</p>'
    )


def task_lines(grid: Matrix | History, language: str) -> str:
    """A line for each task over the versions; from version to version as one came from the other."""
    rows, numbers = len(grid.versions), _numbers(grid)
    across = (_WIDTH - _LEFT - 20) / max(1, rows - 1)

    def at(row: int, score: float, aside: float = 0.0) -> Point:
        return _LEFT + across * row, _TOP + (1 - score) * (_HEIGHT - _TOP - _BOTTOM) + aside

    parts = _frame([f"{score:.2f}" for score in (0, 0.25, 0.5, 0.75, 1)])
    parts += [_label(at(row, 0)[0], _HEIGHT - 12, number, "middle") for row, number in enumerate(numbers)]
    names = []
    for task, (name, colour, dash) in enumerate(zip(grid.tasks, cycle(_COLOURS), _dashes(), strict=False)):
        drawn = f'stroke="{colour}" stroke-dasharray="{dash}"'
        aside = (task % 4 - 1.5) * 2.5 if len(grid.tasks) > 1 else 0.0  # lines of equal scores lie beside each other
        for row in range(rows):
            score = grid.cells[row][task]
            if score is None:
                continue
            x, y = at(row, score, aside)
            learned = grid.state(row, task) == "learned"
            size, fill, about = 6 if learned else 2.5, _PAPER if learned else colour, f"{name} · {numbers[row]}"
            parts.append(_dot((x, y), size, fill, f"{about} · {score:.2f}", colour))
            for parent in _parents(grid, row):
                before = grid.cells[parent][task]
                if before is not None:
                    known = grid.state(row, task) != "before" and grid.state(parent, task) != "before"
                    (x0, y0), width = at(parent, before, aside), 2.4 if known else 0.9
                    parts.insert(
                        0, f'<path d="M{x0:.1f} {y0:.1f}L{x:.1f} {y:.1f}" fill="none" stroke-width="{width}" {drawn}/>'
                    )
        names.append(_name(name, colour, dash))
    return (
        _svg(parts, word("lines", language))
        + f'<ul class="n-names">{"".join(names)}</ul><p class="n-soft">{escape(word("lines legend", language))}</p>'
    )


def lineage(told: Mapping[str, Any], language: str) -> str:
    """Which version came from which."""
    found = [Node(**{**one, "parents": tuple(one["parents"]), "slots": tuple(one["slots"])}) for one in told["nodes"]]
    label = escape(word("lineage", language))
    drawn = as_svg(found, language).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return f'<div class="n-wide n-lineage" tabindex="0" role="region" aria-label="{label}">{drawn}</div>'


def curves(points: Sequence[Mapping[str, Any]], language: str) -> str:
    """Losses over the steps in one picture, the learning rate and the gradient's norm in smaller ones."""
    losses = {name: _series(points, name) for one in points for name in one if name == "loss" or name.endswith("_loss")}
    losses.pop("train_loss", None)  # the mean of the whole run, in its summary
    html = _plot(word("loss curve", language), losses, _HEIGHT, language)
    for name, title in (("learning_rate", "rate curve"), ("grad_norm", "grad_norm")):
        html += _plot(word(title, language), {name: _series(points, name)}, 150.0, language)
    return html


def _series(points: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    known = (one for one in points if one.get(name) is not None and one.get("step") is not None)
    return [(float(one["step"]), float(one[name])) for one in known]


def _plot(title: str, series: Mapping[str, Sequence[Point]], height: float, language: str) -> str:
    found = {name: line for name, line in series.items() if line}
    if not found:
        return ""
    flat = [point for line in found.values() for point in line]
    last, (low, high) = max(x for x, _ in flat) or 1.0, _range([y for _, y in flat])
    inner = height - _TOP - _BOTTOM

    def at(x: float, y: float) -> Point:
        return _LEFT + x / last * (_WIDTH - _LEFT - 20), _TOP + (high - y) / (high - low) * inner

    marks = [low + (high - low) * share for share in ((0, 0.5, 1) if height < _HEIGHT else (0, 0.25, 0.5, 0.75, 1))]
    parts = _frame([f"{mark:.2g}" for mark in marks], height)
    ticks = sorted({round(last * share) for share in (0, 0.25, 0.5, 0.75, 1)})
    parts += [_label(at(tick, low)[0], height - 12, str(tick), "middle") for tick in ticks]
    parts.append(_label(_LEFT - 8, height - 12, word("step", language), "end"))
    for (name, line), colour, dash in zip(found.items(), cycle(_COLOURS), _dashes(), strict=False):
        drawn = "L".join("{:.1f} {:.1f}".format(*at(*point)) for point in line)
        parts.append(f'<path d="M{drawn}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        parts.append(_dot(at(*line[-1]), 3, colour, f"{name} {line[-1][1]:.4g}", colour))
    names = "".join(
        _name(f"{name} {line[-1][1]:.4g}", colour, dash)
        for (name, line), colour, dash in zip(found.items(), cycle(_COLOURS), _dashes(), strict=False)
    )
    return f'<h3>{escape(title)}</h3>{_svg(parts, title, height)}<ul class="n-names">{names}</ul>'


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(0.0, *values), max(values)
    return (low, high) if high > low else (low, low + 1.0)


def _frame(marks: Sequence[str], height: float = _HEIGHT) -> list[str]:
    """Lines across, each with its number, the lowest first."""
    parts, inner = [], height - _TOP - _BOTTOM
    for place, mark in enumerate(marks):
        y = _TOP + inner * (1 - place / (len(marks) - 1))
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - 14}" stroke="{_LINE}" stroke-width="1"/>')
        parts.append(_label(_LEFT - 8, y + 4, mark, "end"))
    return parts


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" fill="{_SOFT}" text-anchor="{anchor}">{escape(text)}</text>'


def _dot(at: Point, size: float, fill: str, about: str, colour: str) -> str:
    drawn = f'cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{size}" fill="{fill}" stroke="{colour}" stroke-width="2"'
    return f"<circle {drawn}><title>{escape(about)}</title></circle>"


def _svg(parts: Sequence[str], label: str, height: float = _HEIGHT) -> str:
    return (
        f'<div class="n-wide" tabindex="0" role="region" aria-label="{escape(label)}">'
        f'<svg class="n-plot" viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-label="{escape(label)}" '
        f'font-family="system-ui, sans-serif" fill="{_INK}"><rect width="100%" height="100%" fill="{_PAPER}"/>'
        f"{''.join(parts)}</svg></div>"
    )


def _name(text: str, colour: str, dash: str) -> str:
    line = f'<path d="M1 4H25" stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/>'
    return f'<li><svg width="26" height="8" aria-hidden="true">{line}</svg> {escape(text)}</li>'


def _dashes() -> Any:
    return cycle(dash for dash in _DASHES for _ in _COLOURS)


def _parents(grid: Matrix | History, row: int) -> Sequence[int]:
    return grid.parents_of(row) if isinstance(grid, Matrix) else grid.parents[row]


def _numbers(grid: Matrix | History) -> Sequence[str]:
    """The beginning of each version's label, which names it."""
    return [label.partition(" ")[0] for label in grid.versions]


def _rgb(colour: Sequence[int]) -> str:
    return f"rgb({','.join(map(str, colour))})"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return seen(str(value))
