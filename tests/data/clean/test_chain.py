"""The chain over files: `nacre data clean`."""

import gc
import json
import stat
import warnings
from functools import cache

import pytest
from cleaner_kit import step
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from nacre.base.errors import InputError
from nacre.cli.data import app
from nacre.data.clean import CLEANERS, ORDER, in_order
from nacre.data.clean.chain import Chain, choose, default_steps
from nacre.data.clean.places import Places
from nacre.data.cleaning import clean_files
from nacre.data.dataset_info import Entry
from nacre.data.reader import Reader

ALL = ["all"]
DIRTY = "<p>Mail a@b.example.com\u200b, it is important to do so today.</p>"
TIDY = "Mail a@b.example.com, it is important to do so today."


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(*arguments):
    return CliRunner().invoke(app, ["clean", *map(str, arguments)], catch_exceptions=False)


def test_every_step_says_what_it_does_and_settings_have_descriptions():
    for name in CLEANERS.names():
        cleaner = CLEANERS.load(name)
        assert cleaner.does
        assert all(field.description for field in cleaner.Config.model_fields.values()), name
    assert default_steps() == ["html", "control", "unicode", "tokens", "secrets", "duplicates"]
    assert in_order({"near", "pii", "html"}) == ["html", "pii", "near"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": DIRTY, "input": "", "output": "x", "id": 7}, {"instruction": TIDY}),
        ({"messages": [{"role": "user", "content": DIRTY}, {"role": "assistant", "content": DIRTY}]}, None),
        ({"conversations": [{"from": "human", "value": DIRTY}, {"from": "gpt", "value": "x"}], "tools": DIRTY}, None),
        ({"instruction": "q", "input": "", "chosen": DIRTY, "rejected": "no"}, {"chosen": TIDY}),
        ({"instruction": "q", "output": DIRTY, "label": True}, {"output": TIDY}),
        ({"text": DIRTY}, {"text": TIDY}),
        ({"instruction": "q", "output": "a", "history": [[DIRTY, "b"]]}, {"history": [[TIDY, "b"]]}),
        (
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": DIRTY},
                "rejected": {"from": "gpt", "value": "x"},
            },
            None,
        ),
    ],
)
def test_only_texts_are_cleaned_and_everything_else_stays(write, tmp_path, row, expected):
    out = tmp_path / "out.jsonl"
    clean_files([write("in.jsonl", [row])], out, choose())
    [found] = lines(out)
    if expected is not None:
        assert found == row | expected
    else:
        beside = {name: value for name, value in row.items() if name == "tools"}
        texts = {name: value for name, value in row.items() if name != "tools"}
        as_json = json.dumps(texts, ensure_ascii=False).replace(json.dumps(DIRTY, ensure_ascii=False), json.dumps(TIDY))
        assert found == json.loads(as_json) | beside
    assert list(found) == list(row)


def test_columns_of_a_described_dataset(write, tmp_path):
    entry = Entry(file_name="in.jsonl", columns={"prompt": "question", "response": "answer"})
    row = {"question": DIRTY, "answer": DIRTY, "note": DIRTY}
    out = tmp_path / "out.jsonl"
    clean_files([write("in.jsonl", [row])], out, choose(), entry=entry)
    assert lines(out) == [{"question": TIDY, "answer": TIDY, "note": DIRTY}]


@pytest.mark.parametrize("layout", ["lines", "array", "text"])
def test_the_output_has_the_layout_of_the_input(write, tmp_path, qa, layout):
    rows = [*qa(3), qa(1)[0]]
    content = {
        "lines": "".join(json.dumps(row) + "\n" for row in rows),
        "array": json.dumps(rows, indent=1),
        "text": "one <b>line</b>\nanother line\none <b>line</b>\n",
    }[layout]
    path = write("in.txt" if layout == "text" else "in.json", content)
    out = tmp_path / ("out.txt" if layout == "text" else "out.json")
    report = clean_files([path], out, choose())
    assert Reader(out).layout == Reader(path).layout
    if layout == "text":
        assert out.read_text() == "one line\nanother line\n"
    else:
        assert [row.value for row in Reader(out)] == rows[:3]
    assert (report.rows, report.kept, report.dropped) == (len(rows) - (layout == "text"), report.kept, 1)


