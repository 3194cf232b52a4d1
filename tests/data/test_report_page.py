import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_kit import cooking, report, row, travel

from nacre.data.report.build import Earlier
from nacre.data.report.page import save, to_html
from nacre.data.report.plots import columns
from nacre.data.report.records import DataReport
from nacre.data.report.summary import MEASURES, summary

_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_EMPTY = ("meta", "input", "link", "rect", "circle")


@pytest.fixture(scope="module")
def found() -> DataReport:
    rows = [
        row(f"Note {n} <b>of</b> {2016 + n % 11}-03-0{1 + n % 9}", "<i>yes</i>" if n % 6 else "no") for n in range(90)
    ]
    rows += [*travel(30, 1), row("write to a.b@example.com"), *cooking(40, 2)]
    return report(rows, [Earlier("base", travel(120, 3)), Earlier("base", travel(30, 4), "dev")])


class Outline(HTMLParser):
    """Every element closed in order; anchors, classes and what the page would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.fetched: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in _EMPTY:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.add(value or "")
            if name in ("href", "src", "srcset", "action"):
                if (value or "").startswith("#"):
                    self.links.add((value or "")[1:])
                elif value != "data:,":
                    self.fetched.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in _EMPTY:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(found: DataReport) -> None:
    page = to_html(found)
    outline = Outline(page)
    assert outline.open == []
    assert outline.links == set(MEASURES)
    assert outline.links <= outline.ids
    assert outline.fetched == []
    assert "<script" not in page
    assert "url(" not in page.replace("url(#hatch)", "")
    assert "@import" not in page


def test_what_stands_in_the_data_is_escaped(found: DataReport) -> None:
    page = to_html(found)
    assert "&lt;i&gt;yes&lt;/i&gt;" in page
    assert "<i>yes" not in page


def test_each_language_is_whole_and_both_can_be_switched(found: DataReport) -> None:
    both, zh, en = to_html(found), to_html(found, lang="zh"), to_html(found, lang="en")
    assert both.count('<span lang="en">') == both.count('<span lang="zh">') > 40
    assert both.count('type="radio"') == 2
    assert 'type="radio"' not in zh + en
    assert '<html lang="zh-CN">' in zh
    own_words = re.sub(r"<style>.*?</style>|<li>[^<]*</li>", "", en, flags=re.DOTALL)
    named = "".join(field.name for field in found.coverage.fields) + "".join(found.drift.terms)
    assert not set(re.findall("[\u4e00-\u9fff]", own_words)) - set(named)
    assert "数据报告" in zh
    assert "Data report" not in zh


def test_every_measure_has_a_line_with_its_state(found: DataReport) -> None:
    lines = {line.measure: line for line in summary(found)}
    assert tuple(lines) == MEASURES
    assert {line.measure for line in lines.values() if line.state == "flag"} == found.flagged
    alone = {line.measure: line.state for line in summary(report(travel(40, 1)))}
    assert alone["drift"] == alone["coverage"] == "unknown"
    assert alone["duplicates"] == alone["private"] == "ok"
    assert alone["length"] == "plain"


def test_labels_of_columns_have_room_on_a_phone() -> None:
    for count in (5, 9, 11, 30):
        drawn = columns([(str(2000 + n), n, "") for n in range(count)], title="years")
        labels = re.findall(r">(20\d\d)</text>", drawn)
        # 12 pixels high, a digit is 7 wide; a panel has 300 pixels on a phone
        assert labels[-1] == str(1999 + count)
        assert len(labels) == 1 or (int(labels[1]) - int(labels[0])) * 300 / count > 4 * 7


def test_a_row_or_two_make_a_page(tmp_path: Path) -> None:
    for rows in ([row("a")], [row("1", "2"), row("3", "4")]):
        save(report(rows), tmp_path / "page.html")
        assert Outline((tmp_path / "page.html").read_text(encoding="utf-8")).open == []
        save(report(rows), tmp_path / "page.json")
        assert DataReport.from_json((tmp_path / "page.json").read_bytes()) == report(rows)


@pytest.mark.slow
@pytest.mark.skipif(_CHROMIUM is None, reason="no chromium is installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_page_without_a_request_or_an_error(found: DataReport, tmp_path: Path, width: int) -> None:
    """The page, in a frame of this width, tells a script beside it how wide it became and what it loaded."""
    save(found, tmp_path / "page.html")
    (tmp_path / "frame.html").write_text(
        f"<body><iframe src='page.html' width='{width}' height='900'></iframe><pre id='said'></pre><script>"
        "const errors = []; const frame = document.querySelector('iframe');"
        "frame.contentWindow.addEventListener('error', event => errors.push(event.message));"
        "frame.onload = () => { const page = frame.contentWindow, root = page.document.documentElement;"
        "const wide = [...page.document.querySelectorAll('section, .overview li, .advice li')]"
        ".filter(each => each.getBoundingClientRect().right > page.innerWidth + 1).length;"
        "document.getElementById('said').textContent = JSON.stringify({wide, width: page.innerWidth,"
        "scroll: root.scrollWidth, loaded: page.performance.getEntriesByType('resource').map(each => each.name),"
        "errors, drawn: page.document.querySelectorAll('svg rect').length}) }</script>",
        encoding="utf-8",
    )
    command = [
        str(_CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
        "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000",
        "--window-size=1400,1000", "--dump-dom", f"file://{tmp_path / 'frame.html'}",
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = re.search(r'<pre id="said">(\{.*?\})</pre>', ran.stdout)
    assert told, ran.stderr[-2000:]
    said = json.loads(told[1])
    assert said["loaded"] == []
    assert said["errors"] == []
    assert said["scroll"] <= said["width"]  # nothing must be scrolled sideways
    assert said["wide"] == 0
    assert said["width"] == width
    assert said["drawn"] == to_html(found).count("<rect")
    assert "CONSOLE" not in ran.stderr
