"""The site of the documents: it builds without a warning, both languages find each other, and it asks nobody."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from docs_kit import ROOT

pytest.importorskip("material", reason="make install-docs")
pytest.importorskip("jieba", reason="make install-docs")


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """`mkdocs build --strict` of a folder as ours."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    found = build(ROOT, out)
    assert found.returncode == 0, found.stderr
    return out


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\s>]*|<link\b[^>]*>", re.I)
    found = {
        one[0]
        for page in site.rglob("*.html")
        for one in loaded.finditer(page.read_text(encoding="utf-8"))
        if not one[0].lower().startswith("<link") or re.search(r"stylesheet|preload|preconnect|icon", one[0])
    }
    assert found
    assert [each for each in found if re.search(r"(?:href|src)=[\"']?(?:https?:)?//", each)] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\([\"']?(?:https?:)?//|@import", styles)


def test_each_language_is_in_its_own_words_and_links_to_the_other(site: Path) -> None:
    chinese = (site / "zh" / "gate" / "index.html").read_text(encoding="utf-8")
    english = (site / "gate" / "index.html").read_text(encoding="utf-8")
    assert '<html lang="zh"' in chinese
    assert '<html lang="en"' in english
    assert re.search(r'href="\.\./\.\./gate/" hreflang="en"', chinese)
    assert re.search(r'href="\.\./zh/gate/" hreflang="zh"', english)
    alone = (site / "architecture" / "index.html").read_text(encoding="utf-8")
    assert re.search(r'href="\.\./zh/" hreflang="zh"', alone), "a page without a twin leads to the first Chinese one"


def test_chinese_is_cut_into_words_for_the_search(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert index["config"]["lang"] == ["en", "zh"]
    words = {
        word for one in index["docs"] if one["location"].startswith("zh/gate") for word in one["text"].split("\u200b")
    }
    assert "门禁" in words


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("See [this](gate.md#no-such-part).\n", "no-such-part"),
        ("See [this](no-such-page.md).\n", "no-such-page.md"),
    ],
)
def test_a_dead_link_breaks_the_build(damage: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "site.py", tmp_path / "tools")
    shutil.copy(ROOT / "docs" / "gate.md", tmp_path / "docs")
    (tmp_path / "docs" / "gate.md").write_text("# The gate\n", encoding="utf-8")
    (tmp_path / "docs" / "index.md").write_text(f"# First\n\n{damage}", encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[0]
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    found = build(tmp_path, tmp_path / "site")
    assert found.returncode == 1
    assert said in found.stderr


def test_a_link_to_a_file_beside_the_documents_becomes_its_name(site: Path) -> None:
    page = (site / "benchmarks" / "index.html").read_text(encoding="utf-8")
    assert "<code>benchmarks/results/forgetting.json</code>" in page


@pytest.mark.slow
def test_the_search_finds_in_both_languages(site: Path) -> None:
    browser = shutil.which("chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    if browser is None:
        pytest.skip("no chromium")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_api.sync_playwright() as play:
            chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = chromium.new_page()
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            for start, word, target in (("", "canary", "/releases/"), ("zh/", "门禁", "/zh/gate/")):
                page.goto(f"http://127.0.0.1:{server.server_port}/{start}?q={word}")
                first = page.locator(".md-search-result__item a").first
                first.wait_for(state="attached", timeout=120_000)
                assert target in str(first.get_attribute("href"))
            chromium.close()
        server.shutdown()
    assert [url for url in asked if not url.startswith("http://127.0.0.1")] == []
