"""The page as Gradio builds it, one for each language, behind its door in front of the API."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported

import gradio as gr
from fastapi import FastAPI
from starlette.types import ASGIApp

from nacre.serve.gateway.keyring import KeyRing
from nacre.ui import chat, evolution, looks, opinions, release
from nacre.ui.desk import QUIET, Desk
from nacre.ui.door import LANGUAGES, ROOT, Door, Sessions
from nacre.ui.style import STYLE, theme

_AT_A_TIME = 16  # events of all browsers that are handled side by side


@asynccontextmanager
async def page(app: ASGIApp, ring: KeyRing) -> AsyncIterator[ASGIApp]:
    """The API with the page beside it, for the length of the block.

    Args:
        app: the API, which the page asks as every client does.
        ring: the keys that open it.
    """
    sessions, host = Sessions(ring), FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    for language in LANGUAGES:
        gr.mount_gradio_app(
            host,
            _blocks(Desk(app, sessions, language), sessions),
            f"{ROOT}/{language}",
            footer_links=[],
            run_history=False,
            allowed_paths=[],
            blocked_paths=["/"],
            show_error=False,
            max_file_size=1,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=theme(),
            css=STYLE,
            head=f'<script>document.documentElement.lang = "{"zh-CN" if language == "zh" else "en"}"</script>',
        )
    async with host.router.lifespan_context(host):
        yield Door(app, host, sessions)


def _blocks(desk: Desk, sessions: Sessions) -> Any:
    said = desk.word
    with gr.Blocks(title="nacre", analytics_enabled=False, fill_width=False) as blocks:
        desk.html(_head(desk, leave=sessions.needed), elem_id="n-head")
        with gr.Tabs(elem_id="n-tabs"):
            with gr.Tab(said("chat"), id="chat") as talking:
                load, filled = chat.build(desk)
            with gr.Tab(said("evolution"), id="evolution") as evolving:
                evolution.build(desk, evolving)
            with gr.Tab(said("release"), id="release") as releasing:
                looking = release.build(desk, releasing)
            with gr.Tab(said("feedback"), id="feedback") as judging:
                opinions.build(desk, judging)
            with gr.Tab(said("data"), id="data") as reading:
                looks.build_data(desk, reading)
            with gr.Tab(said("training"), id="training") as training:
                polling = looks.build_training(desk, training)
        blocks.load(load, None, filled, **QUIET)
        clocks = {releasing: looking, training: polling}
        for tab in (talking, evolving, releasing, judging, reading, training):
            others = [clock for owner, clock in clocks.items() if owner is not tab]
            tab.select(_asleep(len(others)), None, others, **QUIET)
    blocks.queue(api_open=False, default_concurrency_limit=_AT_A_TIME, max_size=1000)
    return blocks


def _asleep(clocks: int) -> Any:
    """Stops that many clocks."""
    return lambda: [gr.update(active=False)] * clocks if clocks > 1 else gr.update(active=False)


def _head(desk: Desk, *, leave: bool) -> str:
    other, said = desk.word("other language"), desk.word
    out = f'<form method="post" action="{ROOT}/logout"><button type="submit">{escape(said("logout"))}</button></form>'
    return (
        f'<header class="n-head"><h1>nacre</h1><nav><a href="{ROOT}/{other}/" hreflang="{other}" '
        f'lang="{other}">{escape(said("language"))}</a>{out if leave else ""}</nav></header>'
    )
