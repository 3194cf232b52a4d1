"""The matrix as a page, a table for spreadsheets, and JSON."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest

from nacre.base.errors import InputError
from nacre.evaluate.history import History
from nacre.evaluate.matrix import General, Matrix, figures
from nacre.evaluate.outputs import check_endings, save, to_csv
from nacre.evaluate.page import to_html
from nacre.evaluate.page_words import FIGURES_ZH, reason_zh

LINE = Matrix(
    versions=("v1 +base", "v2 +情感"),
    tasks=("base", "情感"),
    cells=((0.9, 0.1), (0.8, 0.7)),
    learned_at=(0, 1),
    base=(0.0, 0.05),
    joint=(0.9, 0.8),
    plain=(0.1, 0.8),
    general=(General(name="text", measure="perplexity", base=10.0, version=12.5),),
)
BRANCHES = History(
    versions=("v1 +base", "v2 +情感", "v3 +情感 (from v1)"),
    numbers=(1, 2, 3),
    parents=((), (0,), (0,)),
    taught=((0,), (1,), (1,)),
    tasks=("base", "情感"),
    cells=((0.9, 0.1), (0.8, 0.7), (0.2, None)),
    base=(0.0, 0.05),
)


class Page(HTMLParser):
    """What a page asks for from elsewhere, and its texts by language."""

    def __init__(self, text):
        super().__init__()
        self.asked, self.tags, self.texts = [], [], {"en": [], "zh": [], "": []}
        self._lang = [""]
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.asked += [given[name] for name in ("src", "href", "srcset", "data", "action") if given.get(name)]
        if tag == "span":
            self._lang.append(given.get("lang", self._lang[-1]))

    def handle_endtag(self, tag):
        if tag == "span":
            self._lang.pop()

    def handle_data(self, data):
        self.texts[self._lang[-1]].append(data)


@pytest.mark.parametrize("grid", [LINE, BRANCHES])
def test_the_page_asks_for_nothing_and_runs_nothing(grid):
    text = to_html([("title", grid)])
    page = Page(text)
    assert page.asked == []
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?:", text)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_each_language_is_whole_and_both_can_be_switched():
    both, english, chinese = (to_html([("title", LINE)], lang=lang) for lang in ("both", "en", "zh"))
    assert 'id="lang-zh"' in both
    assert "lang-zh" not in english.split("</style>")[1]
    assert "mean over all tasks j of a[L][j]" in english
    assert not re.search("[平均遗忘]", english.split("</style>")[1])
    assert "对所有任务 j 取 a[L][j] 的平均" in chinese
    assert "mean over all tasks" not in chinese
    page = Page(both)
    assert len(page.texts["en"]) == len(page.texts["zh"]) > 20
    assert '<html lang="zh-CN">' in chinese


def test_every_figure_and_every_reason_has_chinese_words():
    assert set(FIGURES_ZH) == {figure.name for figure in figures(LINE)}
    bare = LINE.changed(joint=(), plain=(), general=(), cells=((0.9, None), (0.8, None)), base=())
    reasons = [figure.reason for figure in figures(bare) if figure.reason]
    assert len(reasons) >= 6
    for reason in reasons:
        assert not re.search(r"\b(?!evaluate|general|base|on\b|v1|v2)[a-z]{3,}", reason_zh(reason)), reason_zh(reason)


def test_the_page_of_a_line_shows_scores_figures_brackets_and_notes():
    page = to_html([("version 2", LINE)], notes=["version 3 is the <joint> bracket"])
    for value in ("0.90", "0.10", "-0.100", "1.250", "+0.100", "12.5", "&lt;joint&gt;"):
        assert value in page
    assert page.count('class="learned"') == 2
    assert page.count('class="before"') == 1


def test_the_page_of_all_versions_reads_each_along_its_own_line():
    page = to_html([("all", BRANCHES)])
    assert "v3 +情感 (from v1)" in page
    rows = re.findall(r'<th scope="row">v(\d)</th>(.*?)</tr>', page)
    read = {number: re.findall(r"<td>(.*?)</td>", cells) for number, cells in rows}
    assert read["1"][0] == "0.90"
    assert read["2"][:2] == ["0.75", "-0.10"]
    assert read["3"][0] == "–", "a score is missing"


def test_csv_has_versions_base_and_brackets_as_rows(tmp_path):
    rows = list(csv.DictReader(to_csv(LINE).splitlines()))
    assert [row["version"] for row in rows] == ["v1 +base", "v2 +情感", "base", "joint", "plain"]
    assert (rows[1]["base"], rows[1]["情感"], rows[0]["BWT"]) == ("0.8", "0.7", "")
    assert float(rows[1]["BWT"]) == pytest.approx(-0.1)
    assert float(rows[1]["gap closed"]) == pytest.approx((0.75 - 0.45) / (0.85 - 0.45))
    every = list(csv.DictReader(to_csv(BRANCHES).splitlines()))
    assert [row["average accuracy"] for row in every[:3]] == ["0.9", "0.75", ""]
    assert every[2]["情感"] == ""
    assert every[3]["version"] == "base"


def test_files_are_written_by_their_endings(tmp_path):
    for grid in (LINE, BRANCHES):
        for ending in ("json", "csv", "html", "PNG"):
            save(tmp_path / f"x.{ending}", "title", grid)
            assert (tmp_path / f"x.{ending}").stat().st_size > 100
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["figures"]["2"]["BWT"]["value"] == pytest.approx(-0.1)
    assert found["figures"]["2"]["BWT"]["definition"]
    with pytest.raises(InputError, match=r"kind of file '\.gif'") as caught:
        check_endings([tmp_path / "x.gif"])
    assert ".html" in caught.value.fix
    assert not (tmp_path / "x.gif").exists()
