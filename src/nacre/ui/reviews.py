"""Rows that wait for a person before they count: accepted, rejected or written anew, and made an increment."""

from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from nacre.ui.client import Refused
from nacre.ui.desk import QUIET, Desk
from nacre.ui.pictures import notice, seen


def build(desk: Desk, tab: Any) -> None:
    """Lay the lower half of the feedback tab out. It is filled when the tab is chosen."""
    said = desk.word
    desk.html(f"<h2>{escape(said('review'))}</h2><p class='n-soft'>{escape(said('review why'))}</p>")
    with gr.Row(elem_classes="n-row"):
        queue = gr.Dropdown([], label=said("queue"), elem_id="n-queue", scale=3)
        refresh = gr.Button(said("refresh"), elem_id="n-refresh-drafts", scale=1, min_width=110)
    cards = desk.html(elem_id="n-drafts")
    with gr.Column(visible=False) as desktop:
        chosen = gr.CheckboxGroup([], label=said("choose rows"), elem_id="n-draft-chosen")
        with gr.Row():
            accept = gr.Button(said("accept"), variant="primary", elem_id="n-draft-accept", min_width=110)
            reject = gr.Button(said("reject"), elem_id="n-draft-reject", min_width=110)
            edit = gr.Button(said("edit"), elem_id="n-draft-edit", min_width=110)
    with gr.Group(visible=False, elem_id="n-draft-anew") as anew:
        question = gr.Textbox(label=said("question"), lines=2, max_length=20_000, elem_id="n-draft-question")
        answer = gr.Textbox(label=said("answer"), lines=3, max_length=20_000, elem_id="n-draft-answer")
        save = gr.Button(said("accept edited"), variant="primary", elem_id="n-draft-save")
    with gr.Row(elem_classes="n-row", visible=False) as writing:
        name = gr.Textbox(label=said("increment name"), max_length=64, elem_id="n-draft-name", scale=3)
        write = gr.Button(said("write increment"), elem_id="n-draft-write", scale=2, min_width=160)
    told = desk.html(elem_id="n-draft-told")
    under, edited = gr.State(dict[int, dict[str, Any]]()), gr.State(None)

    fill = _filling(desk)
    shown = [queue, cards, chosen, desktop, anew, writing, name, under, edited]
    for button, verdict in ((accept, "accepted"), (reject, "rejected")):
        button.click(_judging(desk, verdict), chosen, told, **QUIET).then(fill, queue, shown, **QUIET)
    edit.click(_editing(desk), [chosen, under], [told, anew, question, answer, edited], **QUIET)
    save.click(_saving(desk, fill, len(shown)), [edited, question, answer, queue], [told, *shown], **QUIET)
    write.click(_writing(desk), [queue, name], told, **QUIET).then(fill, queue, shown, **QUIET)
    tab.select(fill, queue, shown, **QUIET)
    refresh.click(fill, queue, shown, **QUIET)
    queue.input(fill, queue, shown, **QUIET)


def _filling(desk: Desk) -> Any:
    said = desk.word

    async def fill(wanted: str | None, request: gr.Request) -> Any:
        hidden = gr.update(visible=False)
        try:
            found = await desk.api(request).get("/admin/drafts", queue=wanted)
        except Refused as error:
            return gr.update(), desk.no(error), gr.update(choices=[], value=[]), *(hidden,) * 3, "", {}, None
        queues = found["queues"]
        names = [(said("queue told", **one), one["queue"]) for one in queues]
        now = next((one for one in queues if one["queue"] == found["queue"]), None)
        drafts = {one["id"]: one for one in found["drafts"]}
        ready = bool(now and now["ready"])
        return (
            gr.update(choices=names, value=found["queue"]),
            _cards(desk, found, now),
            gr.update(choices=[(f"#{number}", number) for number in drafts], value=[]),
            gr.update(visible=bool(drafts)),
            hidden,
            gr.update(visible=ready),
            gr.update(value=found["queue"] if ready else "", interactive=not (now and now["harvested"])),
            drafts,
            None,
        )

    return fill


def _judging(desk: Desk, verdict: str) -> Any:
    async def judge(ids: list[int], request: gr.Request) -> str:
        if not ids:
            return notice(desk.word("choose rows first"), wrong=True)
        try:
            await desk.api(request).post("/admin/drafts", {"ids": ids, "status": verdict})
        except Refused as error:
            return desk.no(error)
        return notice(desk.word("rows judged", n=len(ids), status=desk.word(verdict)))

    return judge


def _editing(desk: Desk) -> Any:
    def edit(ids: list[int], under: dict[int, dict[str, Any]]) -> Any:
        if len(ids) != 1 or ids[0] not in under:
            return notice(desk.word("choose one"), wrong=True), gr.update(visible=False), "", "", None
        one = under[ids[0]]
        return "", gr.update(visible=True), one["question"], one["answer"], ids[0]

    return edit


def _saving(desk: Desk, fill: Any, shown: int) -> Any:
    async def save(number: int | None, question: str, answer: str, queue: str | None, request: gr.Request) -> Any:
        same = [gr.skip()] * shown  # what was written is not lost where it is refused
        if number is None:
            return notice(desk.word("choose one"), wrong=True), *same
        try:
            await desk.api(request).post(f"/admin/drafts/{number}", {"question": question, "answer": answer})
        except Refused as error:
            return desk.no(error), *same
        done = notice(desk.word("rows judged", n=1, status=desk.word("accepted")))
        return done, *(await fill(queue, request))

    return save


def _writing(desk: Desk) -> Any:
    async def write(queue: str | None, name: str, request: gr.Request) -> str:
        if queue is None:
            return notice(desk.word("no queue"), wrong=True)
        try:
            done = await desk.api(request).post(
                "/admin/drafts/write", {"queue": queue, "increment": name.strip() or None}
            )
        except Refused as error:
            return desk.no(error)
        return notice(desk.word("rows written", n=done["rows"], file=done["file"]))

    return write


def _cards(desk: Desk, found: Mapping[str, Any], now: Mapping[str, Any] | None) -> str:
    """One card an open row: what would be learned from it."""
    said = desk.word
    if now is None:
        return notice(said("no queue"))
    told = f'<p class="n-soft">{escape(said("queue told", **now))}</p>'
    if not found["drafts"]:
        return told + notice(said("all decided"))
    if len(found["drafts"]) < now["open"]:
        told += f'<p class="n-soft">{escape(said("oldest shown", n=len(found["drafts"])))}</p>'
    return told + f'<ul class="n-cards">{"".join(_card(desk, one) for one in found["drafts"])}</ul>'


def _card(desk: Desk, one: Mapping[str, Any]) -> str:
    said = desk.word
    lines = [(said("system"), one["system"])] if one["system"] else []
    for turn in one["before"]:
        lines.append((said("question" if turn["role"] == "user" else "answer"), turn["content"]))
    lines += [(said("question"), one["question"]), (said("answer"), one["answer"])]
    if one["worse"] is not None:
        lines.append((said("worse"), one["worse"]))
    if one["wanted"] is not None:
        lines.append((said("thumb"), said("is wanted" if one["wanted"] else "not wanted")))
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{seen(text)}</dd>" for name, text in lines)
    made = said("by people") if one["model"] == "feedback" else one["model"]
    return f'<li><p><b>#{one["id"]}</b> {escape(made)}</p><dl class="n-facts">{facts}</dl></li>'
