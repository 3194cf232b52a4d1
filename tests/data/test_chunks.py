import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from nacre.base.errors import InputError
from nacre.data.chunks import Chunker, Chunking, token_spans
from nacre.data.cut import cut_file
from nacre.data.dataset import load
from nacre.data.reader import Reader, Row


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """A small byte-level tokenizer: a Chinese character or an emoji is several tokens that share its place."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(["the quick brown fox the the quick"] * 9, trainers.BpeTrainer(initial_alphabet=alphabet))
    folder = tmp_path_factory.mktemp("model")
    made.save(str(folder / "tokenizer.json"))
    return folder


def test_characters_are_counted_512_with_32_shared():
    text = "".join(chr(0x4E00 + n) for n in range(1200))
    pieces = Chunker(Chunking(by="characters")).cut(text)
    assert [len(piece) for piece in pieces] == [512, 512, 240]
    assert [(text.index(piece[0])) for piece in pieces] == [0, 480, 960]


def test_tokens_are_counted_512_with_32_shared(tokenizer):
    spans = token_spans(str(tokenizer))
    text = "the quick brown fox " * 300
    pieces = Chunker(Chunking(tokenizer=str(tokenizer))).cut(text)
    assert [len(spans(piece)) for piece in pieces[:-1]] == [512] * (len(pieces) - 1)
    assert len(pieces) == -(-(len(spans(text)) - 32) // 480)
    assert sum(map(len, pieces)) > len(text)
    assert all(text.startswith(pieces[0]) and text.endswith(piece) for piece in pieces[-1:])


@settings(max_examples=150, deadline=None)
@given(text=st.text("ab 天😀é\n", min_size=1, max_size=120), size=st.integers(8, 20), overlap=st.integers(0, 4))
@pytest.mark.parametrize("by", ["tokens", "characters"])
def test_no_piece_is_too_long_and_nothing_is_lost(tokenizer, text, size, overlap, by):
    chunking = Chunking(size=size, overlap=overlap, by=by, tokenizer=str(tokenizer))
    pieces = Chunker(chunking).cut(text)
    spans = token_spans(str(tokenizer))
    for piece in pieces:
        assert len(piece if by == "characters" else spans(piece)) <= size + (0 if by == "characters" else 2)
    end = 0
    for piece in pieces:  # each begins at or before the end of the one before, and goes beyond it
        begin = next(at for at in range(end, -1, -1) if text.startswith(piece, at) and at + len(piece) >= end)
        assert end - begin <= len(piece)
        end = begin + len(piece)
    assert end == len(text)


def test_short_texts_and_other_rows_are_left_alone(tokenizer):
    def never(text):
        raise AssertionError("a text that cannot be too long is not tokenised")

    assert Chunker(Chunking(), never).cut("short") == ["short"]


@pytest.mark.parametrize(
    ("documents", "texts", "lines"),
    [
        ("line", ["One a.", "One b.", "Two.", "Three."], [2, 3, 5, 8]),
        ("paragraph", ["One a.\nOne b.", "Two.", "Three."], [2, 5, 8]),
        ("file", ["One a.\nOne b.\n\nTwo.\n\n\nThree."], [2]),
    ],
)
def test_a_text_is_a_line_a_paragraph_or_the_file(write, documents, texts, lines):
    path = write("wiki.txt", "\nOne a.\nOne b.\n\nTwo.\n\n \nThree.\n")
    rows = [row for row in Reader(path, documents=documents) if isinstance(row, Row)]
    assert [row.value["text"].replace(" \n", "\n") for row in rows] == texts
    assert [row.line for row in rows] == lines


def test_an_entry_says_how_its_texts_are_cut(write, tmp_path, tokenizer):
    chunk = {"size": 100, "overlap": 10, "by": "characters", "documents": "paragraph"}
    write(
        "dataset_info.json",
        json.dumps({"mine": {"file_name": "wiki.txt", "columns": {"prompt": "text"}, "chunk": chunk}}),
    )
    write("wiki.txt", "word " * 50 + "\n" + "more " * 10 + "\n\nshort\n")
    loaded = load("mine", tmp_path, "train")
    assert [len(row.prompt[0].content) for row in loaded.examples] == [100, 100, 100, 31, 5]
    assert [row.origin.line for row in loaded.examples] == [1, 1, 1, 1, 4]
    assert {row.kind for row in loaded.examples} == {"text"}
    assert any(
        "1 long texts were cut into 4 pieces of 100 characters, 10 of them shared" in note for note in loaded.notes
    )


def test_a_file_is_cut_into_a_file(write, tmp_path):
    report = cut_file(
        write("wiki.txt", b"x" * 1000 + b"\nbad \xff\n"), tmp_path / "out.jsonl", Chunking(by="characters")
    )
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(len(row["text"]), row["line"]) for row in rows] == [(512, 1), (512, 1), (40, 1)]
    assert (report.texts, report.pieces, len(report.problems)) == (1, 3, 1)
    with pytest.raises(InputError, match="no plain text, as on line 1"):
        cut_file(
            write("rows.jsonl", [{"prompt": "a", "answer": "b"}]), tmp_path / "no.jsonl", Chunking(by="characters")
        )
    assert not (tmp_path / "no.jsonl").exists()


@pytest.mark.parametrize(("tokenizer", "what"), [(None, "needs a tokenizer"), ("nowhere", "no such tokenizer")])
def test_tokens_need_a_tokenizer(tokenizer, what):
    with pytest.raises(InputError, match=what):
        Chunker(Chunking(tokenizer=tokenizer))


def test_an_unreadable_tokenizer_is_explained(write):
    with pytest.raises(InputError, match="the tokenizer cannot be read"):
        Chunker(Chunking(tokenizer=str(write("tokenizer.json", "{}"))))


def test_an_overlap_must_be_a_part():
    with pytest.raises(ValueError, match="more than half"):
        Chunking(size=16, overlap=9)
