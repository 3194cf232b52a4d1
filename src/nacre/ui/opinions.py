"""The tab in which a person says what of people's opinions may be learned from."""

from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from nacre.ui.client import Refused
from nacre.ui.desk import QUIET, Desk
from nacre.ui.pictures import notice, seen

_STATUSES = {"new": "new opinions", "quarantined": "quarantined", "accepted": "accepted", "rejected": "rejected"}


def build(desk: Desk, tab: Any) -> None:
    """Lay the tab out. It is filled when it is chosen."""
    said = desk.word
    with gr.Row(elem_classes="n-row"):
        choices = [(said(word), name) for name, word in _STATUSES.items()]
        status = gr.Radio(
            [*choices, (said("exported"), "exported"), (said("all"), "all")],
            value="new",
            label=said("status"),
            elem_id="n-status",
            scale=4,
        )
        refresh = gr.Button(said("refresh"), elem_id="n-refresh-feedback", scale=1, min_width=110)
    cards = desk.html(elem_id="n-cards")
    chosen = gr.CheckboxGroup([], label=said("choose"), elem_id="n-chosen")
    with gr.Row(elem_classes="n-row"):
        why = gr.Textbox(label=said("why"), max_length=500, elem_id="n-judge-why", scale=3)
        accept = gr.Button(said("accept"), variant="primary", elem_id="n-accept", min_width=110)
        reject = gr.Button(said("reject"), elem_id="n-reject", min_width=110)
    told = desk.html(elem_id="n-judged")

    async def fill(wanted: str, request: gr.Request) -> Any:
        try:
            found = await desk.api(request).get("/admin/feedback", status=None if wanted == "all" else wanted)
        except Refused as error:
            return desk.no(error), gr.update(choices=[], value=[])
        free = [one for one in found["feedback"] if one["status"] != "exported"]
        names = [(f"#{one['id']} {said(_kind(one))}", one["id"]) for one in free]
        return _cards(desk, found), gr.update(choices=names, value=[])

    def judging(verdict: str) -> Any:
        async def judge(ids: list[int], reason: str, request: gr.Request) -> Any:
            if not ids:
                return notice(said("choose first"), wrong=True), reason
            body: dict[str, Any] = {"ids": ids, "status": verdict} | ({"why": reason.strip()} if reason.strip() else {})
            try:
                await desk.api(request).post("/admin/feedback", body)
            except Refused as error:
                return desk.no(error), reason
            return notice(said("judged", n=len(ids), status=said(verdict))), ""

        return judge

    shown = [cards, chosen]
    for button, verdict in ((accept, "accepted"), (reject, "rejected")):
        judged = button.click(judging(verdict), [chosen, why], [told, why], **QUIET)
        judged.then(fill, status, shown, **QUIET)
    tab.select(fill, status, shown, **QUIET)
    refresh.click(fill, status, shown, **QUIET)
    status.input(fill, status, shown, **QUIET)


def _cards(desk: Desk, found: Mapping[str, Any]) -> str:
    """One card an opinion: what was asked, answered and said."""
    said = desk.word
    words = _STATUSES | {"exported": "exported"}
    counts = " · ".join(f"{said(words[name])}: {n}" for name, n in sorted(found["counts"].items()) if name in words)
    if not found["feedback"]:
        return notice(f"{said('nothing')} {counts}".strip())
    shown = said("shown", n=len(found["feedback"]), found=found["found"])
    cards = "".join(_card(desk, one, said(words[one["status"]])) for one in found["feedback"])
    return f'<p class="n-soft">{escape(shown)} · {escape(counts)}</p><ul class="n-cards">{cards}</ul>'


def _card(desk: Desk, one: Mapping[str, Any], status: str) -> str:
    said = desk.word
    lines = [(said("question"), one.get("question", "")), (said("answer"), one.get("answer", ""))]
    if one.get("other_answer"):
        lines.append((said("right"), one["other_answer"]))
    value = one["text"] or (said(f"pair {one['value']:g}") if one["kind"] == "pair" else _value(one))
    lines.append((said(_kind(one)), value))
    if one["why"]:
        lines.append((said("because"), one["why"]))
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{seen(text)}</dd>" for name, text in lines)
    about = f"{said('version')} {one['version']} · {one['arm']}" if "version" in one else ""
    head = " · ".join(filter(None, (said(_kind(one)), status, about, one["time"][:16].replace("T", " "))))
    return f'<li><p><b>#{one["id"]}</b> {escape(head)}</p><dl class="n-facts">{facts}</dl></li>'


def _kind(one: Mapping[str, Any]) -> str:
    """The word for what somebody said."""
    return "corrected" if one["kind"] == "correction" else str(one["kind"])


def _value(one: Mapping[str, Any]) -> str:
    if one["kind"] == "stars":
        return "★" * int(one["value"])
    if one["kind"] == "thumb":
        return "👍" if one["value"] else "👎"
    return f"{one['value']:g}" if one["value"] is not None else ""
