"""The page as Gradio builds it, one for each language, behind its door in front of the API."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from html import escape
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported

import gradio as gr
from fastapi import FastAPI
from starlette.types import ASGIApp

from nacre.serve.gateway.keyring import KeyRing
from nacre.ui import chat, evolution, looks, opinions, release, reviews
from nacre.ui.desk import QUIET, Desk
from nacre.ui.door import LANGUAGES, ROOT, Door, Sessions
from nacre.ui.pictures import notice
from nacre.ui.style import STYLE, theme

_ADMIN: dict[str, Sequence[Callable[[Desk, Any], Any]]] = {  # tabs of the admin API, each with what builds its parts
    "evolution": (evolution.build,),
    "release": (release.build,),
    "feedback": (opinions.build, reviews.build),
    "data": (looks.build_data,),
    "training": (looks.build_training,),
}
_AT_A_TIME = 16  # events of all browsers that are handled side by side


@asynccontextmanager
async def page(app: ASGIApp, ring: KeyRing, *, admin: bool = True) -> AsyncIterator[ASGIApp]:
    """The API with the page beside it, for the length of the block.

    Args:
        app: the API, which the page asks as every client does.
        ring: the keys that open it.
        admin: whether the admin API is part of it; where it listens apart, its tabs say so.
    """
    sessions, host = Sessions(ring), FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    for language in LANGUAGES:
        gr.mount_gradio_app(
            host,
            _blocks(Desk(app, sessions, language), sessions, admin=admin),
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


def _blocks(desk: Desk, sessions: Sessions, *, admin: bool) -> Any:
    said = desk.word
    with gr.Blocks(title="nacre", analytics_enabled=False, fill_width=False) as blocks:
        desk.html(_head(desk, leave=sessions.needed), elem_id="n-head")
        with gr.Tabs(elem_id="n-tabs"):
            with gr.Tab(said("chat"), id="chat") as talking:
                load, filled = chat.build(desk)
            clocks = {}
            for name, builds in _ADMIN.items():
                with gr.Tab(said(name), id=name) as tab:
                    made = [build(desk, tab) for build in builds] if admin else [_apart(desk)]
                clocks[tab] = made[0]  # those that are kept up to date have one
        blocks.load(load, None, filled, **QUIET)
        for tab in (talking, *clocks):
            others = [clock for owner, clock in clocks.items() if clock is not None and owner is not tab]
            if others:
                tab.select(_asleep(len(others)), None, others, **QUIET)
    blocks.queue(api_open=False, default_concurrency_limit=_AT_A_TIME, max_size=1000)
    return blocks


def _apart(desk: Desk) -> Any:
    """A tab whose routes are not here; it has nothing to keep up to date."""
    desk.html(notice(desk.word("admin apart")))
    return None


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
