"""Pictures of rows: found, looked at, kept by hash, and gone with the last row that has them."""

import hashlib
import io
import json

import pytest
from PIL import Image

from nacre.base.errors import InputError, NacreError
from nacre.data.pictures import forget_pictures, needed_pictures, picture_path
from nacre.data.rows import read_rows, rows_path, write_rows
from nacre.data.snapshot import take_snapshot


def png(colour=(200, 30, 30), side=8):
    written = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(written, "PNG")
    return written.getvalue()


def sharegpt(question, answer, *paths):
    said = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": said, "images": list(paths)}


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "memory"


@pytest.fixture
def snap(tmp_path, memory):
    return lambda name="inc", **options: take_snapshot(name, tmp_path / "dataset", memory, **options)


def test_pictures_are_kept_by_hash_and_read_back_as_paths(write, snap, memory):
    red, blue = png(), png((30, 30, 200))
    write("dataset/mllm/1.png", red)  # below the dataset folder, as LlamaFactory has it
    write("dataset/inc/2.png", blue)  # beside the rows
    write("dataset/inc/train.json", [sharegpt("<image>Colour?", "red", "mllm/1.png")])
    write("dataset/inc/dev.json", [sharegpt("<image><image>Alike?", "no", "2.png", "mllm/1.png")])
    found = snap()
    names = [hashlib.sha256(data).hexdigest() for data in (red, blue)]
    assert {path.name for path in (memory / "images").iterdir()} == set(names)
    text = rows_path(memory, found.train.sha256).read_text()
    assert json.loads(text)["images"] == names[:1]
    (row,) = read_rows(memory, found.dev)
    assert row.images == tuple(str(picture_path(memory, name)) for name in reversed(names))
    assert picture_path(memory, names[0]).read_bytes() == red


def test_the_same_picture_under_another_name_is_the_same_row(write, snap, memory, tmp_path):
    write("dataset/a/1.png", png())
    write("dataset/a/train.json", [sharegpt("<image>Colour?", "red", "1.png")])
    write("dataset/b/other.png", png())
    write("dataset/b/train.json", [sharegpt("<image>Colour?", "red", "other.png")])
    one, other = (read_rows(memory, snap(name).train)[0] for name in "ab")
    assert one.content_id == other.content_id
    elsewhere = tmp_path / "elsewhere"
    moved = read_rows(elsewhere, write_rows(elsewhere, [one]))[0]  # as a folder inherits another's rows
    assert moved.content_id == one.content_id
    assert moved.images != one.images
    assert (elsewhere / "images" / one.images[0].rpartition("/")[2]).read_bytes() == png()


def test_a_description_names_the_column_of_the_pictures(write, snap, memory):
    write("dataset/pic.png", png())
    write("dataset/said.json", [{"dialogue": sharegpt("<image>?", "red")["conversations"], "photos": ["pic.png"]}])
    info = {"said": {"file_name": "said.json", "formatting": "sharegpt"}}
    info["said"]["columns"] = {"messages": "dialogue", "images": "photos"}
    write("dataset/dataset_info.json", json.dumps(info))
    assert len(read_rows(memory, snap("said").train)[0].images) == 1


@pytest.mark.parametrize(
    ("paths", "question", "reason"),
    [
        (["nowhere.png"], "<image>?", "the picture 'nowhere.png' does not exist"),
        (["no.png"], "<image>?", "cannot be used: it is no picture of a known kind"),
        (["torn.png"], "<image>?", "cannot be used: it is damaged"),
        (["https://example.org/1.png"], "<image>?", "named by an address, and none is fetched"),
        ([], "<image>?", "1 <image> in the texts and no picture"),
        (["good.png"], "no place", "1 images for 0 <image> in the texts"),
    ],
)
def test_a_row_whose_picture_cannot_be_used_is_set_aside_with_its_reason(write, snap, paths, question, reason):
    write("dataset/good.png", png())
    write("dataset/no.png", b"no picture at all")
    write("dataset/torn.png", png(side=64)[:90])
    good = [sharegpt(f"<image>{number}?", "red", "good.png") for number in range(3)]
    write("dataset/inc.json", [good[0], sharegpt(question, "red", *paths), *good[1:]])
    with pytest.raises(InputError, match=r"1 of 4 rows cannot be used"):
        snap()
    found = snap(drop_budget=0.3)
    assert found.train.rows == 3
    (dropped,) = found.dropped
    assert reason in dropped.reason
    assert dropped.line == 2
    assert dropped.remedy


def test_a_picture_too_large_to_be_meant_is_set_aside(write, snap, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    write("dataset/big.png", png(side=11))
    write("dataset/good.png", png(side=8))
    rows = [sharegpt("<image>", "red", name) for name in ("big.png", "good.png")]
    write("dataset/inc.json", rows)
    assert "more than 100 pixels" in snap(drop_budget=0.5).dropped[0].reason


def test_pictures_go_with_the_last_row_that_has_them(write, snap, memory):
    write("dataset/1.png", png())
    write("dataset/2.png", png((1, 2, 3)))
    write("dataset/a.json", [sharegpt("<image>?", "red", "1.png"), sharegpt("<image>?", "dark", "2.png")])
    write("dataset/b.json", [sharegpt("<image>!", "red", "1.png")])
    first, second = snap("a"), snap("b")
    assert len(needed_pictures(memory)) == 2
    rows_path(memory, first.train.sha256).unlink()
    assert forget_pictures(memory) == 1
    assert needed_pictures(memory) == {hashlib.sha256(png()).hexdigest()}
    assert {path.name for path in (memory / "images").iterdir()} == needed_pictures(memory)
    assert read_rows(memory, second.train)[0].images


def test_rows_are_not_kept_without_their_pictures(write, snap, memory, tmp_path):
    write("dataset/1.png", png())
    write("dataset/a.json", [sharegpt("<image>?", "red", "1.png")])
    rows = read_rows(memory, snap("a").train)
    for path in (memory / "images").iterdir():
        path.unlink()
    with pytest.raises(NacreError, match="a kept picture is missing"):
        write_rows(tmp_path / "elsewhere", rows)
