"""Versions written for other programs: each is loaded by the real one and must say what the version says."""

import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Sequence
from importlib.metadata import files
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from google.protobuf import text_format
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from export_kit import ANSWERS, make_speaker
from nacre.model.chat import ensure_template, prompt_ids, stop_ids
from nacre.model.export import FORMS, check
from nacre.model.export.ollama import turns_of
from nacre.model.export.openvino import GRAPH, step
from nacre.model.templates import TEMPLATES, chat_template
from nacre.records import Message
from workspace_kit import SETTINGS, Place, assert_clear, write_increment

QUESTION = "What can you do?"


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A workspace whose base model (version 0) speaks whole sentences over byte-level BPE."""
    root = tmp_path_factory.mktemp("speaking")
    make_speaker(root / "model")
    assert Place(root).nacre("init", "assistant", "--model", root / "model").code == 0
    return Place(root / "assistant")


def model_config() -> Any:
    """Triton's message for config.pbtxt. Alone: its whole client brings a second copy of the protocol that we serve."""
    path = next(file for file in files("tritonclient") or () if file.name == "model_config_pb2.py").locate()
    spec = spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(found := module_from_spec(spec))
    return found.ModelConfig()


def ids_of(tokenizer: Any, question: str = QUESTION) -> list[int]:
    return prompt_ids((Message(role="user", content=question),), tokenizer)


def text_by(model: Any, tokenizer: Any, ids: Sequence[int]) -> str:
    whole = model.generate(
        input_ids=torch.tensor([list(ids)]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=30,
        eos_token_id=sorted(stop_ids(tokenizer)),
        pad_token_id=tokenizer.pad_token_id,
    )
    return str(tokenizer.decode(whole[0, len(ids) :], skip_special_tokens=True))


def exported(place: Place, version: int, to: str, out: Path, *options: str) -> dict[str, Any]:
    found = place.json("export", version, "--to", to, "--out", out, *options)
    held = found["compared"]
    assert held["prompts"] > 0
    assert held["tokens"] > 0
    assert held["equal_tokens"] >= found["bound"]["equal_tokens"]
    assert abs(held["nats_per_token"]) <= found["bound"]["nats_per_token"]
    return found


def test_hf_is_what_transformers_loads_with_card_and_manifest(lived_in: Place, tmp_path: Path) -> None:
    found = exported(lived_in, 2, "hf", tmp_path / "hf")
    assert found["compared"]["equal_tokens"] == 1
    folder = tmp_path / "hf"
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---")
    assert json.loads((folder / "nacre.json").read_text())["lineage"]
    assert list(folder.glob("*.safetensors"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    row = json.loads((lived_in.dataset / "increment_1" / "dev.json").read_text().splitlines()[0])
    assert text_by(model, tokenizer, ids_of(tokenizer, row["instruction"])) == row["output"]


def test_an_adapter_is_merged_or_left_as_it_is(fresh: Place, tmp_path: Path) -> None:
    fresh.settings(tune={"name": "lora", "rank": 8}, train=SETTINGS["train"] | {"epochs": 2})
    fresh.nacre("evolve", "base")
    merged = exported(fresh, 1, "hf", tmp_path / "merged")
    assert "its adapter was added to the weights" in merged["notes"]
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    exported(fresh, 1, "hf", tmp_path / "alone", "--adapter")
    base = json.loads((tmp_path / "alone" / "adapter_config.json").read_text())["base_model_name_or_path"]
    plain = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.tensor([[5, 7, 9]])
    with torch.inference_mode():
        alone = PeftModel.from_pretrained(plain, tmp_path / "alone")(input_ids=ids).logits
        added = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(input_ids=ids).logits
    torch.testing.assert_close(alone, added, atol=1e-4, rtol=1e-4)
    exported(fresh, 1, "ctranslate2", tmp_path / "ct2", "--precision", "float32")
    assert_clear(
        fresh.nacre("export", 1, "--to", "openvino", "--out", tmp_path / "no", "--adapter"), "takes no adapter alone"
    )


def test_ctranslate2_decodes_what_was_exported(speaking: Place, tmp_path: Path) -> None:
    import ctranslate2

    found = exported(speaking, 0, "ctranslate2", tmp_path / "ct2")
    assert found["precision"] == "int8"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ct2")
    generator = ctranslate2.Generator(str(tmp_path / "ct2"), device="cpu")
    result = generator.generate_batch(
        [tokenizer.convert_ids_to_tokens(ids_of(tokenizer))], max_length=30, include_prompt_in_result=False
    )
    assert tokenizer.decode(result[0].sequences_ids[0]) == ANSWERS[QUESTION]


def test_openvino_goes_on_token_by_token_from_its_own_state(speaking: Place, tmp_path: Path) -> None:
    import openvino

    exported(speaking, 0, "openvino", tmp_path / "ov")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ov")
    request = openvino.Core().compile_model(str(tmp_path / "ov" / GRAPH), "CPU").create_infer_request()
    ids, said = ids_of(tokenizer), []
    logits, read = step(request, ids, 0), len(ids)
    while len(said) < 30 and (token := int(logits[-1].argmax())) not in stop_ids(tokenizer):
        said.append(token)
        logits, read = step(request, [token], read), read + 1
    assert tokenizer.decode(said) == ANSWERS[QUESTION]


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "q8_0"])
def test_gguf_is_read_by_its_own_reader_and_by_transformers(speaking: Place, tmp_path: Path, precision: str) -> None:
    exported(speaking, 0, "gguf", tmp_path / "out", "--precision", precision)
    fields = GGUFReader(str(tmp_path / "out" / "model.gguf")).fields
    assert fields["general.architecture"].contents() == "llama"
    assert fields["llama.block_count"].contents() == 2
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert "im_start" in fields["tokenizer.chat_template"].contents()
    ours = AutoTokenizer.from_pretrained(speaking.root.parent / "model")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file="model.gguf")
    for text in (*ANSWERS, *ANSWERS.values(), "<|im_start|>user\nlayer  by\n\nlayer…"):
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours(text, add_special_tokens=False)["input_ids"]