@pytest.mark.parametrize(
    "order", [("a.txt", "b.json"), ("b.json", "a.txt"), ("a.txt", "b.jsonl"), ("b.jsonl", "a.txt")]
)
def test_plain_text_and_records_become_one_layout(write, tmp_path, qa, order):
    record = qa(1)[0]
    content = {"a.txt": "one line of text\n", "b.json": json.dumps([record]), "b.jsonl": json.dumps(record) + "\n"}
    report = clean_files([write(name, content[name]) for name in order], tmp_path / "out", choose(["html"]))
    text = (tmp_path / "out").read_text()
    rows = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    expected = {"a.txt": {"text": "one line of text"}, "b.json": record, "b.jsonl": record}
    assert rows == [expected[name] for name in order]
    assert sum("a.txt: plain text in, JSON" in note for note in report.notes) == 1


def test_what_is_dropped_is_written_aside_with_its_reason(write, tmp_path):
    rows = [
        '{"instruction": "q", "output": "a"}',
        "not json",
        '{"foo": 1}',
        '{"instruction": "q", "output": "a"}',
        '{"instruction": "q", "output": "<p></p>"}',
    ]
    out = tmp_path / "out.jsonl"
    report = clean_files([write("in.jsonl", "\n".join(rows))], out, choose())
    aside = lines(tmp_path / "out.jsonl.dropped.jsonl")
    places = [(2, "reading"), (3, "reading"), (4, "duplicates"), (5, "html")]
    assert [(row["line"], row["step"]) for row in aside] == places
    assert [row["original"] for row in aside] == rows[1:]
    assert all(row["reason"] and row["file"].endswith("in.jsonl") for row in aside)
    assert stat.S_IMODE((tmp_path / "out.jsonl.dropped.jsonl").stat().st_mode) == 0o600
    assert (report.rows, report.kept, report.dropped, report.unread) == (5, 1, 4, 2)
    clean_files([out], tmp_path / "again.jsonl", choose())
    assert not (tmp_path / "again.jsonl.dropped.jsonl").exists()


def test_private_data_is_in_no_report(write, tmp_path):
    phone, key = "13800138000", "sk-abcdefghij1234567890ABCD"
    path = write("in.jsonl", [{"instruction": f"call {phone}", "output": f"use {key} now"}])
    report = clean_files([path], tmp_path / "out.jsonl", choose(["pii", "secrets"]))
    said = report.model_dump_json()
    assert phone not in said
    assert key not in said
    assert "[PHONE]" in said
    assert "[SECRET]" in said


def test_numbers_of_any_size_survive(write, tmp_path):
    beside = {"output": "a", "n": 123456789012345678901234567890, "f": 1.5}
    clean_files([write("in.jsonl", [{"instruction": "<b>q</b>", **beside}])], tmp_path / "out.jsonl", choose())
    assert lines(tmp_path / "out.jsonl") == [{"instruction": "q", **beside}]


def test_the_command_reports_and_writes_json(write, tmp_path):
    path = write("in.jsonl", [{"instruction": DIRTY, "output": "x"}, {"instruction": DIRTY, "output": "x"}])
    shown = run(path, "--out", tmp_path / "out.jsonl")
    assert shown.exit_code == 0
    assert "1 of 2 records kept" in shown.output
    as_json = run(path, "--out", tmp_path / "out.jsonl", "--json")
    steps = {found["name"]: found for found in json.loads(as_json.output)["steps"]}
    assert steps["html"]["records"] == 2
    assert steps["duplicates"]["dropped"] == 1
    assert steps["html"]["examples"][0]["after"].startswith("Mail")


def test_a_dataset_by_name(write, tmp_path):
    write("sets/mine/train.json", [{"instruction": DIRTY, "output": "x"}])
    assert run("--dataset", "mine", "--dataset-dir", tmp_path / "sets", "--out", tmp_path / "o.jsonl").exit_code == 0
    assert lines(tmp_path / "o.jsonl")[0]["instruction"] == TIDY


