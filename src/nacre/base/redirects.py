"""Requests that go where they were sent and nowhere else."""

import urllib.request
from typing import Any


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: following it would hand key and body to whatever host it names."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """None: urllib then raises the status as it came."""