@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="needs llama.cpp: pip install xllamacpp")
@pytest.mark.parametrize("precision", ["float32", "q8_0"])
def test_llama_cpp_answers_from_the_gguf_file(speaking: Place, tmp_path: Path, precision: str) -> None:
    exported(speaking, 0, "gguf", tmp_path / "out", "--precision", precision)
    script = tmp_path / "ask.py"
    script.write_text(
        "import json, sys, xllamacpp as xlc\n"
        "params = xlc.CommonParams()\n"
        f"params.model.path = {str(tmp_path / 'out' / 'model.gguf')!r}\n"
        "params.n_ctx, params.n_parallel, params.cpuparams.n_threads, params.warmup = 256, 1, 1, False\n"
        "server = xlc.Server(params)\n"
        f"for question in {list(ANSWERS)!r}:\n"
        "    body = {'messages': [{'role': 'user', 'content': question}], 'max_tokens': 30, 'temperature': 0}\n"
        "    found = server.handle_chat_completions(body)\n"
        "    found = json.loads(found) if isinstance(found, (str, bytes)) else found\n"
        "    print('ANSWER', json.dumps(found['choices'][0]['message']['content']))\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert said == list(ANSWERS.values())


def test_ollama_gets_a_modelfile_with_template_defaults_and_stops(speaking: Place, tmp_path: Path) -> None:
    exported(speaking, 0, "ollama", tmp_path / "out")
    text = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    assert "FROM ./model.gguf" in text
    assert "PARAMETER temperature 0.5" in text
    assert "PARAMETER num_ctx 256" in text
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert '{{ "<|im_start|>user\\n" }}{{ .Content }}' in text


@pytest.mark.parametrize("name", sorted({*TEMPLATES, "own"} - {"llama2", "mistral", "gemma"}))
def test_go_templates_render_what_the_models_own_does(speaking: Place, name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(speaking.root.parent / "model")
    tokenizer.chat_template = None
    if name == "own":
        ensure_template(tokenizer)
    else:
        tokenizer.chat_template = chat_template(name)
    turns = turns_of(tokenizer)
    talk = [("user", "one"), ("assistant", "two"), ("user", "three")]
    chat = [{"role": role, "content": text} for role, text in talk]
    begin = tokenizer.bos_token
    wanted = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True).removeprefix(begin)
    assert turns.rendered(talk) == wanted
    chat.insert(0, {"role": "system", "content": "be brief"})
    wanted = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True).removeprefix(begin)
    assert turns.rendered(talk, "be brief") == wanted


