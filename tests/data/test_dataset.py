import json

import pytest

from nacre.base.errors import InputError
from nacre.base.hashing import sha256_file
from nacre.data.dataset import load, resolve, task_name


@pytest.fixture
def folder(write, qa, tmp_path):
    """A dataset folder with one dataset of each kind."""
    write(
        "dataset/dataset_info.json",
        json.dumps({"entry": {"file_name": "rows.json"}, "base": {"file_name": "rows.json"}}),
    )
    write("dataset/rows.json", qa(4))
    write("dataset/base/train.json", qa(1))
    write("dataset/increment_1/train.json", json.dumps(qa(6, start=10)))
    write("dataset/increment_1/dev.json", qa(3, start=16))
    write("dataset/increment_2/train.jsonl", qa(5, start=20))
    write("dataset/single.jsonl", qa(2, start=30))
    write("dataset/wiki.txt", "One.\nTwo.\n")
    write("elsewhere/more/train.json", qa(2, start=40))
    write("elsewhere/more/dev.jsonl", qa(1, start=50))
    write("elsewhere/notes/readme.md", "hello")
    return tmp_path / "dataset"


@pytest.mark.parametrize(
    ("name", "train", "dev", "task"),
    [
        ("entry", ["rows.json"], [], "entry"),
        ("base", ["rows.json"], [], "base"),
        ("increment_1", ["train.json"], ["dev.json"], "increment_1"),
        ("increment_2", ["train.jsonl"], [], "increment_2"),
        ("single", ["single.jsonl"], [], "single"),
        ("single.jsonl", ["single.jsonl"], [], "single"),
        ("wiki", ["wiki.txt"], [], "wiki"),
        ("increment_1/train", ["train.json"], [], "increment_1"),
    ],
)
def test_names_are_found_in_order(folder, name, train, dev, task):
    found = resolve(name, folder)
    assert [path.name for path in found.train] == train
    assert [path.name for path in found.dev] == dev
    assert found.task == task


def test_paths_are_datasets_too(folder, monkeypatch):
    elsewhere = folder.parent / "elsewhere" / "more"
    found = resolve(str(elsewhere), folder)
    assert (found.task, [path.name for path in found.dev]) == ("more", ["dev.jsonl"])
    found = resolve(str(elsewhere / "train.json"), folder)
    assert (found.task, found.train, found.dev) == ("more", (elsewhere / "train.json",), ())
    monkeypatch.chdir(folder.parent)
    assert resolve("elsewhere/more", folder).task == "more"
    assert resolve("dataset/single.jsonl", folder / "nowhere").task == "single"


def test_dev_rows_are_never_loaded_as_train_rows(folder):
    train, dev = load("increment_1", folder, "train"), load("increment_1", folder, "dev")
    assert (len(train.examples), len(dev.examples)) == (6, 3)
    assert not {row.content_id for row in train.examples} & {row.content_id for row in dev.examples}
    assert load("increment_2", folder, "dev").examples == []


def test_several_names_are_joined_in_order(folder):
    loaded = load("increment_2, single", folder, "train")
    assert [example.origin.task for example in loaded.examples] == ["increment_2"] * 5 + ["single"] * 2
    assert task_name("increment_2,single", folder) == "increment_2+single"
    assert loaded.sources == {str(path): sha256_file(path) for path in sorted(folder.rglob("*.jsonl"))}


def test_max_samples_takes_the_first_rows_of_each_dataset_and_says_so(folder):
    loaded = load("increment_2,single", folder, "train", max_samples=3)
    assert [example.origin.line for example in loaded.examples] == [1, 2, 3, 1, 2]
    assert loaded.notes == ["increment_2: the first 3 of 5 train rows are used (max_samples)"]


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("incremnt_1", "unknown dataset 'incremnt_1'", "did you mean 'increment_1'? Known: base, entry, increment_1"),
        ("zzz", "unknown dataset 'zzz'", "Known: base, entry, increment_1, increment_2, rows, single, wiki"),
        ("", "no dataset is named", "commas"),
        ("../elsewhere/notes", "has no train.json", "there is: readme.md"),
    ],
)
def test_unknown_names_are_explained(folder, name, what, fix):
    with pytest.raises(InputError) as caught:
        load(name, folder, "train")
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_missing_dataset_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="the dataset folder does not exist"):
        resolve("base", tmp_path / "nothing")


def test_two_train_files_are_ambiguous(folder, write, qa):
    write("dataset/increment_1/train.jsonl", qa(1))
    with pytest.raises(InputError, match=r"train\.json and train\.jsonl"):
        resolve("increment_1", folder)


@pytest.mark.parametrize("content", ["[]", "[ \n ]\n"])
def test_a_file_without_rows_is_an_error(folder, write, content):
    write("dataset/empty.json", content)
    with pytest.raises(InputError, match="holds no rows"):
        load("empty", folder, "train")
