import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def llamafactory_data() -> Path:
    shared = Path(os.environ.get("NACRE_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data" / "llamafactory"
    if not folder.is_dir():
        pytest.skip("needs the shared data folder (NACRE_SHARED)")
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write bytes, text or rows (as JSON lines) to a file below tmp_path."""

    def write(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def qa() -> Callable[..., list[dict[str, str]]]:
    """So many different alpaca rows."""

    def qa(count: int, start: int = 0, answer: str = "") -> list[dict[str, str]]:
        return [
            {"instruction": f"What is {n} plus one?", "input": "", "output": answer or f"It is {n + 1}."}
            for n in range(start, start + count)
        ]

    return qa
