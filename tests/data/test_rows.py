import pytest

from nacre.base.errors import NacreError
from nacre.data.dataset import load
from nacre.data.rows import read_rows, rows_path, write_rows


def test_rows_come_back_as_they_were_and_keep_their_hash_wherever_they_lay(write, qa, tmp_path):
    write("a/rows.json", qa(5, answer="是\u2028的"))
    write("b/c/rows.json", qa(5, answer="是\u2028的"))
    first = load("rows", tmp_path / "a", "train").examples
    second = load("rows", tmp_path / "b/c", "train").examples
    kept = write_rows(tmp_path / "memory", first)
    assert kept == write_rows(tmp_path / "memory", second) == write_rows(tmp_path / "other", first)
    assert kept.rows == 5
    back = read_rows(tmp_path / "memory", kept)
    assert [row.content_id for row in back] == [row.content_id for row in first]
    assert back[2].origin.file == "rows.json"
    assert back[2].origin.line == 3
    assert read_rows(tmp_path / "memory", kept.sha256) == back
    assert write_rows(tmp_path / "memory", back) == kept


def test_order_and_content_are_part_of_the_hash(write, qa, tmp_path):
    write("rows.json", qa(3))
    rows = load("rows", tmp_path, "train").examples
    hashes = {write_rows(tmp_path, some).sha256 for some in (rows, rows[::-1], rows[:2], [])}
    assert len(hashes) == 4
    assert read_rows(tmp_path, write_rows(tmp_path, [])) == []


def test_a_damaged_or_missing_file_is_named_and_mended_by_writing_again(write, qa, tmp_path):
    write("rows.json", qa(3))
    rows = load("rows", tmp_path, "train").examples
    kept = write_rows(tmp_path, rows)
    path = rows_path(tmp_path, kept.sha256)
    whole = path.read_bytes()
    for damaged in (whole.replace(b"plus", b"minus", 1), whole[:-9], whole.replace(b"plus", b"\xff\xfe", 1)):
        path.write_bytes(damaged)
        with pytest.raises(NacreError, match="damaged") as caught:
            read_rows(tmp_path, kept)
        assert caught.value.where == str(path)
    assert write_rows(tmp_path, rows) == kept
    assert read_rows(tmp_path, kept)[0].answer == rows[0].answer
    path.unlink()
    with pytest.raises(NacreError, match="missing") as caught:
        read_rows(tmp_path, kept)
    assert caught.value.where == str(path)
