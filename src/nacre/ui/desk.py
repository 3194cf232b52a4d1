"""What every tab works with: the words of one language, and the API with the key of whoever clicks."""

from collections.abc import Callable
from typing import Any

import gradio as gr
from starlette.types import ASGIApp

from nacre.ui.client import Api, Refused
from nacre.ui.door import Sessions, session_of
from nacre.ui.pictures import notice
from nacre.ui.words import word

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}  # of every event


class Desk:
    """One page in one language.

    Args:
        app: the API.
        sessions: whose keys are asked with.
        language: `en` or `zh`.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, language: str) -> None:
        self._app, self._sessions, self.language = app, sessions, language

    def word(self, key: str, **filled: object) -> str:
        """A word of this page's language."""
        return word(key, self.language, **filled)

    def html(self, value: str = "", elem_id: str | None = None) -> Any:
        """A place for what the page draws itself, without Gradio's own looks of tables and lists."""
        return gr.HTML(value, elem_id=elem_id, elem_classes="n-html", apply_default_css=False)

    def api(self, request: gr.Request) -> Api:
        """The API with the key of who sent this event.

        Raises:
            Refused: there is no session, or the page belongs to another browser.
        """
        session = session_of(self._sessions, request)
        if session is None:
            raise Refused(401, self.word("login again"))
        return Api(self._app, session.key, session.person)

    def no(self, error: Refused) -> str:
        """What is shown where the API refused something."""
        return notice(f"{self.word('refused')} ({error.status}): {error.told}", wrong=True)

    async def shown(self, request: gr.Request, path: str, draw: Callable[[Any], str], **query: Any) -> str:
        """What is drawn from what a route tells, or why it tells nothing."""
        try:
            return draw(await self.api(request).get(path, **query))
        except Refused as error:
            return self.no(error)
