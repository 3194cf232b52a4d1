"""Which version came from which: as nodes, and drawn as SVG, HTML or PNG.

Time goes to the right. A version is a box: its colour is the gate's verdict, its frame says where it stands (heavy:
champion, dashed: weights collected). A second parent is a dashed line.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve

from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.cycle.versions.description import where_weights_are
from nacre.cycle.workspace import Workspace

COLOURS: Mapping[str, str] = {"pass": "#cfe8e3", "fail": "#f3c9bc", "undecided": "#f7e9cb", "": "#e9ebed"}
MEANING = (
    "green: the gate passed it; red: refused; sand: undecided; grey: never judged; "
    "heavy frame: champion; dashed frame: weights not here"
)
_CHINESE = {
    "base model": "基础模型",
    "version": "版本",
    "never judged": "从未裁决",
    "in no slot": "不在任何槽位",
    "mean": "平均",
    "pass": "通过",
    "fail": "拒绝",
    "undecided": "未定",
    MEANING: "绿：通过门禁；红：拒绝；沙色：未定；灰：从未裁决；粗框：冠军；虚线框：权重不在此处",
}
INK, SOFT, FAINT, PAPER = "#202428", "#5c6166", "#8c9094", "#ffffff"
_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN = 168.0, 62.0, 216.0, 84.0, 24.0
_LEGEND = 34.0
_LETTERS = 22  # that fit into a box
_FONT = "DejaVu Sans"  # comes with matplotlib
_INCH = 100.0  # units of the drawing


@dataclass(frozen=True)
class Node:
    """One version; number 0 is the base model.

    Attributes:
        parents: numbers it was trained from; 0 for the base model. The first is the one training started from.
        score: mean over the tasks it was taught.
        column, row: its place in the picture; a line of descent keeps its row as long as it can.
    """

    number: int
    title: str
    parents: tuple[int, ...]
    slots: tuple[str, ...] = ()
    verdict: str = ""
    score: float | None = None
    collected: bool = False
    column: int = 0
    row: int = 0

    @property
    def told(self) -> str:
        """The second line of its box."""
        return self.told_in({})

    def told_in(self, words: Mapping[str, str]) -> str:
        """The same with other words."""
        parts = [", ".join(self.slots), "" if self.score is None else f"{words.get('mean', 'mean')} {self.score:.2f}"]
        return " · ".join(part for part in parts if part)


def nodes(workspace: Workspace) -> list[Node]:
    """Every version, oldest first, behind the base model they come from."""
    ledger = workspace.ledger
    held: dict[int, list[str]] = {}
    for slot in ledger.slots().values():
        held.setdefault(slot.version, []).append(slot.name)
    means: dict[str, dict[str, float]] = {}
    for report in ledger.reports():
        means.setdefault(report.weights, {})[report.task] = report.mean
    found = [Node(0, Path(workspace.settings.model).name, ())]
    columns, rows, ends = {0: 0}, {0: 0}, {0: 0}  # `ends`: the newest version of each row
    for version in ledger.versions():
        verdict, found_of = ledger.verdict(version.number), means.get(version.artifact, {})
        scores = [score for task, score in found_of.items() if task in version.tasks]  # not what it was never taught
        parents = version.parents or (0,)
        first = parents[0]
        row = rows[first] if ends.get(rows[first]) == first else len(ends)
        columns[version.number], rows[version.number] = max(columns[one] for one in parents) + 1, row
        ends[row] = version.number
        found.append(
            Node(
                version.number,
                version.made or version.snapshot.task,
                parents,
                tuple(held.get(version.number, ())),
                verdict.outcome if verdict else "",
                sum(scores) / len(scores) if scores else None,
                where_weights_are(workspace, version) != "here",
                columns[version.number],
                row,
            )
        )
    return found


def save(found: Sequence[Node], path: Path) -> list[str]:
    """Draw the versions into a file that ends in .svg, .html or .png.

    Returns:
        Notes: which titles no installed font can draw.

    Raises:
        InputError: the name ends in something else.
        NacreError: the file cannot be written.
    """
    kind = path.suffix.lower()
    if kind == ".png":
        drawn, notes = _drawable(found)
        atomic_write(path, _png(drawn))
        return notes
    if kind not in (".svg", ".html"):
        raise InputError(f"a picture cannot be {kind or 'without an ending'}", where=str(path), fix="svg, html or png")
    atomic_write(path, as_svg(found) if kind == ".svg" else _html(found))
    return []


def as_svg(found: Sequence[Node], lang: str = "en") -> str:
    """The picture as one SVG element, its own words in `en` or `zh`."""
    words = _CHINESE if lang == "zh" else {}
    width, height = _size(found)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="system-ui, DejaVu Sans, sans-serif" fill="{INK}">',
        f'<rect width="100%" height="100%" fill="{PAPER}"/>',
    ]
    places = {node.number: _place(node) for node in found}
    for node in found:
        for order, parent in enumerate(node.parents):
            (x0, y0), (x1, y1) = places[parent], places[node.number]
            x0, y0, y1 = x0 + _WIDTH, y0 + _HEIGHT / 2, y1 + _HEIGHT / 2
            middle = (x0 + x1) / 2
            dashed = ' stroke-dasharray="5 4"' if order else ""
            bend = f"M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}"
            lines.append(f'<path d="{bend}" fill="none" stroke="{FAINT}" stroke-width="1.6"{dashed}/>')
    for node in found:
        lines += _box(node, places[node.number], words)
    meaning = words.get(MEANING, MEANING)
    told = f'<text x="{_MARGIN:g}" y="{height - 14:g}" font-size="12" fill="{SOFT}">{meaning}</text>'
    return "\n".join([*lines, told, "</svg>\n"])


def _box(node: Node, place: tuple[float, float], words: Mapping[str, str]) -> list[str]:
    x, y = place
    heavy, dashed = (3 if "champion" in node.slots else 1), ' stroke-dasharray="6 4"' if node.collected else ""
    verdict, told = node.verdict or "never judged", node.told_in(words)
    state = f"{node.title}; {words.get(verdict, verdict)}; {told or words.get('in no slot', 'in no slot')}"
    name = "version" if node.number else "base model"
    title = f"{words.get(name, name)} {node.number or ''}".rstrip()
    return [
        f"<g><title>{escape(f'{title}: {state}')}</title>",
        f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH:g}" height="{_HEIGHT:g}" rx="8" '
        f'fill="{COLOURS[node.verdict]}" stroke="{INK}" stroke-width="{heavy}"{dashed}/>',
        f'<text x="{x + 12:g}" y="{y + 20:g}" font-size="13" font-weight="600">{title}</text>',
        f'<text x="{x + 12:g}" y="{y + 36:g}" font-size="12">{escape(_cut(node.title))}</text>',
        f'<text x="{x + 12:g}" y="{y + 53:g}" font-size="11" fill="#4c5258">{escape(_cut(told, 26))}</text></g>',
    ]


def _png(found: Sequence[Node]) -> bytes:
    """The same drawing by matplotlib, whose axes count downwards here as SVG does."""
    width, height = _size(found)
    figure = Figure(figsize=(width / _INCH, height / _INCH), dpi=160)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    places = {node.number: _place(node) for node in found}
    for node in found:
        for order, parent in enumerate(node.parents):
            (x0, y0), (x1, y1) = places[parent], places[node.number]
            x0, y0, y1 = x0 + _WIDTH, y0 + _HEIGHT / 2, y1 + _HEIGHT / 2
            points = [(x0, y0), ((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1), (x1, y1)]
            bend = Curve(points, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
            style = "--" if order else "-"
            axes.add_patch(PathPatch(bend, fill=False, edgecolor=FAINT, linewidth=1.2, linestyle=style))
    for node in found:
        x, y = places[node.number]
        heavy, style = (2.2 if "champion" in node.slots else 0.8), "--" if node.collected else "-"
        box = FancyBboxPatch(
            (x, y),
            _WIDTH,
            _HEIGHT,
            boxstyle="round,pad=0,rounding_size=8",
            facecolor=COLOURS[node.verdict],
            edgecolor=INK,
            linewidth=heavy,
            linestyle=style,
        )
        axes.add_patch(box)
        title = f"version {node.number}" if node.number else "base model"
        axes.text(x + 12, y + 20, title, fontsize=9, fontweight="bold", color=INK, family=_FONT)
        axes.text(x + 12, y + 36, _cut(node.title), fontsize=8, color=INK, family=_FONT, parse_math=False)
        axes.text(x + 12, y + 53, _cut(node.told, 26), fontsize=7.2, color="#4c5258", family=_FONT)
    axes.text(_MARGIN, height - 14, MEANING, fontsize=8, color=FAINT, family=_FONT)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _drawable(found: Sequence[Node]) -> tuple[list[Node], list[str]]:
    """Titles that the font cannot draw become numbers, never boxes."""
    known = set(FT2Font(findfont(_FONT)).get_charmap())
    drawn, notes = [], []
    for node in found:
        if all(ord(letter) in known for letter in node.title):
            drawn.append(node)
            continue
        stand_in = f"increment {node.number}"
        notes.append(f"{stand_in} = {node.title} (the PNG's font does not draw it; --out with .svg or .html does)")
        drawn.append(Node(**{**vars(node), "title": stand_in}))
    return drawn, notes


def _html(found: Sequence[Node]) -> str:
    rows = "".join(
        f"<tr><td>{node.number}</td><td>{escape(node.title)}</td><td>{_from(node)}</td>"
        f"<td>{', '.join(node.slots)}</td><td>{node.verdict}</td>"
        f"<td>{'' if node.score is None else f'{node.score:.3f}'}</td></tr>"
        for node in found
        if node.number
    )
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;color:#202428;margin:2rem}div{overflow-x:auto}"
        "table{border-collapse:collapse;margin-top:1rem}td,th{padding:.2rem .8rem;text-align:left}"
    )
    names = "".join(f"<th>{name}</th>" for name in ("version", "increment", "from", "slots", "verdict", "mean score"))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Versions</title><style>{style}</style>'
        f"<h1>Versions</h1><div>{as_svg(found)}</div><table><tr>{names}</tr>{rows}</table></html>\n"
    )


def _from(node: Node) -> str:
    return ", ".join(str(parent) if parent else "base model" for parent in node.parents)


def _place(node: Node) -> tuple[float, float]:
    return _MARGIN + _ACROSS * node.column, _MARGIN + _DOWN * node.row


def _size(found: Sequence[Node]) -> tuple[float, float]:
    width = 2 * _MARGIN + _ACROSS * max(node.column for node in found) + _WIDTH
    height = 2 * _MARGIN + _DOWN * max(node.row for node in found) + _HEIGHT + _LEGEND
    return max(width, 720.0), height


def _cut(text: str, letters: int = _LETTERS) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
