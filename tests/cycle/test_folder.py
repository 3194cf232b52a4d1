"""Training from folder to folder: lineage, replay, what is written, and what a second run does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from workspace_kit import Outcome, Place, assert_clear, rows, write_increment, write_lines

if TYPE_CHECKING:
    from toy_kit import Toy

Train = Callable[..., Outcome]
QUICK = ("--num_train_epochs", "1", "--learning_rate", "1e-3")


@pytest.fixture
def clone(tmp_path: Path) -> Place:
    """A folder with three datasets in `dataset`."""
    for name, task in (("base", "paint"), ("increment_1", "feed"), ("increment_2", "place")):
        write_increment(tmp_path / "dataset", name, task, train=24, dev=8)
    return Place(tmp_path)


@pytest.fixture
def train(clone: Place, toy: "Toy") -> Train:
    """`nacre train` on a dataset of the clone; the model is the toy unless another is named."""

    def run(dataset: str, output: str, *words: str, model: str = toy.base.model) -> Outcome:
        given = ("--model_name_or_path", model, "--dataset", dataset, "--output_dir", output, *QUICK, *words)
        return clone.nacre("train", *given)

    return run


def said(found: Outcome) -> str:
    assert found.code == 0, found
    return found.out


def manifest(clone: Place, output: str) -> Any:
    return json.loads((clone.root / output / "nacre.json").read_text())


def distance(clone: Place, one: str, other: Path) -> float:
    mine, theirs = load_file(clone.root / one / "model.safetensors"), load_file(other / "model.safetensors")
    return float(torch.stack([(mine[name] - theirs[name]).norm() for name in mine]).norm())


def test_the_same_command_again_says_so_and_changed_data_is_refused(clone: Place, train: Train) -> None:
    said(train("base", "out/a"))
    before = {path.name: path.read_bytes() for path in (clone.root / "out" / "a").iterdir()}
    again = said(train("base", "out/a"))
    assert "nothing to do: out/a was trained on exactly this" in again
    write_lines(clone.dataset / "base" / "train.json", rows("paint")[100:120])
    assert_clear(train("base", "out/a"), "the output folder holds something else", "--overwrite_output_dir")
    assert {path.name: path.read_bytes() for path in (clone.root / "out" / "a").iterdir()} == before
    assert "nothing to do" not in said(train("base", "out/a", "--overwrite_output_dir"))
    assert manifest(clone, "out/a")["lineage"][0]["train"]["rows"] == 20
    assert not list((clone.root / "out").glob(".a*")), "a folder that was in the way is still there"
    assert not list((clone.root / "out" / ".nacre" / "runs").iterdir())


def test_the_lineage_grows_and_every_dev_row_is_collected(clone: Place, train: Train) -> None:
    full = ("--finetuning_type", "full")
    said(train("base", "out/a", *full))
    said(train("increment_1", "out/b", "--prev_model", "out/a", *full, model="out/a"))
    third = said(train("increment_2", "elsewhere/c", "--prev_model", "out/b", "--replay_samples", "10", model="out/b"))
    assert "rows of earlier increments were copied from" in third
    assert "from 10 rows of past tasks (base 5, increment_1 5)" in third
    assert [entry["task"] for entry in manifest(clone, "elsewhere/c")["lineage"]] == [
        "base",
        "increment_1",
        "increment_2",
    ]
    lines = (clone.dataset / "dev_all.json").read_text().splitlines()
    assert [json.loads(line)["task"] for line in lines] == ["base"] * 8 + ["increment_1"] * 8 + ["increment_2"] * 8


def test_an_increment_without_prev_model_says_what_is_at_risk(clone: Place, train: Train) -> None:
    said(train("base", "out/a", "--finetuning_type", "full"))
    found = said(train("increment_1", "out/b", "--regularization_alpha", "0.5", model="out/a"))
    assert "out/a has learned base: --prev_model out/a would protect that" in found
    assert "regularization_alpha: has no effect without prev_model" in found


@pytest.mark.slow
def test_a_model_that_lost_its_rows_is_still_protected_and_said_so(clone: Place, train: Train, toy: "Toy") -> None:
    said(train("base", "out/a", "--finetuning_type", "full"))
    (clone.root / "out" / ".nacre" / "memory" / "rows").rename(clone.root / "gone")
    found = said(train("increment_1", "out/b", "--prev_model", "out/a", model="out/a"))
    assert "the rows of base are not in" in found
    assert "distill: the divergence from the previous version, 0.1 times on generic text" in found
    foreign = said(train("increment_1", "out/c", "--prev_model", toy.base.model))
    assert "has no lineage record: there are no earlier rows to replay" in foreign


@pytest.mark.slow
def test_alpha_holds_the_weights_near_the_previous_model(clone: Place, train: Train, toy: "Toy") -> None:
    words = ("--prev_model", toy.base.model, "--trainable_layers", "all", "--num_train_epochs", "4")
    said(train("increment_1", "out/weak", *words, "--regularization_alpha", "0"))
    said(train("increment_1", "out/strong", *words, "--regularization_alpha", "50"))
    base = Path(toy.base.model)
    assert distance(clone, "out/strong", base) < 0.9 * distance(clone, "out/weak", base)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--max_samples", "5"), "the first 5 of 24 train rows are used"),
        (("--trainable_layers", "all"), "every layer"),
        (("--trainable_layers", "1", "--bf16"), "the last 1 of 2 layers"),
        (("--gradient_checkpointing", "--cutoff_len", "32"), "LoRA rank 8"),
        (("--use_gradient_checkpointing", "--finetuning_type", "full"), "every layer"),
        (("--cutoff_len", "8"), "were shortened"),
    ],
)
def test_the_other_flags_of_the_articles(train: Train, words: tuple[str, ...], part: str) -> None:
    assert part in said(train("base", "out/a", *words))


def test_a_dataset_folder_elsewhere_and_files_as_datasets(clone: Place, train: Train) -> None:
    clone.dataset.rename(clone.root / "elsewhere")
    assert "dev_all.json" in said(train("base", "out/a", "--dataset_dir", "elsewhere"))
    assert (clone.root / "elsewhere" / "dev_all.json").exists()
    found = said(train("elsewhere/increment_1/train.json", "out/b"))
    assert "there is no folder dataset to put dev_all.json into" in found
    assert not clone.dataset.exists()


def test_a_broken_dev_all_is_left_alone(clone: Place, train: Train) -> None:
    (clone.dataset / "dev_all.json").write_text("{broken")
    assert "dev_all.json was left as it is" in said(train("base", "out/a"))
    assert (clone.dataset / "dev_all.json").read_text() == "{broken"


def test_json_and_yaml_files_and_words_say_the_same(clone: Place, train: Train, toy: "Toy") -> None:
    (clone.root / "run.yaml").write_text("dataset: base\noutput_dir: out/a\nlearning_rate: 1e-3\nnum_train_epochs: 1\n")
    found = clone.json("train", "run.yaml", f"model_name_or_path={toy.base.model}", "--seed", "1")
    assert (found["trained"], found["steps"], found["output_dir"]) == (True, 3, "out/a")
    assert found["final_loss"] > 0
    assert found["notes"]
    assert manifest(clone, "out/a")["recipe"]["train"]["learning_rate"] == 1e-3
    again = clone.json("train", "run.yaml", f"model_name_or_path={toy.base.model}", "--seed=1")
    assert (again["trained"], again["steps"]) == (False, 0)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--replay_sample", "200"), ("unknown argument '--replay_sample'", "did you mean '--replay_samples'?")),
        (("--stage", "dpo"), ("every row is a prompt with an answer, which stage dpo does not train", "--stage sft")),
        (("--stage", "ppo"), ("stage", "dpo")),
        (("--finetuning_type", "qlora"), ("finetuning_type", "lora, freeze, full")),
        (("--lora_target", "qq_proj", "--finetuning_type", "lora"), ("'qq_proj'", "did you mean 'q_proj'?")),
        (("--learning_rate", "1e-3x"), ("learning_rate", "1e-3x")),
        (("--dataset", "bass"), ("unknown dataset 'bass'", "did you mean 'base'?")),
        (("--output_dir",), ("--output_dir needs a value",)),
        (("settings.yml",), ("the file does not exist", "settings.yml")),
        (("whatever",), ("'whatever' is neither a flag nor a settings file",)),
        (("--lr_scheduler_type", "cosin"), ("did you mean 'cosine'?",)),
        (("--freeze_layers", "9", "--prev_model", "MODEL"), ("of 2 layers would train", "frozen_layers")),
        (("--prev_model", "gone"), ("the model path does not exist", "gone")),
        (("--model_name_or_path", "gone"), ("the model path does not exist", "gone")),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(
    clone: Place, train: Train, toy: "Toy", words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    assert_clear(train("base", "out/a", *(word.replace("MODEL", toy.base.model) for word in words)), *parts)
    assert not (clone.root / "out" / "a").exists()


def test_broken_settings_files_are_named_with_their_line(clone: Place) -> None:
    for name, text, part in (
        ("a.json", '{"dataset": "base",\n  "output_dir" "x"}', "a.json, line 2"),
        ("b.json", "[1, 2]", "one JSON object"),
        ("c.yaml", "dataset: base\n  output: [", "c.yaml, line 2"),
    ):
        (clone.root / name).write_text(text)
        assert_clear(clone.nacre("train", name), part)
    assert_clear(clone.nacre("train", "--dataset", "base", "--output_dir", "x"), "--model_name_or_path is missing")
