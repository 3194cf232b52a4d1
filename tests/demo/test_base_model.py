import hashlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nacre.demo.base import FOLDER, build_tokenizer, main, make_base
from nacre.demo.corpus import documents
from nacre.demo.skills import SKILLS, skill_rows
from nacre.records import Manifest


@pytest.mark.slow
def test_the_command_makes_a_model_that_has_learned_something_and_repeats_itself(tmp_path: Path) -> None:
    out = tmp_path / "first"
    command = [sys.executable, "-m", "nacre.demo.base", "--out", str(out), "--steps", "30", "--stories", "300"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "30 steps" in done.stdout
    again = make_base(tmp_path / "second", steps=30, stories=300)
    assert again.final_loss < 6.5  # a model that knows nothing is at ln 2048 = 7.6 nats
    first, second = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("first", "second"))
    assert all(torch.allclose(first[name], second[name], atol=1e-3) for name in first)
    assert (out / "tokenizer.json").read_bytes() == (tmp_path / "second" / "tokenizer.json").read_bytes()


def test_wrong_numbers_and_a_full_folder_are_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert main(["--out", str(tmp_path / "full")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["--out", str(tmp_path / "new"), "--steps", "0"]) == 2
    assert "steps must be at least 1" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_the_shipped_model_is_small_loads_and_brings_no_template() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 3_000_000
    model = AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    assert 500_000 <= model.num_parameters() <= 1_000_000
    assert model.dtype == torch.float32
    assert tokenizer.chat_template is None
    assert len(tokenizer) == model.config.vocab_size == 2048
    assert tokenizer.eos_token_id == model.config.eos_token_id == model.generation_config.eos_token_id
    row = skill_rows(SKILLS[1], 1, 0)[0]["input"] + " Café, ☂!"
    assert tokenizer.decode(tokenizer(row)["input_ids"]) == row


def test_the_shipped_model_knows_the_language_of_the_skills() -> None:
    model = AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    losses = []
    for text in documents(40, seed=1):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            losses.append(float(model(ids, labels=ids).loss))
    assert sum(losses) / len(losses) < 1.3  # nats per token, on stories of another seed


def test_the_shipped_readme_and_manifest_say_how_it_was_made() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    line = re.search(r"python -m nacre\.demo\.base --out FOLDER (.*)", readme)
    assert line is not None
    flags = shlex.split(line.group(1))
    given = {name.removeprefix("--"): int(value) for name, value in zip(flags[::2], flags[1::2], strict=True)}
    manifest = Manifest.from_json((FOLDER / "nacre.json").read_text(encoding="utf-8"))
    assert manifest.recipe.train.stage == "pt"
    assert (manifest.recipe.train.max_steps, manifest.recipe.train.seed) == (given["steps"], given["seed"])
    texts = documents(given["stories"], given["seed"])
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest() in readme
    shipped = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    assert build_tokenizer(texts).get_vocab() == shipped.get_vocab()
