"""The tab that shows what became of the model: scores, lines through time, lineage, rows lost and gained."""

from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from nacre.ui import pictures
from nacre.ui.client import Refused
from nacre.ui.desk import QUIET, Desk


def build(desk: Desk, tab: Any) -> None:
    """Lay the tab out. It is filled when it is chosen."""
    said = desk.word
    with gr.Row(elem_classes="n-row"):
        version = gr.Dropdown([], label=said("version"), elem_id="n-line", scale=3)
        refresh = gr.Button(said("refresh"), elem_id="n-refresh-evolution", scale=1, min_width=110)
    matrix = desk.html(elem_id="n-matrix")
    lines = desk.html(elem_id="n-lines")
    lineage = desk.html(elem_id="n-lineage")
    changes = desk.html(elem_id="n-changes")
    make = gr.Button(said("evolution report"), elem_id="n-evolution-report")
    report = desk.html(elem_id="n-evolved")

    async def fill(chosen: int | None, request: gr.Request) -> Any:
        try:
            api = desk.api(request)
            versions = (await api.get("/admin/versions"))["versions"]
            told = await api.get("/admin/lineage")
        except Refused as error:
            return gr.update(), desk.no(error), "", "", ""
        names = [(f"{said('version')} {one['version']}", one["version"]) for one in reversed(versions)]
        numbers = [number for _, number in names]
        champion = next((one["number"] for one in told["nodes"] if "champion" in one["slots"]), None)
        known = chosen if chosen in (0, *numbers) else champion or next(iter(numbers), 0)
        grid, drawn = await _of_line(desk, request, known or None)
        choices = [(said("all versions"), 0), *names]
        parts = {"matrix": grid, "lines": drawn, "lineage": pictures.lineage(told, desk.language)}
        parts["changes"] = await desk.shown(request, f"/admin/versions/{known}/flips", _flips(desk)) if known else ""
        titled = [f"<h2>{escape(said(key))}</h2>{html}" if html else "" for key, html in parts.items()]
        return gr.update(choices=choices, value=known), *titled

    async def tell(chosen: int | None, request: gr.Request) -> str:
        if not chosen:
            return pictures.notice(said("nothing"))
        title = f"{said('evolution report')}: {said('version')} {chosen}"
        path = f"/admin/versions/{chosen}/report"
        return await desk.shown(request, path, lambda page: pictures.framed(page, title), lang=desk.language)

    make.click(tell, version, report, **QUIET)
    outputs = [version, matrix, lines, lineage, changes]
    tab.select(fill, version, outputs, **QUIET)
    refresh.click(fill, version, outputs, **QUIET)
    version.input(fill, version, outputs, **QUIET)


async def _of_line(desk: Desk, request: gr.Request, number: int | None) -> tuple[str, str]:
    """The heat map and the lines; the same sentence for both where there are none."""
    try:
        told = await desk.api(request).get("/admin/matrix", version=number)
    except Refused as error:
        return desk.no(error), ""
    grid = pictures.grid_of(told)
    figures = "".join(
        f'<li><span title="{escape(one["definition"])}">{escape(one["name"])}</span> <b>{one["value"]:.3f}</b></li>'
        for one in told["figures"]
        if one["value"] is not None
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in told["notes"])
    below = f'<ul class="n-figures">{figures}</ul>' if figures else ""
    below += f'<ul class="n-soft">{notes}</ul>' if notes else ""
    return pictures.heat_map(grid, desk.language) + below, pictures.task_lines(grid, desk.language)


def _flips(desk: Desk) -> Any:
    said = desk.word

    def draw(told: Mapping[str, Any]) -> str:
        verdict = told["verdict"]
        if verdict is None:
            return pictures.notice(said("not judged"))
        if not verdict["tasks"]:
            return pictures.notice(said("first version"))
        against = f"{said('version')} {told['against']}" if told["against"] else said("base model")
        heads = ("task", "before", "after", "drop", "interval", "margin", "outcome", "lost", "gained")
        rows = [
            [
                one["task"],
                one["before"],
                one["after"],
                one["drop"],
                "{:+.3f} … {:+.3f}".format(*one["interval"]),
                one["margin"],
                said(one["outcome"]),
                one["lost"],
                one["gained"],
            ]
            for one in verdict["tasks"]
        ]
        title = f"{said('version')} {told['version']} {said('against')} {against}: {said(verdict['outcome'])}"
        html = f"<h3>{escape(title)}</h3>" + pictures.table([said(one) for one in heads], rows, label=title)
        flips = [(task["task"], flip) for task in verdict["tasks"] for flip in task["flips"]]
        if flips:
            named = ("task", "question", "before", "after", "outcome")
            told_rows = [
                [task, one["prompt"], one["answer_before"], one["answer_after"], said(_kind(one))]
                for task, one in flips
            ]
            html += pictures.table([said(one) for one in named], told_rows, label=said("changes"))
        return html

    return draw


def _kind(flip: Mapping[str, Any]) -> str:
    return "lost" if flip["after"] < flip["before"] else "gained"
