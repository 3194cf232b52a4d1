"""The tabs that only show: data reports, and how trainings go."""

from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from nacre.ui import pictures
from nacre.ui.client import Refused
from nacre.ui.desk import QUIET, Desk

_POLL_S = 2.0


def build_data(desk: Desk, tab: Any) -> None:
    """Lay the tab of data reports out. Its list is filled when it is chosen, a report is made when it is asked for."""
    said = desk.word
    with gr.Row(elem_classes="n-row"):
        name = gr.Dropdown([], label=said("increment"), elem_id="n-increment", scale=3)
        make = gr.Button(said("make report"), variant="primary", elem_id="n-make", scale=1, min_width=160)
    desk.html(f'<p class="n-soft">{escape(said("wait report"))}</p>')
    report = desk.html(elem_id="n-report")

    async def fill(request: gr.Request) -> Any:
        try:
            names = (await desk.api(request).get("/admin/increments"))["increments"]
        except Refused as error:
            return gr.update(), desk.no(error)
        return gr.update(choices=names, value=next(iter(names), None)), gr.update()

    async def show(chosen: str | None, request: gr.Request) -> str:
        if chosen is None:
            return pictures.notice(said("nothing"))
        path, title = f"/admin/increments/{chosen}/report", said("report of", name=chosen)
        return await desk.shown(request, path, lambda page: pictures.framed(page, title), lang=desk.language)

    tab.select(fill, None, [name, report], **QUIET)
    make.click(show, name, report, api_visibility="private", show_progress="full")


def build_training(desk: Desk, tab: Any) -> Any:
    """Lay the tab of trainings out. It is kept up to date while it is shown; returns its clock."""
    said = desk.word
    with gr.Row(elem_classes="n-row"):
        which = gr.Dropdown([(said("trainings now"), 0)], value=0, label=said("which"), elem_id="n-which", scale=3)
        live = gr.Checkbox(True, label=said("live"), elem_id="n-live-training", scale=1)
    drawn = desk.html(elem_id="n-curves")
    clock = gr.Timer(_POLL_S, active=False)

    async def fill(chosen: int, request: gr.Request) -> Any:
        try:
            api = desk.api(request)
            versions = (await api.get("/admin/versions"))["versions"]
            if chosen:
                html = _finished(desk, await api.get(f"/admin/versions/{chosen}/curves"))
            else:
                html = _running(desk, await api.get("/admin/trainings"))
        except Refused as error:
            return gr.update(), desk.no(error)
        names = [(f"{said('version')} {one['version']}", one["version"]) for one in reversed(versions)]
        return gr.update(choices=[(said("trainings now"), 0), *names]), html

    shown = [which, drawn]
    tab.select(fill, which, shown, **QUIET)
    tab.select(lambda on: gr.update(active=on), live, clock, **QUIET)
    live.input(lambda on: gr.update(active=on), live, clock, **QUIET)
    which.input(fill, which, shown, **QUIET)
    clock.tick(fill, which, shown, **QUIET)
    return clock


def _finished(desk: Desk, told: Mapping[str, Any]) -> str:
    title = f"{desk.word('version')} {told['version']} · {told['task']}"
    drawn = pictures.curves(told["points"], desk.language) or pictures.notice(desk.word("no log"))
    return f"<h2>{escape(title)}</h2>{drawn}"


def _running(desk: Desk, told: Mapping[str, Any]) -> str:
    html = ""
    for one in told["trainings"]:
        silent = desk.word("silent", s=round(one["silent_s"]))
        if not one["points"]:
            html += f"<h2>{escape(one['run'])}</h2>{pictures.notice(desk.word('no step'))}"
            continue
        last = one["points"][-1]
        where = desk.word(
            "progress", step=last["current_steps"], total=last["total_steps"], left=last["remaining_time"]
        )
        html += f"<h2>{escape(one['run'])}</h2><p>{escape(where)} · {escape(silent)}</p>"
        html += f'<progress max="{last["total_steps"]}" value="{last["current_steps"]}" aria-label="{escape(where)}">'
        html += "</progress>"
        html += pictures.curves(one["points"], desk.language)
    return html or pictures.notice(desk.word("no training"))
