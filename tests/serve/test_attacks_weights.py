"""Weights from anywhere: pickles, code beside them, templates that look for a way out, schemas that point elsewhere."""

import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch
from engine_kit import loaded, make_adapter, with_engine
from jinja2.exceptions import TemplateError
from serving_kit import Shelf

from nacre.base.errors import InputError, NacreError
from nacre.model.load import load_model, load_tokenizer
from nacre.records import Weights
from nacre.serve.engines import JsonFormat, Target
from nacre.serve.engines.embedded import EmbeddedEngine
from nacre.serve.engines.embedded.constrain import Constrainer
from nacre.serve.engines.embedded.templates import Renderer


class Bomb:
    """Runs when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.marker),)


def _copy(shelf: Shelf, folder: Path) -> Path:
    shutil.copytree(shelf.folders[0], folder)
    return folder


def _code(marker: Path) -> str:
    return f"import os\nos.mkdir({str(marker)!r})\nclass Evil: pass\nEvilConfig = EvilModel = EvilTokenizer = Evil\n"


def _config(folder: Path, name: str, **changed: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def _pickled_model(folder: Path, marker: Path) -> None:
    torch.save({"x": Bomb(marker)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _pickle_for_safetensors(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(marker)))


def _index_of_pickles(folder: Path, marker: Path) -> None:
    _pickled_model(folder, marker)
    shutil.move(folder / "pytorch_model.bin", folder / "x.bin")
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": "x.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _model_code(folder: Path, marker: Path) -> None:
    (folder / "evil.py").write_text(_code(marker))
    auto = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
    _config(folder, "config.json", auto_map=auto, model_type="evil", architectures=["EvilModel"])


def _model_code_of_a_known_type(folder: Path, marker: Path) -> None:
    (folder / "evil.py").write_text(_code(marker))
    _config(folder, "config.json", auto_map={"AutoModelForCausalLM": "evil.EvilModel"}, trust_remote_code=True)


def _tokenizer_code(folder: Path, marker: Path) -> None:
    (folder / "evil.py").write_text(_code(marker))
    auto = {"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]}
    _config(folder, "tokenizer_config.json", auto_map=auto, tokenizer_class="EvilTokenizer", trust_remote_code=True)


def _generation_code(folder: Path, marker: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(_code(marker))


def _kernel(folder: Path, marker: Path) -> None:
    (folder / "build").mkdir()
    (folder / "build" / "__init__.py").write_text(_code(marker))
    _config(folder, "config.json", attn_implementation=f"{folder.parent.name}/{folder.name}")


MODELS = [
    *(_pickled_model, _pickle_for_safetensors, _index_of_pickles, _model_code, _model_code_of_a_known_type),
    *(_tokenizer_code, _generation_code, _kernel),
]


@pytest.mark.parametrize("plant", MODELS, ids=[one.__name__.strip("_") for one in MODELS])
def test_nothing_planted_in_a_models_folder_runs(plant: Callable[..., None], shelf: Shelf, tmp_path: Path) -> None:
    folder, marker = _copy(shelf, tmp_path / "evil"), tmp_path / "it-ran"
    plant(folder, marker)

    async def scenario(engine: EmbeddedEngine) -> None:
        with suppress(NacreError):  # what can be left out (code nobody asks for) may be; what cannot is refused
            await loaded(engine, 1, Weights(identity="6" * 64, model=str(folder)))

    with_engine(scenario)
    assert not marker.exists(), "code of the folder ran"


def test_the_bomb_would_go_off(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "it-ran")))  # noqa: S301  # this is what the others must not do
    assert (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("beside", [True, False], ids=["beside safetensors", "alone"])
def test_a_pickled_adapter_does_not_run(beside: bool, shelf: Shelf, tmp_path: Path) -> None:
    good = make_adapter(shelf.weights(0), tmp_path / "adapter", 3)
    folder, marker = Path(str(good.adapter)), tmp_path / "it-ran"
    for name in ("adapter_model.bin", "optimizer.pt", "training_args.bin"):
        torch.save({"x": Bomb(marker)}, folder / name)
    if not beside:
        (folder / "adapter_model.safetensors").unlink()

    async def scenario(engine: EmbeddedEngine) -> None:
        with nullcontext() if beside else pytest.raises(InputError, match="pickled"):
            await loaded(engine, 1, good)

    with_engine(scenario)
    assert not marker.exists()


def test_an_adapter_that_names_others_is_not_loaded(shelf: Shelf, tmp_path: Path) -> None:
    """X-LoRA's configuration is a list of places to load more adapters from, on this disk or the hub."""
    good = make_adapter(shelf.weights(0), tmp_path / "adapter", 4)
    folder = Path(str(good.adapter))
    adapters = {"0": "somebody/evil-adapter", "1": "/etc"}
    _config(folder, "adapter_config.json", peft_type="XLORA", adapters=adapters, hidden_size=32)

    async def scenario(engine: EmbeddedEngine) -> None:
        with pytest.raises(InputError, match="XLORA"):
            await engine.load(Target(1, good))

    with_engine(scenario)


