import csv
import gzip
import hashlib
import io
import json
import shutil

import pyarrow
import pyarrow.parquet
import pytest

from nacre.base.errors import InputError
from nacre.data.dataset import load, resolve
from nacre.data.dataset_info import aligned, entry, read_info

SHARED = pytest.mark.shared
GOLDEN = [
    "identity", "alpaca_en_demo", "alpaca_zh_demo", "glaive_toolcall_en_demo", "glaive_toolcall_zh_demo",
    "dpo_zh_demo", "kto_en_demo", "wiki_demo", "c4_demo",
]  # fmt: skip


@SHARED
@pytest.mark.parametrize("name", GOLDEN)
def test_rows_are_aligned_as_llamafactory_aligns_them(llamafactory_data, name):
    golden = json.loads((llamafactory_data / "golden" / "aligned.json").read_text())
    assert set(golden) == set(GOLDEN)
    loaded = load(name, llamafactory_data, "train")
    rows = [aligned(example) for example in loaded.examples]
    text = "\n".join(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in rows)
    valid = sum(len(row["_prompt"]) % 2 == 1 and len(row["_response"]) == 1 for row in rows)
    assert rows[:2] == golden[name]["first"]
    assert (len(rows), valid) == (golden[name]["rows"], golden[name]["valid_sft"])
    assert hashlib.sha256(text.encode()).hexdigest() == golden[name]["sha256_aligned"]
    assert not loaded.dropped


def parquet(rows):
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


COATS = {
    "gzip": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "JSON lines in UTF-16": lambda rows: lines(rows).encode("utf-16"),
    "GB18030": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False).encode("gb18030"),
    "Parquet": parquet,
}


@SHARED
@pytest.mark.parametrize(
    ("name", "coat"),
    [
        (name, coat)
        for name in GOLDEN
        for coat in COATS
        if name not in ("wiki_demo", "c4_demo") and (coat != "GB18030" or "zh" in name)  # it is told by Chinese text
    ],
)
def test_the_golden_hashes_hold_in_every_layout_and_encoding(llamafactory_data, write, tmp_path, name, coat):
    golden = json.loads((llamafactory_data / "golden" / "aligned.json").read_text())[name]
    description = json.loads((llamafactory_data / "dataset_info.json").read_text())[name]
    rows = json.loads((llamafactory_data / description["file_name"]).read_text(encoding="utf-8"))
    write("dataset_info.json", json.dumps({name: description | {"file_name": "rows.json"}}))
    write("rows.json", COATS[coat](rows))
    loaded = load(name, tmp_path, "train")
    found = [aligned(example) for example in loaded.examples]
    text = "\n".join(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in found)
    assert (len(found), loaded.dropped) == (golden["rows"], [])
    assert hashlib.sha256(text.encode()).hexdigest() == golden["sha256_aligned"]