def test_steps_are_chosen_by_name_and_by_config(write, tmp_path):
    config = write("clean.yaml", "pii: {action: drop}\nhtml: false\nglossary: {file: terms.csv}\n")
    write("terms.csv", "a,b\n")
    assert list(choose(None, config)) == ["control", "unicode", "tokens", "glossary", "secrets", "pii", "duplicates"]
    assert choose(["pii"], config)["pii"].action == "drop"
    assert list(choose(["near", "html"])) == ["html", "near"]
    assert set(choose(ALL)) == set(ORDER) - {"glossary", "leaks"}
    assert "glossary" in choose(ALL, config)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--steps", "htlm"], "html"),
        (["--steps", "glossary"], "file"),
        (["--steps", "leaks"], "dev"),
        (["--steps", ","], "step"),
        (["--config", "bad.yaml"], "action"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_remedy(write, tmp_path, arguments, word, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write("in.jsonl", [{"instruction": "q", "output": "a"}])
    write("bad.yaml", "pii: {acton: drop}\n")
    with pytest.raises(InputError) as caught:
        run(path, "--out", "out.jsonl", *arguments)
    assert word in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_the_input_is_never_overwritten(write):
    path = write("in.jsonl", [{"instruction": "q", "output": "a"}])
    with pytest.raises(InputError):
        clean_files([path], path, choose())
    with pytest.raises(InputError):
        run(path)


PIECES = [
    *("<p>", "</p>", "&lt;", "&amp;", "b>", "a", " ", "word ", "\u200b", "\r\n", "Ã©", "e\u0301", "Ａ", "，中文"),
    *("<|im_end|>", "</s>", "13800138000", "a@b.example.com", "2024/5/20", "sk-abcdefghij1234567890ABCD"),
    *("我叫张伟，", "password: ", "`", "1", "-"),
]


@cache
def text_steps():
    names = ["html", "control", "unicode", "tokens", "dates", "secrets", "pii"]
    return Chain(choose(names)), Places(), [(name, step(name)) for name in names]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=10).map("".join), min_size=2, max_size=2))
def test_the_whole_chain_cleans_twice_as_once_and_marks_hide_nothing(texts):
    chain, places, alone = text_steps()
    record = {"instruction": texts[0], "output": texts[1]}
    if chain.clean(record, places.find(record)) is not None:
        return
    once = dict(record)
    assert chain.clean(record, places.find(record)) is None
    assert record == once
    for name, made in alone:
        assert made.text(record["output"]) == record["output"], name


@pytest.mark.shared
def test_golden_files_pass_nearly_unchanged(llamafactory_data, tmp_path):
    report = clean_files([llamafactory_data / "alpaca_en_demo.json"], tmp_path / "out.json", choose())
    assert report.kept + report.dropped == report.rows
    steps = {found.name: found for found in report.steps}
    assert report.dropped == steps["duplicates"].dropped == 14
    assert report.mended <= 5


def test_no_file_stays_open_after_a_run_whole_or_broken_off(write, tmp_path):
    rows = [{"instruction": f"tell me about number {n}, please", "output": f"it is a number, {n}"} for n in range(30)]
    dev, source, empty = write("dev.jsonl", rows[:5]), write("in.jsonl", rows * 2), write("empty.jsonl", b"")
    steps = choose(["near", "leaks", "secrets"], write("clean.yaml", f"leaks: {{dev: [{dev}]}}\n"))
    gc.collect()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        assert clean_files([source], tmp_path / "out.jsonl", steps).dropped
        with pytest.raises(InputError):
            clean_files([source, empty], tmp_path / "out.jsonl", steps)
        gc.collect()
    assert [str(one.message) for one in seen if issubclass(one.category, ResourceWarning)] == []


@pytest.mark.parametrize("files", [1, 20])
def test_a_file_is_looked_through_for_its_encoding_once_and_many_are_not_all_held(files, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(
        "nacre.data.cleaning.Reader", lambda *given, **named: made.append(given) or Reader(*given, **named)
    )
    paths = [tmp_path / f"{number}.jsonl" for number in range(files)]
    for number, path in enumerate(paths):
        path.write_text(json.dumps({"instruction": "Which number?", "output": f"It is the number {number}."}) + "\n")
    report = clean_files(paths, tmp_path / "out.jsonl", choose())
    assert report.kept == files
    assert len(made) == (1 if files == 1 else 2 * files)
