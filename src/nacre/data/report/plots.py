"""Plots as inline SVG that follow the width of the page: places in percent, letters in pixels."""

from collections.abc import Iterable, Sequence
from html import escape

_HEIGHT = 150  # pixels of the columns, their labels not counted
_LETTERS = 36  # that a phone of 390 pixels has room for below the columns


def bar(share: float, kind: str = "", mark: float | None = None) -> str:
    """One horizontal bar, 0 to 1 of its width; `mark` draws a line where the bound lies."""
    width = max(0.0, min(1.0, share)) * 100
    line = f'<rect class="mark" x="{mark * 100:.2f}%" y="0" width="2" height="14"/>' if mark is not None else ""
    return (
        '<svg class="bar" width="100%" height="14" aria-hidden="true"><rect class="track" width="100%" height="14" '
        f'rx="3"/><rect class="{kind or "fill"}" width="{width:.2f}%" height="14" rx="3"/>{line}</svg>'
    )


def bars(rows: Iterable[tuple[str, float, str, str]]) -> str:
    """A list of horizontal bars: label (HTML), share of the longest, what is shown beside it (HTML), and its kind."""
    lines = "".join(
        f'<div class="row"><span class="name">{label}</span>{bar(share, kind)}<span class="value">{value}</span></div>'
        for label, share, value, kind in rows
    )
    return f'<div class="bars">{lines}</div>'


def columns(values: Sequence[tuple[str, int, str]], *, title: str) -> str:
    """Vertical columns: label, number and kind of each. Of many labels every second, third … is shown."""
    if not values:
        return ""
    top, step = max(number for _, number, _ in values) or 1, 100 / len(values)
    every = -(-len(values) * max(len(label) for label, _, _ in values) // _LETTERS)
    drawn = []
    for place, (label, number, kind) in enumerate(values):
        height = number / top * (_HEIGHT - 22)
        height = max(height, 2.0) if number else 0.0
        x, middle = place * step, (place + 0.5) * step
        drawn.append(
            f'<rect class="{kind or "fill"}" x="{x + step * 0.08:.2f}%" y="{_HEIGHT - height:.1f}" '
            f'width="{step * 0.84:.2f}%" height="{height:.1f}" rx="2"><title>{escape(label)}: {number:,}</title></rect>'
        )
        if number and len(values) <= 16:
            drawn.append(
                f'<text class="count" x="{middle:.2f}%" y="{_HEIGHT - height - 6:.1f}">{_short(number)}</text>'
            )
        if (len(values) - 1 - place) % every == 0:
            drawn.append(f'<text x="{middle:.2f}%" y="{_HEIGHT + 18}">{escape(label)}</text>')
    base = f'<rect class="base" x="0" y="{_HEIGHT}" width="100%" height="1"/>'
    return (
        f'<svg class="columns" width="100%" height="{_HEIGHT + 26}" role="img" aria-label="{escape(title)}">'
        f"{''.join(drawn)}{base}</svg>"
    )


def stacked(parts: Sequence[tuple[float, str]], *, title: str) -> str:
    """One bar made of parts: share of the whole and kind of each."""
    drawn, start = [], 0.0
    for share, kind in parts:
        drawn.append(f'<rect class="{kind}" x="{start * 100:.2f}%" width="{share * 100:.2f}%" height="22"/>')
        start += share
    return f'<svg class="stack" width="100%" height="22" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'


def scale(value: float, interval: tuple[float, float], zones: Sequence[tuple[float, str]], *, title: str) -> str:
    """A line from 0.5 to 1 in zones (upper bound and kind), with a value and its interval."""

    def x(number: float) -> float:
        return max(0.0, min(1.0, (number - 0.5) * 2)) * 100

    drawn, start = [], 0.0
    for bound, kind in zones:
        drawn.append(f'<rect class="{kind}" x="{start:.2f}%" y="20" width="{x(bound) - start:.2f}%" height="12"/>')
        start = x(bound)
    low, high = x(interval[0]), x(interval[1])
    drawn.append(f'<rect class="reach" x="{low:.2f}%" y="24" width="{max(high - low, 0.3):.2f}%" height="4"/>')
    drawn.append(f'<circle class="dot" cx="{x(value):.2f}%" cy="26" r="7"/>')
    anchor = "end" if x(value) > 80 else "start" if x(value) < 20 else "middle"
    drawn.append(f'<text class="count" x="{x(value):.2f}%" y="12" style="text-anchor:{anchor}">{value:.2f}</text>')
    for bound in (0.5, *(bound for bound, _ in zones)):
        end = "start" if bound == 0.5 else "end" if bound == 1 else "middle"
        drawn.append(f'<text x="{x(bound):.2f}%" y="50" style="text-anchor:{end}">{bound:g}</text>')
    return f'<svg class="scale" width="100%" height="56" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'


def _short(number: int) -> str:
    if number < 1000:
        return str(number)
    for unit, size in (("M", 1_000_000), ("k", 1000)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
