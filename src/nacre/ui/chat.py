"""The tab in which people ask, compare, and say what they think of answers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, NamedTuple

import gradio as gr

from nacre.ui.client import Api, Refused
from nacre.ui.desk import QUIET, Desk
from nacre.ui.pictures import notice

SIDES = ("left", "right")
_CHOICES = ("left better", "same", "right better")


class Piece(NamedTuple):
    """What is known of an answer so far."""

    side: int
    text: str
    id: str = ""
    model: str = ""
    wrong: str = ""


def fresh() -> dict[str, Any]:
    """A conversation in which nothing was said."""
    return {"left": [], "right": [], "ids": ["", ""]}


def build(desk: Desk) -> Any:
    """Lay the tab out; returns what fills it when the page is loaded, with what that fills."""
    said = desk.word
    talk = gr.State(fresh())
    with gr.Row(elem_classes="n-row"):
        model = gr.Dropdown([], label=said("model"), elem_id="n-model", scale=2)
        compare = gr.Checkbox(label=said("compare"), elem_id="n-compare", scale=1)
        other = gr.Dropdown([], label=said("model two"), elem_id="n-other", visible=False, scale=2)
    with gr.Row():
        boxes = [_box(desk, side) for side in SIDES]
    told = desk.html(elem_id="n-told")
    with gr.Row(elem_classes="n-row"):
        text = gr.Textbox(
            label=said("message"), placeholder=said("message hint"), lines=1, max_lines=6, elem_id="n-text", scale=6
        )
        send = gr.Button(said("send"), variant="primary", elem_id="n-send", scale=1, min_width=90)
        stop = gr.Button(said("stop"), elem_id="n-stop", scale=1, min_width=90)
        anew = gr.Button(said("new"), elem_id="n-new", scale=1, min_width=130)
    with gr.Row(visible=False, elem_id="n-pair") as pair:
        choices = [gr.Button(said(key), elem_id=f"n-{key.replace(' ', '-')}") for key in _CHOICES]
    opinion = _opinion(desk)

    async def begin(asked: str, spoken: dict[str, Any], one: str, both: bool, two: str, request: gr.Request) -> Any:
        models = [one, two] if both else [one]
        async for grown, note in _answers(desk, request, spoken, asked, models):
            unsent = asked if "n-wrong" in note else ""  # what was not answered stays to be sent again
            yield grown, *(_shown(grown[side]) for side in SIDES), note, unsent

    outputs = [talk, *boxes, told, text]
    inputs = [text, talk, model, compare, other]
    running = [one(begin, inputs, outputs, **QUIET) for one in (send.click, text.submit)]
    stop.click(None, cancels=running, **QUIET)
    for again in (anew.click, *(box.clear for box in boxes)):
        again(lambda: (fresh(), [], [], "", ""), None, outputs, **QUIET)
    compare.change(lambda on: tuple(gr.update(visible=on) for _ in range(3)), compare, [other, boxes[1], pair], **QUIET)
    _wire_opinion(desk, talk, told, opinion)
    for choice, key in zip(choices, _CHOICES, strict=True):
        choice.click(_compared(desk, key), talk, told, **QUIET)

    return _loader(desk), [model, other, told]


def _box(desk: Desk, side: str) -> Any:
    return gr.Chatbot(
        label=desk.word(side),
        elem_id=f"n-{side}",
        visible=side == "left",
        height=340,
        buttons=[],
        feedback_options=None,
        allow_tags=False,
        placeholder=desk.word("message hint"),
    )


def _loader(desk: Desk) -> Any:
    async def load(request: gr.Request) -> Any:
        try:
            names = [one["id"] for one in (await desk.api(request).get("/v1/models"))["data"]]
        except Refused as error:
            return gr.update(), gr.update(), desk.no(error)
        arms = [name for name in names if name.endswith((":challenger", ":shadow", ":previous-1"))]
        second = next(iter((*arms, *names[1:], *names)), None)
        return gr.update(choices=names, value=next(iter(names), None)), gr.update(choices=names, value=second), ""

    return load


def _opinion(desk: Desk) -> dict[str, Any]:
    said = desk.word
    with gr.Accordion(said("opinion"), open=True, elem_id="n-opinion"):
        with gr.Row():
            good = gr.Button(said("good"), elem_id="n-good", min_width=120)
            bad = gr.Button(said("bad"), elem_id="n-bad", min_width=120)
            stars = gr.Radio(
                [("★" * number, number) for number in range(1, 6)], label=said("stars"), elem_id="n-stars", scale=3
            )
        with gr.Row():
            correction = gr.Textbox(label=said("correction"), lines=3, elem_id="n-correction", scale=3)
            comment = gr.Textbox(label=said("comment"), lines=3, elem_id="n-comment", scale=2)
        with gr.Row():
            take = gr.Button(said("take answer"), elem_id="n-take")
            give = gr.Button(said("give"), variant="primary", elem_id="n-give")
    return {
        "good": good,
        "bad": bad,
        "stars": stars,
        "correction": correction,
        "comment": comment,
        "take": take,
        "give": give,
    }


def _wire_opinion(desk: Desk, talk: Any, told: Any, parts: dict[str, Any]) -> None:
    async def thumb(spoken: dict[str, Any], up: bool, request: gr.Request) -> str:
        return await _send(desk, request, spoken["ids"][0], {"thumb": "up" if up else "down"})

    async def thumb_up(spoken: dict[str, Any], request: gr.Request) -> str:
        return await thumb(spoken, True, request)

    async def thumb_down(spoken: dict[str, Any], request: gr.Request) -> str:
        return await thumb(spoken, False, request)

    async def give(
        spoken: dict[str, Any], stars: int | None, correction: str, comment: str, request: gr.Request
    ) -> Any:
        given = {"stars": stars, "correction": correction.strip() or None, "comment": comment.strip() or None}
        body = {name: value for name, value in given.items() if value is not None}
        if not body:
            return notice(desk.word("say something"), wrong=True), stars, correction, comment
        note = await _send(desk, request, spoken["ids"][0], body)
        kept = "n-wrong" not in note
        return (note, None, "", "") if kept else (note, stars, correction, comment)

    words = [parts["stars"], parts["correction"], parts["comment"]]
    parts["good"].click(thumb_up, talk, told, **QUIET)
    parts["bad"].click(thumb_down, talk, told, **QUIET)
    parts["give"].click(give, [talk, *words], [told, *words], **QUIET)
    parts["take"].click(
        lambda spoken: spoken["left"][-1]["content"] if spoken["left"] else "", talk, parts["correction"], **QUIET
    )


def _compared(desk: Desk, key: str) -> Any:
    async def compared(spoken: dict[str, Any], request: gr.Request) -> str:
        left, right = spoken["ids"]
        if not (left and right):
            return notice(desk.word("ask first"), wrong=True)
        better, other = (right, left) if key == "right better" else (left, right)
        body = {"as_good_as": other} if key == "same" else {"better_than": other}
        return await _send(desk, request, better, body)

    return compared


async def _send(desk: Desk, request: gr.Request, response_id: str, body: dict[str, Any]) -> str:
    """Send opinions on one answer; what is shown then."""
    if not response_id:
        return notice(desk.word("ask first"), wrong=True)
    try:
        await desk.api(request).post("/v1/feedback", {"response_id": response_id, **body})
    except Refused as error:
        return desk.no(error)
    names = {"better_than": "pair", "as_good_as": "pair"}
    what = ", ".join(desk.word(names.get(one, one)) for one in body)
    return notice(desk.word("thanks", what=what))


async def _answers(
    desk: Desk, request: gr.Request, spoken: dict[str, Any], asked: str, models: list[str]
) -> AsyncIterator[tuple[dict[str, Any], str]]:
    """The conversation as it grows, and what is said below it."""
    if not asked.strip():
        yield spoken, ""
        return
    spoken = {**spoken, "ids": ["", ""]}
    try:
        api = desk.api(request)
    except Refused as error:
        yield spoken, desk.no(error)
        return
    # both answer the same conversation, or their answers could not be compared; a question that was stopped before its
    # answer began is not part of it
    before = spoken["left"] if spoken["left"] and spoken["left"][-1]["content"] else spoken["left"][:-2]
    for side in SIDES[: len(models)]:
        spoken[side] = [*before, {"role": "user", "content": asked}, {"role": "assistant", "content": ""}]
    names, wrong = [""] * len(models), ""
    yield spoken, ""
    async with aclosing(_side_by_side(api, models, spoken["left"][:-1])) as pieces:
        async for piece in pieces:
            spoken[SIDES[piece.side]][-1]["content"] = piece.text
            spoken["ids"][piece.side], names[piece.side] = piece.id, piece.model
            wrong = piece.wrong or wrong
            yield spoken, ""
    if wrong:
        for place, side in enumerate(SIDES[: len(models)]):  # what was not answered was not said
            if not spoken["ids"][place]:
                spoken[side] = spoken[side][:-2]
        yield spoken, notice(f"{desk.word('refused')}: {wrong}", wrong=True)
    else:
        yield spoken, notice(" · ".join(desk.word("answered by", model=name) for name in names))


async def _side_by_side(api: Api, models: list[str], messages: list[dict[str, str]]) -> AsyncGenerator[Piece, None]:
    """The pieces of all models' answers to one conversation as they come."""
    come: asyncio.Queue[Piece | None] = asyncio.Queue()

    async def one(side: int) -> None:
        piece = Piece(side, "")
        body = {"model": models[side], "messages": messages, "user": api.person}
        try:
            async with aclosing(api.stream("/v1/chat/completions", body)) as events:
                async for event in events:
                    text = "".join(choice["delta"].get("content") or "" for choice in event["choices"])
                    piece = Piece(side, piece.text + text, event["id"], event["model"])
                    await come.put(piece)
        except Refused as error:
            await come.put(piece._replace(wrong=error.told))
        finally:
            await come.put(None)

    tasks = [asyncio.create_task(one(side)) for side in range(len(models))]
    try:
        left = len(tasks)
        while left:
            piece = await come.get()
            if piece is None:
                left -= 1
            else:
                yield piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _shown(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """For Gradio, which may write into what it is given."""
    return [dict(one) for one in messages]
