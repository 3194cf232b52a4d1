"""Where the page is tested; without Gradio nothing here can be."""

import pytest

pytest.importorskip("gradio", reason="Gradio is not installed: make install-ui")

from collections.abc import Callable, Iterator
from pathlib import Path

from ui_kit import Hall, make_hall


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """Four versions of nothing, the first of them champion."""
    made = make_hall(tmp_path_factory.mktemp("page") / "assistant")
    yield made
    made.space.close()


@pytest.fixture
def hall_at() -> Iterator[Callable[[Path], Hall]]:
    """Makes such a workspace where it is told."""
    halls: list[Hall] = []

    def make(root: Path) -> Hall:
        halls.append(make_hall(root))
        return halls[-1]

    yield make
    for one in halls:
        one.space.close()
