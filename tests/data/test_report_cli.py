"""`nacre data report`, on files, folders of datasets, and in workspaces with and without a past."""

import json
from pathlib import Path
from typing import Any

import pytest
from report_kit import cooking, travel

from mirror_kit import add_version, make_space
from nacre.data.rows import write_rows
from nacre.records import Example, Snapshot
from workspace_kit import Place, assert_clear, write_lines


def lines(rows: list[Example], **more: Any) -> list[dict[str, Any]]:
    return [{"instruction": row.prompt[0].content, "output": row.answer, **more} for row in rows]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder with three increments and no workspace."""
    place = Place(tmp_path / "place")
    write_lines(place.dataset / "base" / "train.json", lines(travel(120, 1)))
    write_lines(place.dataset / "base" / "dev.json", lines(travel(30, 2)))
    write_lines(place.dataset / "increment_2" / "train.json", lines([*cooking(60, 3), *travel(30, 2)[:2]]))
    write_lines(place.dataset / "increment_10" / "train.json", lines(cooking(90, 4), when="2025-01-02", sort="a"))
    return place


def test_a_file_with_nothing_beside_it(place: Place) -> None:
    path = "dataset/base/train.json"
    found = place.json("data", "report", path)
    assert (found["target"], found["rows"], found["earlier"]) == (path, 120, [])
    shown = place.nacre("data", "report", path).out
    assert "Timeliness" in shown
    assert "--against" in shown


def test_the_terminal_and_the_page_speak_chinese_where_asked(place: Place) -> None:
    shown = place.nacre("data", "report", "dataset/base", "--lang", "zh", "--out", "a.html").out
    assert all(words in shown for words in ("指标", "时效性", "没有对比数据", "没有给出早期数据"))
    assert "Timeliness" not in shown
    page = (place.root / "a.html").read_text(encoding="utf-8")
    assert "没有给出早期数据" in page
    assert "no earlier rows" not in page


def test_against_and_the_columns_and_files(place: Place) -> None:
    words = ("data", "report", "--dataset", "increment_10", "--dataset_dir", "dataset", "--against", "base,increment_2")
    more = ("--date-column", "when", "--today", "2029-01-01", "--label", "sort", "--out", "a.html", "--out", "a.json")
    found = place.json(*words, *more)
    assert [(one["name"], one["split"], one["rows"]) for one in found["earlier"]] == [
        ("base", "train", 120),
        ("base", "dev", 30),
        ("increment_2", "train", 62),
    ]
    assert found["timeliness"]["share"] == 0
    assert found["balance"]["by"] == "sort"
    assert json.loads((place.root / "a.json").read_bytes()) == found
    assert "<!doctype html>" in (place.root / "a.html").read_text(encoding="utf-8")


def test_domains_and_tokens(place: Place) -> None:
    (place.root / "domains.txt").write_text("ferries: ferry\nplanes\n")
    found = place.json("data", "report", "dataset/base", "--domains", "domains.txt")
    assert found["coverage"]["share"] == 0.5
    assert [unit["unit"] for unit in found["length"]["units"]] == ["characters", "words"]


def test_rows_that_cannot_be_used_are_counted_and_said(place: Place) -> None:
    with (place.dataset / "base" / "train.json").open("a") as file:
        file.write("{broken\n")
    found = place.json("data", "report", "dataset/base")
    assert (found["rows"], found["dropped"]) == (120, 1)
    assert any("1 rows cannot be used" in note["en"] for note in found["notes"])


def test_a_workspace_without_a_past_compares_with_the_names_before(place: Place) -> None:
    make_space(place.root).close()
    found = place.json("data", "report", "increment_2")
    assert [(one["name"], one["split"]) for one in found["earlier"]] == [("base", "train"), ("base", "dev")]
    assert [one["rows"] for one in found["duplicates"]["across"]] == [0, 2]
    assert any("datasets before it, base" in note["en"] for note in found["notes"])
    last = place.json("data", "report", "increment_10")  # ten comes after two
    assert [one["name"] for one in last["earlier"]] == ["base", "base", "increment_2"]
    assert place.json("data", "report", "base")["earlier"] == []
    write_lines(place.root / "new.json", lines(travel(5, 9)))
    assert len(place.json("data", "report", "new.json")["earlier"]) == 4  # what lies elsewhere is newer than all


def test_a_workspace_with_a_champion_compares_with_what_its_line_learned(place: Place) -> None:
    with make_space(place.root) as space:
        for number, (task, rows) in enumerate({"old": travel(80, 7), "increment_2": cooking(5, 8)}.items(), 1):
            train, dev = write_rows(space.memory, rows), write_rows(space.memory, rows[:4])
            add_version(space, number, snapshot=Snapshot(task=task, train=train, dev=dev, sources={}))
        space.ledger.promote(2, actor="test", why="start")
    found = place.json("data", "report", "increment_10")
    assert [(one["name"], one["split"], one["rows"]) for one in found["earlier"]] == [
        ("old", "train", 80),
        ("old", "dev", 4),
        ("increment_2", "train", 5),
        ("increment_2", "dev", 4),
    ]
    again = place.json("data", "report", "increment_2")  # what it learned itself, and later, is not earlier
    assert [one["name"] for one in again["earlier"]] == ["old", "old"]
    assert any("champion's line" in note["en"] for note in again["notes"])


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((), ["PATH"]),
        (("dataset/base", "--dataset", "base"), ["PATH"]),
        (("nowhere.json",), ["nowhere.json"]),
        (("--dataset", "bace"), ["base"]),
        (("dataset/base", "--against", "bace"), ["base"]),
        (("dataset/base", "--out", "page.pdf"), [".html"]),
        (("dataset/base", "--lang", "fr"), ["zh"]),
        (("dataset/base", "--today", "yesterday"), ["YYYY-MM-DD"]),
        (("dataset/base", "--domains", "none.txt"), ["none.txt"]),
        (("dataset/base", "--max-length", "64"), ["--tokenizer"]),
        (("dataset/base", "--tokenizer", "none"), ["tokenizer.json"]),
        (("dataset/increment_10", "--label", "sor"), ["'sort'"]),
        (("dataset/increment_10", "--date-column", "whem"), ["'when'"]),
    ],
)
def test_mistakes_are_one_clear_error(place: Place, words: tuple[str, ...], parts: list[str]) -> None:
    assert_clear(place.nacre("data", "report", *words), *parts)


@pytest.mark.shared
def test_tokens_of_a_real_tokenizer(llamafactory_data: Path, tmp_path: Path) -> None:
    path = llamafactory_data / "alpaca_zh_demo.json"
    words = ("--tokenizer", str(llamafactory_data / "tiny_tokenizer"), "--max-length", "64")
    found = Place(tmp_path).json("data", "report", str(path), *words)
    unit = found["length"]["units"][-1]
    assert unit["unit"] == "tokens"
    assert found["rows"] == sum(unit["rows"]) == 1000
    assert found["length"]["over"] > 0
    assert found["language"]["rows"]["zh"] > 900
    assert "length" in {flag["measure"] for flag in found["flags"]}
