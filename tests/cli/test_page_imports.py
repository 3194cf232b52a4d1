"""Only `nacre ui` pays for the page: no other verb imports Gradio, and `nacre serve` not pandas either."""

import ast
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nacre

SOURCE = Path(nacre.__file__).parent
REPORT = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"


def imported(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever it stands in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_only_the_page_names_gradio_and_only_its_verb_names_the_page() -> None:
    naming: dict[str, set[str]] = {"gradio": set(), "nacre.ui": set()}
    for path in SOURCE.rglob("*.py"):
        for module in imported(path):
            for name, files in naming.items():
                if module == name or module.startswith(f"{name}."):
                    files.add(path.relative_to(SOURCE).as_posix())
    assert naming["gradio"], "the page is built of Gradio"
    assert {file.partition("/")[0] for file in naming["gradio"]} == {"ui"}
    assert {file for file in naming["nacre.ui"] if not file.startswith("ui/")} == {"cli/ui.py"}


def test_a_server_without_the_page_imports_none_of_it(lived_in: Any) -> None:
    words = ["serve", "--port", "0"]
    code = f"{REPORT} sys.argv[1:] = {words!r}; from nacre.cli import main; main()"
    server = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        cwd=lived_in.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = next(line for line in server.stdout if line.startswith("serving at")).split()[2]
        body = {"model": "nacre", "messages": [{"role": "user", "content": "colour big"}], "max_tokens": 2}
        asked = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=120) as reply:
            assert reply.status == 200
    finally:
        server.send_signal(signal.SIGTERM)
        _, told = server.communicate(timeout=120)
    modules = {module.split(".")[0] for module in told.splitlines()[-1].split()}
    assert "uvicorn" in modules, told[-2000:]
    assert not modules & {"gradio", "pandas", "fastapi"}