def test_a_template_that_go_cannot_say_is_refused(speaking: Place, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(speaking.root.parent / "model", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    tokenizer.save_pretrained(folder)
    assert Place(tmp_path).nacre("init", "odd", "--model", folder).code == 0
    found = Place(tmp_path / "odd").nacre("export", 0, "--to", "ollama", "--out", tmp_path / "out")
    assert_clear(found, "cannot be said in Ollama's words", "--to gguf")
    assert not (tmp_path / "out").exists()


def test_positions_that_a_program_scales_otherwise_are_refused(speaking: Place, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(speaking.root.parent / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    (folder / "config.json").write_text(json.dumps(config))
    assert Place(tmp_path).nacre("init", "scaled", "--model", folder).code == 0
    for to, why in (("ctranslate2", "scales positions from 64"), ("gguf", "scaled by the rule llama3")):
        found = Place(tmp_path / "scaled").nacre("export", 0, "--to", to, "--out", tmp_path / "out")
        assert_clear(found, why)
        assert not (tmp_path / "out").exists()


def test_a_served_workspace_keeps_what_is_converted_beside_its_artifacts(
    speaking: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[Any] = []
    monkeypatch.setattr("nacre.serve.run.serve", lambda source, settings, **_: met.append(settings))
    assert speaking.nacre("serve").code == 0
    assert met[0].ctranslate2.folder == str(speaking.root / ".nacre" / "ctranslate2")


def test_lm_eval_gets_a_folder_tasks_and_a_command_line(lived_in: Place, tmp_path: Path) -> None:
    exported(lived_in, 2, "lm-eval", tmp_path / "out")
    script = (tmp_path / "out" / "lm-eval.sh").read_text(encoding="utf-8")
    assert "pretrained=model --include_path tasks --tasks nacre_dev" in script
    assert sorted(path.name for path in (tmp_path / "out" / "tasks").glob("*.yaml")) == [
        "nacre_base.yaml",
        "nacre_increment_1.yaml",
    ]
    AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")


def test_triton_repositories_keep_its_schema(lived_in: Place, tmp_path: Path) -> None:
    exported(lived_in, 2, "triton", tmp_path / "out")
    name = "assistant-v2"
    kinds = {}
    for backend in ("vllm", "python"):
        folder = tmp_path / "out" / backend / name
        config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config())
        assert (config.name, config.backend) == (name, backend)
        kinds[backend] = config.instance_group[0].Kind.Name(config.instance_group[0].kind)
    assert kinds == {"vllm": "KIND_MODEL", "python": "KIND_AUTO"}
    assert [one.name for one in config.input] == ["text_input", "max_tokens", "temperature"]
    assert [one.optional for one in config.input] == [False, True, True]
    engine = json.loads((tmp_path / "out" / "vllm" / name / "1" / "model.json").read_text())
    assert Path(engine["model"]) == tmp_path / "out" / "weights"
    AutoModelForCausalLM.from_pretrained(engine["model"])


def test_the_python_backend_answers_as_the_version_does(speaking: Place, tmp_path: Path) -> None:
    exported(speaking, 0, "triton", tmp_path / "out")
    folder = next((tmp_path / "out" / "python").iterdir())
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config())
    utils: Any = types.ModuleType("triton_python_backend_utils")  # Triton puts its own there; a server is needed for it
    utils.get_input_tensor_by_name = lambda request, name: request.get(name)
    utils.Tensor = lambda name, values: (name, values)
    utils.TritonError = str
    utils.InferenceResponse = lambda output_tensors, error=None: (output_tensors, error)
    module = types.ModuleType("model")
    source = (folder / "1" / "model.py").read_text(encoding="utf-8")
    sys.modules["triton_python_backend_utils"] = utils
    try:
        exec(compile(source, "model.py", "exec"), module.__dict__)
        model = module.TritonPythonModel()
        parameters = {key: {"string_value": value.string_value} for key, value in config.parameters.items()}
        model.initialize(
            {
                "model_config": json.dumps({"parameters": parameters}),
                "model_repository": str(folder),
                "model_instance_kind": "CPU",
            }
        )
        question = types.SimpleNamespace(as_numpy=lambda: np.array([QUESTION.encode()], dtype=np.object_))
        (tensors, error), (nothing, told) = model.execute([{"text_input": question}, {}])
    finally:
        del sys.modules["triton_python_backend_utils"]
    assert error is None
    assert tensors[0][1][0].decode() == ANSWERS[QUESTION]
    assert nothing == []
    assert "text_input is missing" in told


def test_what_does_not_answer_alike_is_not_kept(
    speaking: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = FORMS.load("hf")
    write = form.write

    def torn(self: Any, source: Any, folder: Path, precision: str) -> list[str]:
        notes = write(self, source, folder, precision)
        model = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            model.lm_head.weight.copy_(model.lm_head.weight.flip(0))
        model.save_pretrained(folder)
        return list(notes)

    monkeypatch.setattr(form, "write", torn)
    found = speaking.nacre("export", 0, "--to", "hf", "--out", tmp_path / "out")
    assert_clear(found, "does not answer as the version does", "--bound", code=1)
    assert list(tmp_path.iterdir()) == []
    found = speaking.nacre("export", 0, "--to", "hf", "--out", tmp_path / "out", "--bound", "0")
    assert found.code == 1, "the log probabilities are still far away"


def test_the_bound_is_told_and_numbers_that_are_none_never_hold() -> None:
    good = check.Compared(1, 10, 1.0, 1.0, 0.0)
    bound = check.Bound(0.9, 0.1)
    assert good.held(bound)
    assert not check.Compared(1, 10, 0.8, 0.0, 0.0).held(bound)
    assert not check.Compared(1, 10, 1.0, 1.0, -0.2).held(bound)
    assert not check.Compared(1, 10, 1.0, 1.0, float("nan")).held(bound)


def test_mistakes_are_named_and_leave_nothing(lived_in: Place, speaking: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert_clear(lived_in.nacre("export", 2, "--to", "gguff", "--out", out), "did you mean 'gguf'")
    assert_clear(lived_in.nacre("export", 9, "--to", "hf", "--out", out), "there is no version 9")
    assert_clear(lived_in.nacre("export", 2, "--to", "hf", "--out", out, "--precision", "int8"), "one of stored")
    assert_clear(lived_in.nacre("export", 2, "--to", "gguf", "--out", out), "tokenizer of the kind WordLevel")
    assert not out.exists()
    out.mkdir()
    (out / "mine").write_text("keep")
    assert_clear(lived_in.nacre("export", 2, "--to", "hf", "--out", out), "holds something")
    assert (out / "mine").read_text() == "keep"


def test_a_missing_library_is_named_with_its_extra(
    speaking: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form, package in (("ct2", "ctranslate2"), ("gguf", "gguf"), ("openvino", "openvino")):
        monkeypatch.delitem(sys.modules, f"nacre.model.export.{form}", raising=False)
        monkeypatch.setitem(sys.modules, package, None)
        to = "ctranslate2" if form == "ct2" else form
        found = speaking.nacre("export", 0, "--to", to, "--out", tmp_path / "out")
        assert_clear(found, f"{to} needs a package that is not installed: {package}", "nacre[export]")


def test_several_tasks_are_compared_in_turns(lived_in: Place, tmp_path: Path) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    found = exported(lived_in, 2, "hf", tmp_path / "out")
    assert found["compared"]["prompts"] == 8


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs the extra lm-eval")
def test_lm_evaluation_harness_runs_the_exported_command(lived_in: Place, tmp_path: Path) -> None:
    exported(lived_in, 2, "lm-eval", tmp_path / "out")
    place = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": place, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    words = ["--device", "cpu", "--limit", "8", "--output_path", str(tmp_path / "found")]
    done = subprocess.run(
        [str(tmp_path / "out" / "lm-eval.sh"), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(next((tmp_path / "found").rglob("results_*.json")).read_text())["results"]
    assert {name for name in results if name != "nacre_dev"} == {"nacre_base", "nacre_increment_1"}
    scores = [
        number for one in results.values() for key, number in one.items() if key.split(",")[0] in ("acc", "exact_match")
    ]
    assert min(scores) > 0.9
