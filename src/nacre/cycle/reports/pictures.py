"""Pictures of an evolution report as inline SVG that follow the width of the page."""

from collections.abc import Sequence
from html import escape

from nacre.cycle.reports.facts import Curve

COLOURS = ("fill", "zh", "mixed", "other")  # classes of the page's style
_TICKS = 4


def curves(found: Sequence[Curve], *, title: str) -> str:
    """Lines over optimizer steps, with the highest and lowest value beside them and a key of several."""
    points = [point for curve in found for point in curve.points]
    if not points:
        return ""
    steps, values = [step for step, _ in points], [value for _, value in points]
    left, right, low, high = min(steps), max(steps), min(0.0, *values), max(values)
    wide, tall = (right - left) or 1.0, (high - low) or 1.0

    def line(curve: Curve, kind: str) -> str:
        places = [((step - left) / wide * 1000, 200 - (value - low) / tall * 200) for step, value in curve.points]
        if len(places) == 1:
            places.append((1000.0, places[0][1]))  # one value: a level line
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        return f'<polyline class="line {kind}" points="{drawn}"/>'

    drawn = "".join(line(curve, COLOURS[place % len(COLOURS)]) for place, curve in enumerate(found))
    marks = [low + tall * place / _TICKS for place in range(_TICKS, -1, -1)]
    rules = "".join(
        f'<line class="rule" x1="0" x2="1000" y1="{200 * n / _TICKS}" y2="{200 * n / _TICKS}"/>'
        for n in range(_TICKS + 1)
    )
    scale = "".join(f"<span>{_short(mark)}</span>" for mark in marks)
    across = "".join(f"<span>{step:g}</span>" for step in (left, (left + right) / 2, right))
    keys = "".join(
        f'<li><i class="{COLOURS[place % len(COLOURS)]}"></i>{escape(_named(curve.name))}</li>'
        for place, curve in enumerate(found)
    )
    return (
        f'<div class="curves"><div class="ticks">{scale}</div><svg viewBox="0 0 1000 200" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(title)}">{rules}{drawn}</svg>'
        f'<div class="across">{across}</div></div>'
        f'<ul class="keys">{keys}</ul>'
    )


def change(value: float, interval: tuple[float, float], margin: float | None, reach: float, kind: str) -> str:
    """A change with its interval on a line from -reach to reach; nought is marked, and what may be lost."""

    def x(number: float) -> float:
        return 50 + max(-1.0, min(1.0, number / reach)) * 50

    low, high = x(interval[0]), x(interval[1])
    bound = f'<rect class="bad" x="{x(-margin):.2f}%" y="2" width="2" height="20"/>' if margin is not None else ""
    return (
        '<svg class="change" width="100%" height="24" aria-hidden="true">'
        '<rect class="track" y="11" width="100%" height="2"/>'
        f'<rect class="base nought" x="50%" y="2" width="2" height="20"/>{bound}'
        f'<rect class="{kind}" x="{low:.2f}%" y="8" width="{max(high - low, 0.4):.2f}%" height="8" rx="4"/>'
        f'<circle class="dot" cx="{x(value):.2f}%" cy="12" r="6"/></svg>'
    )


def _named(curve: str) -> str:
    return "training loss" if curve == "loss" else curve.replace("_", " ")


def _short(value: float) -> str:
    return f"{value:.3g}"
