"""A matrix as a file: PNG, HTML, JSON or CSV, by the ending of its name."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nacre.base.errors import unknown
from nacre.base.files import atomic_write
from nacre.evaluate.heat_map import save_png
from nacre.evaluate.history import History
from nacre.evaluate.matrix import Figure, Matrix, asked_figures, figures
from nacre.evaluate.page import Lang, to_html
from nacre.evaluate.pictures import figures_by_version

ENDINGS = (".png", ".html", ".json", ".csv")


def check_endings(paths: Sequence[Path]) -> None:
    """Find out before any work whether the files can be written in the format that their names ask for.

    Raises:
        InputError: an ending that is none of `ENDINGS`.
    """
    for path in paths:
        if path.suffix.lower() not in ENDINGS:
            raise unknown("kind of file", path.suffix or path.name, ENDINGS, where=str(path))


def save(
    path: Path, title: str, grid: Matrix | History, *, lang: Lang = "both", notes: Sequence[str] = ()
) -> list[str]:
    """Write a matrix, or the whole history, in the format that the file's name ends with.

    Returns:
        Notes: what had to be written differently than it is called.

    Raises:
        InputError: an ending that is none of `ENDINGS`.
        NacreError: the file cannot be written.
    """
    check_endings([path])
    kind = path.suffix.lower()
    if kind == ".png":
        return save_png([(title, grid)], path)
    if kind == ".html":
        text = to_html([(title, grid)], lang=lang, notes=notes)
    elif kind == ".json":
        text = json.dumps(as_json(grid), ensure_ascii=False, indent=1) + "\n"
    else:
        text = to_csv(grid)
    atomic_write(path, text)
    return []


def as_json(grid: Matrix | History) -> dict[str, Any]:
    """All that is known: scores, figures with their definitions; of a history, the figures of every version's line."""
    found = grid.model_dump(mode="json")
    if isinstance(grid, Matrix):
        return found | {figure.name: figure.model_dump(mode="json") for figure in figures(grid)}
    read = figures_by_version(grid)
    lines = {
        str(number): {name: figure.model_dump(mode="json") for name, figure in row.items()}
        for number, row in zip(grid.numbers, read, strict=True)
    }
    return found | {"figures": lines}


def to_csv(grid: Matrix | History) -> str:
    """One row a version, one column a task and a figure; empty where nothing was scored.

    Below the versions stand the base model and the brackets. Figures of a row are read off the line that led to it;
    a matrix of one line has them in its last version's row.
    """
    read = figures_by_version(grid) if isinstance(grid, History) else _last_row(grid)
    names = list(dict.fromkeys(name for row in read for name in row))
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["version", *grid.tasks, *names])
    for version, cells, row in zip(grid.versions, grid.cells, read, strict=True):
        values = [row[name].value if name in row else None for name in names]
        lines.writerow([version, *map(_cell, cells), *map(_cell, values)])
    beside = {"base": grid.base}
    if isinstance(grid, Matrix):
        beside |= {"joint": grid.joint, "plain": grid.plain}
    for name, scores in beside.items():
        if scores:
            lines.writerow([name, *map(_cell, scores), *("" for _ in names)])
    return file.getvalue()


def _last_row(matrix: Matrix) -> list[dict[str, Figure]]:
    empty: list[dict[str, Figure]] = [{} for _ in matrix.versions]
    empty[-1] = {figure.name: figure for figure in asked_figures(matrix)}
    return empty


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
