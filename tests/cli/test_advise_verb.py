"""`nacre advise` as a user calls it: tables, JSON, both languages, a local model, and mistakes."""

import json
import re
from pathlib import Path

import pytest

from workspace_kit import Place, assert_clear, write_increment


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_json_has_choices_reasons_other_machines_and_settings(place: Place) -> None:
    found = place.json("advise", "--task", "chat", "--rows", "800", "--gpus", "24")
    assert len(found["choices"]) == 5
    assert {one["hardware"] for one in found["choices"]} == {"1 x 24 GB card"}
    assert found["refused"]
    assert len(found["elsewhere"]) == 5
    assert found["yaml"].startswith(f"model: {found['choices'][0]['model']}")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_terminal_of_eighty_columns_holds_it(place: Place, lang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from nacre.cli.common import console

    monkeypatch.setattr(console, "_width", 80)
    found = place.nacre("advise", "--task", "domain", "--rows", "5000", "--gpus", "4x80", "--lang", lang)
    assert found.code == 0, found
    tables = [line for line in found.out.splitlines() if re.match("[┏┃┡│├└]", line)]
    assert tables
    assert max(map(len, tables)) <= 80
    assert ("可用方案" in found.out) == (lang == "zh")
    assert "fsdp2" in found.out or "LoRA" in found.out


def test_a_local_model_and_its_rows_on_the_processor_here(place: Place, toy) -> None:
    write_increment(place.root / "dataset", "base", "paint")
    rows = place.root / "dataset" / "base"
    found = place.json("advise", "--rows", rows, "--model", toy.base.model, "--gpus", "cpu")
    assert found["rows"] == 96
    assert found["task"] == "classification"
    assert found["choices"][0]["precision"] == "fp32"
    assert "tokenizer" in found["notes"][0]["en"]


def test_nothing_fits_is_said_with_exit_code_one(place: Place) -> None:
    found = place.nacre("advise", "--model", "Qwen2.5-72B-Instruct", "--gpus", "24", "--rows", "500")
    assert found.code == 1
    assert "nothing fits" in found.out
    assert "GB of card memory make it fit" in found.out


def test_a_table_in_the_workspace_counts(place: Place) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 4, "num_attention_heads": 4}
    sizes |= {"vocab_size": 1000, "max_position_embeddings": 512}
    table = {"families": [{"name": "Mine", "models": [{"hub": "me/mine", "config": sizes}]}]}
    (place.root / "families.json").write_text(json.dumps(table))
    assert place.json("advise", "--model", "me/mine", "--gpus", "24")["choices"][0]["model"] == "me/mine"


def test_mistakes_are_told(place: Place) -> None:
    assert_clear(place.nacre("advise", "--task", "chatt"), "did you mean 'chat'")
    assert_clear(place.nacre("advise", "--gpus", "big"), "names no cards")
    assert_clear(place.nacre("advise", "--rows", "none.json"), "there is no such file")
    assert_clear(place.nacre("advise", "--model", "Qwen/Qwen3-9B"), "did you mean 'Qwen/Qwen3-8B'")
    assert_clear(place.nacre("advise", "--gpus", "24", "--memory", "8"), "main memory")
    assert_clear(place.nacre("advise", "--families", "none.json"), "no such table")