ESCAPES = [
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os.environ }}",
    "{{ ''|attr('__class__')|attr('__mro__') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "{{ '{x.__class__}'.format_map({'x': 1}) }}",
    "{{ messages|map(attribute='__class__')|list }}",
    "{{ strftime_now.__globals__ }}",
    "{{ raise_exception.__code__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ dict.__call__.__func__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as x %}{{ x }}",
    "{% extends 'http://127.0.0.1/evil' %}",
    "{{ (messages.__iter__).__self__ }}",
    "{% set x = messages.pop() %}{{ x.__class__ }}",
    "{{ joiner.__init__['__globals__'] }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
]


def test_no_template_finds_a_way_out() -> None:
    renderer = Renderer(seconds=10.0)
    leaks = []
    try:
        for template in ESCAPES:
            try:
                said = renderer.render(template, {"messages": [{"role": "user", "content": "x"}]})
            except TemplateError:
                continue
            if any(word in said for word in ("<class", "<built-in", "<function", "root:", "uid=", "environ", "0x")):
                leaks.append((template, said[:200]))
    finally:
        renderer.close()
    assert leaks == []


def test_a_template_is_rendered_though_a_thousand_connections_are_open() -> None:
    """select() knows no descriptor above 1023: a new process for templates would then be no use until they close."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this machine lets a process open fewer files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held: list[int] = []
    try:
        with Path(os.devnull).open() as nothing:
            held = [os.dup(nothing.fileno()) for _ in range(1100)]
        renderer = Renderer(seconds=10.0)
        try:
            assert renderer.render("{{ x }}!", {"x": "层" * 200_000}) == "层" * 200_000 + "!"
        finally:
            renderer.close()
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("place", ["http://169.254.169.254/latest", "file:///etc/passwd", "other.json#/a", "//host/x"])
def test_a_schema_that_points_elsewhere_is_refused_and_not_fetched(place: str, shelf: Shelf) -> None:
    pytest.importorskip("xgrammar")
    tokenizer = load_tokenizer(shelf.weights(0))
    constrainer = Constrainer(tokenizer, len(tokenizer), {tokenizer.eos_token_id})
    with pytest.raises(InputError, match="points elsewhere"):
        constrainer.constraint(JsonFormat({"type": "object", "properties": {"a": {"$ref": place}}}))
    inside = {"$defs": {"a": {"type": "string"}}, "type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}
    assert constrainer.constraint(JsonFormat(inside)) is not None


@pytest.mark.parametrize("plant", [_index_of_pickles, _kernel])
def test_what_asks_for_code_or_pickles_is_refused_with_the_reason(
    plant: Callable[..., None], shelf: Shelf, tmp_path: Path
) -> None:
    folder = _copy(shelf, tmp_path / "evil")
    plant(folder, tmp_path / "it-ran")
    with pytest.raises(InputError, match=r"no safetensors file of this folder|code from elsewhere"):
        load_model(Weights(identity="6" * 64, model=str(folder)))


def test_a_shard_from_another_folder_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    """Its hash is in no artifact."""
    folder = _copy(shelf, tmp_path / "evil")
    shutil.move(folder / "model.safetensors", tmp_path / "x.safetensors")
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": "../x.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="no safetensors file of this folder"):
        load_model(Weights(identity="6" * 64, model=str(folder)))
