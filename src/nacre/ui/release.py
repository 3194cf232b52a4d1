"""The tab from which releases are steered: every move asks once more before it is made."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from nacre.ui import pictures
from nacre.ui.client import Refused
from nacre.ui.desk import QUIET, Desk

_LOOK_S = 5.0
_MOVES = {
    **{name: f"/admin/release/{name}" for name in ("start", "hold", "resume", "approve", "promote", "abort")},
    **{name: f"/admin/release/{name}" for name in ("rollback", "tick")},
    "promote champion": "/admin/promote",
    "rollback champion": "/admin/rollback",
}
_OF_A_VERSION = ("start", "promote champion")
_FORCED = (*_OF_A_VERSION, "promote")  # where the gate can be overruled


def build(desk: Desk, tab: Any) -> Any:
    """Lay the tab out. It is filled when it is chosen, and kept up to date while it is shown; returns its clock."""
    said = desk.word
    with gr.Row(elem_classes="n-row"):
        live = gr.Checkbox(True, label=said("live"), elem_id="n-live-release", scale=3)
        refresh = gr.Button(said("refresh"), elem_id="n-refresh-release", scale=1, min_width=110)
    state = desk.html(elem_id="n-state")
    with gr.Accordion(said("pairs newest"), open=False, visible=False, elem_id="n-pairs") as folded:
        pairs = desk.html()
    clock = gr.Timer(_LOOK_S, active=False)
    with gr.Group(elem_id="n-moves"):
        move = gr.Radio([(said(f"move {name}"), name) for name in _MOVES], label=said("move"), elem_id="n-move")
        with gr.Row(elem_classes="n-row"):
            version = gr.Dropdown([], label=said("move version"), elem_id="n-move-version", visible=False)
            why = gr.Textbox(label=said("why"), max_length=500, elem_id="n-why", scale=2)
            force = gr.Checkbox(label=said("force"), elem_id="n-force", visible=False)
    do = gr.Button(said("do"), elem_id="n-do")
    with gr.Group(visible=False, elem_id="n-confirm") as asked:
        question = desk.html(elem_id="n-question")
        with gr.Row():
            yes = gr.Button(said("confirm"), variant="stop", elem_id="n-yes")
            no = gr.Button(said("cancel"), elem_id="n-no")
    told = desk.html(elem_id="n-moved")

    fill, wanted = _filling(desk), gr.State(None)  # what was asked about: that is done, whatever was chosen since

    def ask(name: str | None, number: int | None, over: bool) -> Any:
        if name is None or (name in _OF_A_VERSION and number is None):
            return gr.update(visible=False), pictures.notice(said("choose move"), wrong=True), None
        asked_about = (name, number, over and name in _FORCED)
        return gr.update(visible=True), pictures.notice(said("sure", what=_what(desk, *asked_about))), asked_about

    shown = [state, folded, pairs, version]
    move.change(
        lambda name: (gr.update(visible=name in _OF_A_VERSION), gr.update(visible=name in _FORCED)),
        move,
        [version, force],
        **QUIET,
    )
    do.click(ask, [move, version, force], [asked, question, wanted], **QUIET)
    no.click(
        lambda: (gr.update(visible=False), pictures.notice(said("cancelled")), None),
        None,
        [asked, told, wanted],
        **QUIET,
    )
    acted = yes.click(_acting(desk), [wanted, why], [told, asked, wanted], **QUIET)
    acted.then(fill, None, shown, **QUIET)
    tab.select(fill, None, shown, **QUIET)
    tab.select(lambda on: gr.update(active=on), live, clock, **QUIET)
    live.input(lambda on: gr.update(active=on), live, clock, **QUIET)
    refresh.click(fill, None, shown, **QUIET)
    clock.tick(fill, None, shown, **QUIET)
    return clock


def _filling(desk: Desk) -> Any:
    async def fill(request: gr.Request) -> Any:
        try:
            api = desk.api(request)
            slots, release = await api.get("/admin/slots"), await api.get("/admin/release")
            pairs = (await api.get("/admin/pairs"))["pairs"] if release["active"] else []
            numbers = [one["version"] for one in (await api.get("/admin/versions"))["versions"]]
        except Refused as error:
            return desk.no(error), gr.update(visible=False), "", gr.update()
        drawn = _pairs(desk, pairs) if pairs else ""
        return (
            _state(desk, slots, release),
            gr.update(visible=bool(pairs)),
            drawn,
            gr.update(choices=list(reversed(numbers))),
        )

    return fill


def _acting(desk: Desk) -> Any:
    async def act(wanted: tuple[str, int | None, bool] | None, reason: str, request: gr.Request) -> Any:
        if wanted is None:
            return "", gr.update(visible=False), None
        name, number, over = wanted
        body: dict[str, Any] = {"why": reason.strip()} if reason.strip() else {}
        if name in _OF_A_VERSION:
            body |= {"version": number}
        if name in _FORCED:
            body["force"] = over
        try:
            await desk.api(request).post(_MOVES[name], body)
        except Refused as error:
            return desk.no(error), gr.update(visible=False), None
        return pictures.notice(desk.word("done", what=_what(desk, *wanted))), gr.update(visible=False), None

    return act


def _what(desk: Desk, name: str, number: int | None, over: bool) -> str:
    of = f" ({desk.word('version')} {number})" if name in _OF_A_VERSION else ""
    return desk.word(f"move {name}") + of + (f" · {desk.word('force')}" if over else "")


def _state(desk: Desk, slots: Mapping[str, Any], release: Mapping[str, Any]) -> str:
    """Slots, the release under way with its evidence, and those before."""
    said = desk.word
    rows = [
        [name, held["version"], slots["answering"].get(name), slots["troubles"].get(name, "")]
        for name, held in sorted(slots["slots"].items())
    ]
    heads = [said("slot"), said("version"), said("answering"), said("note")]
    html = f"<h2>{escape(said('slots'))}</h2>" + pictures.table(heads, rows, label=said("slots"))
    html += f"<h2>{escape(said('release'))}</h2>"
    html += _active(desk, release["active"]) if release["active"] else pictures.notice(said("no release"))
    now = release["active"]["id"] if release["active"] else None
    past = [
        [one["id"], one["version"], said(f"is {one['state']}"), one["why"]]
        for one in reversed(release["releases"])
        if one["id"] != now
    ]
    if past:
        heads = ["#", said("version"), said("state"), said("because")]
        html += f"<h3>{escape(said('past'))}</h3>" + pictures.table(heads, past[:10], label=said("past"))
    return html


def _active(desk: Desk, active: Mapping[str, Any]) -> str:
    said = desk.word
    title = said("under way", id=active["id"], version=active["version"], champion=active["champion"])
    facts = [
        (said("state"), said(f"is {active['state']}")),
        (said("weight"), f"{active['weight']:g} %"),
        *([(said("held"), active["held"])] if active["held"] else []),
        (said("observed"), active["requests"]),
        (said("decision"), f"{said('says ' + active['decision'])}: {active['because']}"),
    ]
    if alike := active.get("similarity"):
        facts.append((said("pairs"), said("pairs told", n=alike["pairs"], alike=alike["same"])))
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts)
    html = f'<h3>{escape(title)}</h3><dl class="n-facts">{told}</dl>'
    if active["findings"]:
        heads = [said(key) for key in ("measure", "champion arm", "new arm", "loss", "interval", "margin", "outcome")]
        rows = [_finding(desk, one) for one in active["findings"]]
        html += pictures.table(heads, rows, label=title)
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*active["missing"], *active["notes"]))
    return html + (f'<ul class="n-soft">{notes}</ul>' if notes else "")


def _pairs(desk: Desk, pairs: Sequence[Mapping[str, Any]]) -> str:
    """What both versions answered to the same requests."""
    said = desk.word
    heads = [said(key) for key in ("question", "champion arm", "new arm", "score")]
    rows = [
        [
            one["question"],
            one["champion"],
            said("alike") if one["champion"] == one["shadow"] else one["shadow"],
            " → ".join(f"{score:.2f}" for score in one["scores"] or ()) or None,
        ]
        for one in pairs
    ]
    return pictures.table(heads, rows, label=said("pairs"))


def _finding(desk: Desk, one: Mapping[str, Any]) -> list[Any]:
    arms = one["arms"]
    bounds = " … ".join("?" if bound is None else f"{bound:+.3f}" for bound in one["interval"])
    return [
        one["metric"],
        f"{arms['before']:.3f} ({arms['old']})",
        f"{arms['after']:.3f} ({arms['new']})",
        f"{one['drop']:+.3f}",
        bounds,
        f"{one['margin']:.3f}",
        desk.word(one["outcome"]),
    ]