@SHARED
def test_the_golden_alpaca_rows_survive_a_table(llamafactory_data, write, tmp_path):
    golden = json.loads((llamafactory_data / "golden" / "aligned.json").read_text())
    for name in ("identity", "alpaca_en_demo", "alpaca_zh_demo"):
        rows = json.loads((llamafactory_data / f"{name}.json").read_text(encoding="utf-8"))
        text = io.StringIO()
        writer = csv.DictWriter(text, ["instruction", "input", "output"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write(f"{name}.csv", text.getvalue())
        found = [aligned(example) for example in load(name, tmp_path, "train").examples]
        joined = "\n".join(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in found)
        assert hashlib.sha256(joined.encode()).hexdigest() == golden[name]["sha256_aligned"]


@SHARED
def test_every_entry_parses_and_the_local_ones_resolve(llamafactory_data):
    info = read_info(llamafactory_data)
    assert len(info) > 100
    there, not_there = [], []
    for name in info:
        found = entry(info, name, llamafactory_data)
        try:
            found.local(llamafactory_data, name)
            there.append(name)
        except InputError as error:
            not_there.append((name, error))
    assert set(there) == {*GOLDEN, "mllm_demo"}
    for name, error in not_there:
        assert name in error.what
        assert "nothing is downloaded" in error.what or "does not exist" in error.what


@SHARED
def test_pictures_are_counted_against_their_places(llamafactory_data, tmp_path):
    loaded = load("mllm_demo", llamafactory_data, "train")
    assert len(loaded.examples) == 6
    assert not loaded.dropped
    for example in loaded.examples:
        assert sum(turn.content.count("<image>") for turn in example.prompt) == len(example.images)
    for file in ("dataset_info.json", "mllm_demo.json"):
        shutil.copy(llamafactory_data / file, tmp_path)
    rows = json.loads((tmp_path / "mllm_demo.json").read_text())
    rows[1]["images"].append("mllm_demo_data/1.jpg")
    (tmp_path / "mllm_demo.json").chmod(0o644)
    (tmp_path / "mllm_demo.json").write_text(json.dumps(rows))
    assert [row.reason for row in load("mllm_demo", tmp_path, "train").dropped] == [
        "2 images for 1 <image> in the texts"
    ]


@pytest.fixture
def described(write, tmp_path):
    """Describe one dataset and write its rows; returns its folder."""

    def described(description, rows, name="rows.json"):
        write("dataset_info.json", json.dumps({"mine": {"file_name": name, **description}}))
        write(name, rows)
        return tmp_path

    return described


def test_columns_that_are_not_named_are_absent(described):
    rows = [{"instruction": "a", "input": "b", "output": "c", "system": "s", "history": [["x", "y"]]}]
    default = load("mine", described({}, rows), "train")
    assert aligned(default.examples[0])["_prompt"] == [{"role": "user", "content": "a\nb"}]
    assert (default.examples[0].answer, default.examples[0].system) == ("c", "")
    assert len(default.notes) == 1
    assert "columns that are not used" in default.notes[0]
    assert "system (1 rows)" in default.notes[0]
    assert "history (1 rows)" in default.notes[0]
    only_prompt = load("mine", described({"columns": {"prompt": "instruction"}}, rows), "train").examples[0]
    assert (only_prompt.kind, only_prompt.prompt[0].content, only_prompt.answers) == ("text", "a", ())
    columns = {"prompt": "instruction", "response": "output", "system": "system", "history": "history"}
    full = load("mine", described({"columns": columns}, rows), "train").examples[0]
    assert [turn.content for turn in full.prompt] == ["x", "y", "a"]
    assert (full.answer, full.system) == ("c", "s")


def test_columns_may_have_any_name(described):
    rows = [{"q": "a", "ctx": None, "a": "c"}]
    columns = {"prompt": "q", "query": "ctx", "response": "a"}
    assert load("mine", described({"columns": columns}, rows), "train").examples[0].prompt[0].content == "a"


def test_a_named_column_that_no_row_has_is_an_error_with_the_nearest_name(described):
    rows = [{"question": "a", "answer": "c"}]
    folder = described({"columns": {"prompt": "question", "response": "anser"}}, rows)
    with pytest.raises(InputError) as caught:
        load("mine", folder, "train")
    assert "no row has the column 'anser' that is named as response" in caught.value.what
    assert "did you mean 'answer'?" in caught.value.fix


SHAREGPT = {"formatting": "sharegpt"}


def talk(*roles):
    return [{"from": role, "value": role} for role in roles]


def test_sharegpt_with_default_tags_and_a_system_column(described):
    rows = [
        {"conversations": talk("human", "gpt"), "sys": "s", "t": "[1]"},
        {"conversations": talk("system", "human", "gpt"), "sys": "s", "t": "[1]"},
        {"conversations": talk("human", "function_call", "observation", "gpt"), "sys": None, "t": None},
    ]
    columns = {"messages": "conversations", "system": "sys", "tools": "t"}
    examples = load("mine", described(SHAREGPT | {"columns": columns}, rows), "train").examples
    assert [example.system for example in examples] == ["s", "system", ""]
    assert [example.tools for example in examples] == ["[1]", "[1]", ""]
    assert [turn.role for turn in examples[2].prompt] == ["user", "function", "observation"]
    bare = load("mine", described(SHAREGPT, rows), "train").examples
    assert [example.system for example in bare] == ["", "system", ""]


def test_tags_that_are_not_named_are_absent(described):
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [{"messages": turns}, {"messages": [{"role": "system", "content": "s"}, *turns]}]
    description = SHAREGPT | {"columns": {"messages": "messages"}, "tags": tags}
    loaded = load("mine", described(description, rows), "train")
    assert len(loaded.examples) == 1
    assert "unknown role 'system'" in loaded.dropped[0].reason
    with_system = description | {"tags": tags | {"system_tag": "system"}}
    assert load("mine", described(with_system, rows), "train").examples[1].system == "s"


def test_broken_dialogues_are_dropped_as_llamafactory_drops_them(described):
    def talk(*roles):
        return {"conversations": [{"from": role, "value": "x"} for role in roles]}

    rows = [
        talk("human", "gpt"),
        talk("gpt", "human"),
        talk("human", "human"),
        talk("human", "gpt", "human"),
        talk("human"),
    ]
    loaded = load("mine", described(SHAREGPT, rows), "train")
    assert [example.origin.line for example in loaded.examples] == [1]
    assert [row.line for row in loaded.dropped] == [2, 3, 4, 5]


def test_ranking_and_kto_in_both_shapes(described):
    question, reply = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
    pairs = SHAREGPT | {"ranking": True, "columns": {"messages": "conversations", "chosen": "good", "rejected": "bad"}}
    row = {"conversations": [question], "good": reply, "bad": reply | {"value": "b"}}
    pair = load("mine", described(pairs, [row]), "train").examples[0]
    assert [turn["content"] for turn in aligned(pair)["_response"]] == ["a", "b"]
    alpaca_pairs = {"ranking": True, "columns": {"prompt": "p", "chosen": "good", "rejected": "bad"}}
    pair = load("mine", described(alpaca_pairs, [{"p": "q", "good": "a", "bad": "b"}]), "train").examples[0]
    assert (pair.kind, [turn["content"] for turn in aligned(pair)["_response"]]) == ("preference", ["a", "b"])
    judged = SHAREGPT | {"columns": {"messages": "conversations", "kto_tag": "ok"}}
    rows = [{"conversations": [question, reply], "ok": ok} for ok in (True, False, None)]
    loaded = load("mine", described(judged, rows), "train")
    assert [[turn["content"] for turn in aligned(one)["_response"]] for one in loaded.examples] == [
        ["a", ""],
        ["", "a"],
    ]
    assert "column 'ok' is null" in loaded.dropped[0].reason
    alpaca_judged = {"columns": {"prompt": "p", "response": "r", "kto_tag": "ok"}}
    one = load("mine", described(alpaca_judged, [{"p": "q", "r": "a", "ok": False}]), "train").examples[0]
    assert (one.kind, one.desirable) == ("kto", False)


def test_openai_formatting_folds_calls_and_adds_nothing_to_the_system_text(described):
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
            "observation_tag": "tool", "function_tag": "function", "system_tag": "system"}  # fmt: skip
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "天气"}}]}
    messages = [
        {"role": "user", "content": "q"},
        call,
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": "a"},
    ]
    description = {"formatting": "openai", "columns": {"messages": "messages"}, "tags": tags}
    example = load("mine", described(description, [{"messages": messages}]), "train").examples[0]
    assert example.prompt[1].content == '[{"name": "天气"}]'
    assert example.system == ""


