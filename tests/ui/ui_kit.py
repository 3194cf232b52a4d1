"""Servers with the page: over versions of nothing, or over a workspace that learned something."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SERVE = Path(__file__).parents[1] / "serve"
if str(_SERVE) not in sys.path:  # its kits are wanted here too
    sys.path.append(str(_SERVE))

from gateway_kit import Hall, make_hall, serving, until  # noqa: E402  # after the path is set

from nacre.serve.run import ApiServer  # noqa: E402  # after its kits

__all__ = ["Hall", "installed", "make_hall", "paged", "until"]


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@contextmanager
def paged(hall: Hall, **settings: Any) -> Iterator[ApiServer]:
    """A server of versions of nothing, with the page beside its API."""
    from nacre.ui.page import page

    with serving(hall, page=page, **settings) as server:
        yield server
