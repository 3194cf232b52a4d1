import io

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image
from rich.cells import cell_len
from rich.console import Console

from nacre.evaluate import heat_map
from nacre.evaluate.history import GeneralScores, History
from nacre.evaluate.matrix import Matrix, figures
from nacre.evaluate.page import to_html
from nacre.evaluate.pictures import figures_by_version, look, shade, terminal

CHINESE = Matrix(
    versions=("版本一", "version 2"),
    tasks=("情感", "news <b>"),
    cells=((0.77, 0.02), (0.4, 0.66)),
    learned_at=(0, 1),
)


def printed(matrix, width, read=None):
    """On a console that has more room than was asked for, so that nothing is wrapped but by us."""
    console = Console(width=width + 100, file=io.StringIO(), color_system=None)
    console.print(terminal("title", matrix, width=width, read=read))
    return console.file.getvalue()


def test_terminal_table_shows_every_score_aligned_with_wide_names():
    text = printed(CHINESE, 100)
    table = [line for line in text.splitlines() if line.startswith(("│", "┃"))]
    assert len({cell_len(line) for line in table}) == 1
    assert all(value in text for value in ("0.77*", "0.02", "0.40", "0.66*", "BWT -0.370", "情感", "版本一"))
    assert "a[L][j] - a[l_j][j]" in text, "the definition stands beside the number"


def test_many_tasks_are_split_into_parts_that_fit():
    many = Matrix(
        versions=("v1",),
        tasks=tuple(f"task{i}" for i in range(30)),
        cells=(tuple(i / 100 for i in range(30)),),
        learned_at=(0,) * 30,
    )
    text = printed(many, 60)
    assert all(f"0.{i:02d}*" in text for i in range(30))
    assert "…" not in text
    assert max(map(cell_len, text.splitlines())) <= 60


def test_a_figure_that_is_not_known_fits_with_its_reason():
    """Joint 0.100 is no better than plain 0.200: the sentence is longer than half a terminal."""
    weak = CHINESE.model_copy(update={"joint": (0.1, 0.1), "plain": (0.2, 0.2)})
    text = printed(weak, 60, figures(weak))
    assert "gap closed not known (joint 0.100 is no better than" in text
    assert max(map(cell_len, text.splitlines())) <= 60


def test_colours_tell_scores_apart_and_old_cells_from_unlearned_ones():
    assert shade(0.0) != shade(0.5) != shade(1.0)
    assert shade(-1) == shade(0)
    assert look(CHINESE, 0, 1).background is None
    assert look(CHINESE, 1, 1).learned
    assert look(CHINESE, 1, 0).background == shade(0.4)


def test_html_escapes_names_and_holds_the_scores():
    page = to_html([("<i>x</i>", CHINESE)])
    assert "<b>" not in page
    assert "<i>" not in page
    assert "情感" in page
    assert page.count("0.77") == 1
    assert 'charset="utf-8"' in page


def test_the_page_defines_a_figure_that_the_first_version_lacks():
    """The general delta was only measured of the second."""
    general = GeneralScores(name="arc", measure="score", base=0.2, versions=(None, 0.3))
    history = History(
        versions=("v1 +a", "v2 +b"),
        numbers=(1, 2),
        parents=((), (0,)),
        taught=((0,), (1,)),
        tasks=("a", "b"),
        cells=((0.9, None), (0.8, 0.7)),
        base=(0.1, 0.1),
        joint=1,
        general=(general,),
    )
    found = figures_by_version(history)
    assert set(found[0]) != set(found[1])
    assert "general delta" in found[1]
    assert to_html([("all", history)]).count("mean over general tasks k of g[L][k] - g[base][k]") == 1


def test_png_of_two_panels_paints_the_scores(tmp_path):
    heat_map.save_png([("plain", CHINESE), ("kept", CHINESE)], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
        assert picture.width > picture.height
    assert {shade(0.77), shade(0.4), shade(0.66)} <= colours
    assert shade(0.02) not in colours, "not learned yet"


def chinese_font(path):
    """A font with square glyphs for the four characters the fixture needs."""
    characters = "版本一情感"
    names = [".notdef", *(f"c{i}" for i in range(len(characters)))]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(point)
    pen.closePath()
    glyph = pen.glyph()
    font = FontBuilder(1000)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(c): f"c{i}" for i, c in enumerate(characters)})
    font.setupGlyf(dict.fromkeys(names, glyph))
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Nacre Test Han", "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800, sTypoDescender=-200, usWeightClass=400)
    font.setupPost()
    font.save(path)
    return path


@pytest.fixture
def only_default_fonts(monkeypatch):
    kept = [font for font in font_manager.fontManager.ttflist if font.name.startswith(("DejaVu", "Last Resort"))]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", kept)


def test_names_that_no_font_draws_become_numbers_and_are_explained(tmp_path, only_default_fonts, recwarn):
    notes = heat_map.save_png([("plain", CHINESE)], tmp_path / "a.png")
    assert [note.split(" (")[0] for note in notes] == ["task 1 = 情感", "version 1 = 版本一"]
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_an_installed_chinese_font_is_found_by_its_characters(tmp_path, only_default_fonts, recwarn):
    font_manager.fontManager.addfont(chinese_font(tmp_path / "han.ttf"))
    assert heat_map.save_png([("plain", CHINESE)], tmp_path / "a.png") == []
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