def test_num_samples_draws_every_row_before_any_twice(described):
    rows = [{"instruction": str(n), "output": "x"} for n in range(10)]
    for count in (4, 10, 25):
        loaded = load("mine", described({"num_samples": count}, rows), "train")
        lines = [example.origin.line for example in loaded.examples]
        assert len(lines) == count
        assert len(set(lines)) == min(count, 10)
        assert any(f"{count} rows drawn from 10" in note for note in loaded.notes)
        again = load("mine", described({"num_samples": count}, rows), "train")
        assert [example.origin.line for example in again.examples] == lines


def test_a_folder_is_read_whole_but_for_its_dev_file(described, write, qa):
    folder = described({"file_name": "many"}, qa(2), name="many/a.json")
    write("many/b.json", qa(3, start=2))
    write("many/dev.json", qa(1, start=9))
    loaded = load("mine", folder, "train")
    assert len(loaded.examples) == 5
    assert len(loaded.sources) == 2
    assert any("dev.json is kept for evaluation" in note for note in loaded.notes)
    assert len(load("mine", folder, "dev").examples) == 1
    write("many/c.txt", "text")
    with pytest.raises(InputError, match="different endings"):
        resolve("mine", folder)


def test_a_dev_file_beside_a_train_file_is_its_dev_set(described, write, qa):
    folder = described({"file_name": "base/train.json"}, qa(2), name="base/train.json")
    write("base/dev.json", qa(1, start=5))
    assert [path.name for path in resolve("mine", folder).dev] == ["dev.json"]


@pytest.mark.parametrize(
    ("description", "what", "fix"),
    [
        ({"hf_hub_url": "a/b"}, "lies at hf_hub_url 'a/b', and nothing is downloaded", "download it"),
        ({"ms_hub_url": "a/b"}, "ms_hub_url", "download it"),
        ({"script_url": "x"}, "script_url", "download it"),
        ({"cloud_file_name": "s3://x"}, "cloud_file_name", "download it"),
        ({"colums": {}}, "unknown key 'colums'", "did you mean 'columns'?"),
        ({"columns": {"promt": "a"}}, "unknown key 'columns.promt'", "did you mean 'prompt'?"),
        ({"tags": {"role": "a"}}, "unknown key 'tags.role'", "did you mean 'role_tag'?"),
        ({"formatting": "chatml"}, "bad value for 'formatting'", "chatml"),
        ({"num_samples": 0}, "bad value for 'num_samples'", "0"),
        ({"ranking": True}, "no columns for the two answers", "chosen"),
        ({"file_name": "gone.json"}, "does not exist", "file_name"),
        ({"file_name": None}, "names no file", "file_name"),
        ({"split": "test"}, "split 'test'", "split"),
    ],
)
def test_faulty_entries_are_explained(described, qa, description, what, fix):
    folder = described(description, qa(1))
    with pytest.raises(InputError) as caught:
        load("mine", folder, "train")
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert "mine" in caught.value.where


@pytest.mark.parametrize("text", ["{", "[]", '{"mine": 3}', '{"mine": {}, "mine": {}}'])
def test_a_faulty_dataset_info_is_explained(write, tmp_path, text):
    write("dataset_info.json", text)
    with pytest.raises(InputError) as caught:
        load("mine", tmp_path, "train")
    assert "dataset_info.json" in caught.value.where
