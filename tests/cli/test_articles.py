"""The articles' commands, as they are written there, in processes of their own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest

from workspace_kit import ROOT, rows, write_increment, write_lines

if TYPE_CHECKING:
    from toy_kit import Toy

LINES = """
python src/train_bash.py --stage sft --model_name_or_path MODEL --do_train --dataset base --output_dir outputs/base_model
python src/train_bash.py --stage sft --model_name_or_path outputs/base_model --do_train --dataset increment_1 --output_dir outputs/increment_1 --prev_model outputs/base_model --regularization_alpha 0.1 --replay_samples 200 --freeze_layers 1
python src/train_bash.py --stage sft --do_train --model_name_or_path MODEL --dataset your_dataset --template qwen --finetuning_type lora --output_dir outputs/few --overwrite_cache --per_device_train_batch_size 2 --gradient_accumulation_steps 4 --lr_scheduler_type cosine --logging_steps 10 --save_steps 100 --learning_rate 1e-4 --num_train_epochs 10 --plot_loss --fp16
python src/train_bash.py train_args.json
python src/evaluate.py --model_name_or_path outputs/increment_1 --eval_dataset dev_all.json
python src/api_demo.py --model_name_or_path outputs/increment_1 --port 8000 --api_key your_key_here
""".strip().splitlines()  # noqa: E501  # the lines are quoted as they stand
TRAIN_ARGS = {
    "model_name_or_path": "MODEL",
    "data_path": "your_dataset",
    "finetuning_type": "lora",
    "output_dir": "outputs/args",
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "lr": 1e-4,
    "num_train_epochs": 10,
    "max_source_length": 512,
    "max_target_length": 256,
    "lora_rank": 8,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "logging_steps": 10,
    "save_steps": 100,
}
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder as a clone looks: the scripts in src, and three datasets."""
    (tmp_path / "src").symlink_to(ROOT / "src")
    for name, task in (("base", "paint"), ("increment_1", "feed"), ("your_dataset", "place")):
        write_increment(tmp_path / "dataset", name, task, train=40, dev=16)
    return tmp_path


def shell(line: str, folder: Path, code: int = 0) -> str:
    """What the command printed."""
    found = subprocess.run(line, shell=True, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert found.returncode == code, found
    assert "Traceback" not in found.stderr
    return found.stdout + found.stderr


def tensors(folder: Path) -> dict[str, "object"]:
    """The weights of a full model or an adapter merged into its base."""
    from nacre.cycle.increment.folder import folder_weights
    from nacre.model.load import load_model

    model = load_model(folder_weights(str(folder)))
    return (model.merge_and_unload() if hasattr(model, "merge_and_unload") else model).state_dict()


@pytest.mark.slow
def test_the_six_lines_run_as_written(clone: Path, toy: "Toy") -> None:
    model = str(toy.base.model)
    (clone / "train_args.json").write_text(json.dumps(TRAIN_ARGS, indent="\t").replace("MODEL", model))
    base, increment, few, arguments, evaluate, serve = (line.replace("MODEL", model) for line in LINES)

    assert "outputs/base_model: 15 steps" in shell(base, clone)

    said = shell(increment, clone)
    assert "finetuning_type freeze" in said
    assert "the last 1 of 2 layers" in said
    assert "replay: 20% of every batch from 40 rows of past tasks (base 40)" in said
    distilled = "0.1 times on generic text and 0.1 times on replayed rows"
    assert f"distill: the divergence from the previous version, {distilled}" in said
    before, after = tensors(clone / "outputs" / "base_model"), tensors(clone / "outputs" / "increment_1")
    moved = {name for name in before if not before[name].equal(after[name])}
    assert moved
    assert all(name.startswith("model.layers.1.") for name in moved), "a frozen tensor has changed"
    manifest = json.loads((clone / "outputs" / "increment_1" / "nacre.json").read_text())
    assert [entry["task"] for entry in manifest["lineage"]] == ["base", "increment_1"]
    assert manifest["parent"] == str(clone / "outputs" / "base_model")

    said = shell(few, clone)
    assert re.search("fp16 does not train on a CPU: (bf16|fp32) was used instead", said)
    assert "template qwen" in said
    assert "overwrite_cache" in said
    assert {"adapter_model.safetensors", "training_loss.png", "trainer_log.jsonl", "all_results.json"} <= {
        path.name for path in (clone / "outputs" / "few").iterdir()
    }

    assert "outputs/args: 50 steps" in shell(arguments, clone)
    adapter = json.loads((clone / "outputs" / "args" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (8, 32, 0.05)

    tasks = [json.loads(line)["task"] for line in (clone / "dataset" / "dev_all.json").read_text().splitlines()]
    assert {task: tasks.count(task) for task in tasks} == {"base": 16, "increment_1": 16, "your_dataset": 16}
    said = shell(evaluate, clone)
    assert re.search(r"^new task accuracy: [01]\.\d{4} \(increment_1\)$", said, re.MULTILINE)
    assert re.search(r"^old task accuracy: [01]\.\d{4} \(base\)$", said, re.MULTILINE)
    assert re.search(r"^latency per request s: \d+\.\d{4}$", said, re.MULTILINE)
    assert "this model has not learned your_dataset" in said

    ask_the_server(serve, clone)


def ask_the_server(line: str, folder: Path) -> None:
    """Start it, ask, refuse a wrong key, stop it. Where port 8000 is taken it must say so, and another is used."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken = bool(probe.connect_ex(("127.0.0.1", 8000)) == 0)
    if taken:
        assert "127.0.0.1:8000" in shell(line, folder, code=1)
        line = line.replace("8000", "0")
    process = subprocess.Popen(
        f"exec {line}", shell=True, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert taken or url.endswith(":8000")
        question = [{"role": "user", "content": "feed old big cat"}]
        with openai.OpenAI(base_url=f"{url}/v1", api_key="your_key_here", max_retries=0) as client:
            served = client.models.list().data[0].id
            answer = client.chat.completions.create(model=served, messages=question, max_tokens=4)
            assert answer.choices[0].message.content is not None
            with pytest.raises(openai.AuthenticationError):
                client.with_options(api_key="another").chat.completions.create(model=served, messages=question)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()


def test_the_scripts_run_from_a_workspace_and_name_the_nearest_flag(tmp_path: Path) -> None:
    write_lines(tmp_path / "dataset" / "base" / "train.json", rows("paint")[:20])
    script = ROOT / "src" / "train_bash.py"
    said = shell(f"python {script} --do_train --dataset base --output_dir out --replay_sample 200", tmp_path, code=2)
    assert "unknown argument '--replay_sample'" in said
    assert "did you mean '--replay_samples'?" in said
    assert list(tmp_path.iterdir()) == [tmp_path / "dataset"]
    evaluate = ROOT / "src" / "evaluate.py"
    said = shell(f"python {evaluate} --model_name_or_path gone --eval_datasets dev_all.json", tmp_path, code=2)
    assert "did you mean '--eval_dataset'?" in said


@pytest.mark.parametrize("script", ["train_bash.py", "evaluate.py", "api_demo.py"])
def test_the_scripts_have_help(script: str) -> None:
    assert "--model_name_or_path" in shell(f"python {ROOT / 'src' / script} --help", ROOT)


def test_a_library_that_looks_for_evaluate_does_not_start_ours() -> None:
    found = subprocess.run([sys.executable, "-c", "import evaluate, train_bash, api_demo"], cwd=ROOT / "src")
    assert found.returncode == 0
