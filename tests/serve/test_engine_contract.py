import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import torch
from behind_kit import BehindNacre
from peft import LoraConfig, get_peft_model
from serving_kit import ANSWERS, LONG, QUESTION, Shelf
from transformers import LlamaForCausalLM

from nacre.base.errors import InputError
from nacre.model.chat import prompt_ids
from nacre.model.load import load_model, load_tokenizer
from nacre.records import Message, Weights
from nacre.serve.engines import (
    ENGINES,
    ChatPrompt,
    ContextTooLong,
    Delta,
    Engine,
    EngineError,
    Finish,
    Generation,
    NotLoaded,
    Overloaded,
    Sampling,
    Target,
)
from nacre.serve.engines.ct2 import CTranslate2Engine
from nacre.serve.engines.ct2 import residents as ct2_residents
from nacre.serve.engines.ct2.residents import Resident as Converted
from nacre.serve.engines.embedded import EmbeddedEngine
from nacre.serve.engines.embedded import residents as embedded_residents
from nacre.serve.settings import Serve

GREEDY = Sampling(temperature=0)
ENDLESS = Sampling(temperature=0, max_tokens=1500, stop=("never said",))


def _ask(text: str) -> ChatPrompt:
    return ChatPrompt((Message(role="user", content=text),))


def _models() -> int:
    gc.collect()
    return sum(type(each) in (LlamaForCausalLM, Converted) for each in gc.get_objects())


async def _loaded(engine: Engine, number: int, weights: Weights) -> Target:
    target = Target(number, weights)
    await engine.load(target)
    return target


async def _text(generation: Generation) -> tuple[str, Finish]:
    text = ""
    while isinstance(piece := await generation.next(), Delta):
        text += piece.text
    return text, piece


# What stands for each engine of the table: the one that asks other servers gets a real one behind it.
# CTranslate2 in 32 bits, as int8 is no fair copy of a model this small (test_ct2_engine).
MADE = {"embedded": EmbeddedEngine, "upstream": BehindNacre, "ctranslate2": CTranslate2Engine}


@pytest.fixture(params=ENGINES.names())
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    converted = {"folder": str(tmp_path_factory.mktemp("converted")), "precision": "float32", "threads": 1}

    def run(scenario: Callable[[Engine], Coroutine[Any, Any, None]], max_waiting: int = 8, **embedded: float) -> None:
        async def main() -> None:
            engine = MADE[request.param](Serve(max_waiting=max_waiting, embedded=embedded, ctranslate2=converted))
            try:
                await asyncio.wait_for(scenario(engine), 60)
            finally:
                await engine.close()

        asyncio.run(main())

    return run


def test_a_version_answers_from_its_loading_to_its_unloading(run: Callable[..., None], shelf: Shelf) -> None:
    async def scenario(engine: Engine) -> None:
        target = Target(7, shelf.weights(0))
        with pytest.raises(NotLoaded):
            await engine.generate(target, _ask(QUESTION), GREEDY)
        await engine.load(target)
        assert [one.label for one in engine.loaded] == ["7"]
        text, finish = await _text(await engine.generate(target, _ask(QUESTION), GREEDY))
        assert (text, finish.reason) == (ANSWERS[0], "stop")
        await engine.unload(target)
        await engine.unload(target)
        assert engine.loaded == ()
        with pytest.raises(NotLoaded):
            await engine.generate(target, _ask(QUESTION), GREEDY)

    run(scenario)


@pytest.mark.parametrize("with_adapter", [False, True])
def test_greedy_text_is_what_transformers_generates(
    run: Callable[..., None], shelf: Shelf, tmp_path: Path, with_adapter: bool
) -> None:
    weights = shelf.weights(0)
    if with_adapter:
        torch.manual_seed(1)
        bare = load_model(weights, train=True)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(bare, config).save_pretrained(tmp_path / "adapter")
        weights = weights.changed(adapter=tmp_path / "adapter")
    tokenizer, model = load_tokenizer(weights), load_model(weights)
    prompt = prompt_ids(_ask("layer").messages, tokenizer)
    ids = model.generate(input_ids=torch.tensor([prompt]), do_sample=False, max_new_tokens=60)[0, len(prompt) :]
    expected = tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")

    async def scenario(engine: Engine) -> None:
        target = await _loaded(engine, 1, weights)
        text, _ = await _text(await engine.generate(target, _ask("layer"), Sampling(max_tokens=60, temperature=0)))
        assert text.rstrip("\ufffd") == expected

    run(scenario)


def test_accepted_requests_end_on_the_version_they_began_with_and_it_is_freed(
    run: Callable[..., None], shelf: Shelf
) -> None:
    async def scenario(engine: Engine) -> None:
        before = _models()
        old = await _loaded(engine, 1, shelf.weights(0))
        running = await engine.generate(old, _ask(LONG), Sampling(temperature=0, max_tokens=100))
        waiting = await engine.generate(old, _ask(QUESTION), GREEDY)
        first = await running.next()
        new = await _loaded(engine, 2, shelf.weights(1))
        await engine.unload(old)
        newer = await engine.generate(new, _ask(QUESTION), GREEDY)
        assert (running.target.version, waiting.target.version, newer.target.version) == (1, 1, 2)
        rest, _ = await _text(running)
        assert isinstance(first, Delta)
        assert (first.text + rest).startswith("123456789 123456789 ")
        assert (await _text(waiting))[0] == ANSWERS[0]
        assert (await _text(newer))[0] == ANSWERS[1]
        del running, waiting, newer
        assert _models() == before + 1, "the replaced version is still in memory"

    run(scenario)


def test_one_request_too_many_is_refused_and_a_cancelled_one_gives_its_place_back(
    run: Callable[..., None], shelf: Shelf
) -> None:
    async def scenario(engine: Engine) -> None:
        target = await _loaded(engine, 1, shelf.weights(0))
        running = await engine.generate(target, _ask(LONG), ENDLESS)
        assert isinstance(await running.next(), Delta)
        waiting = [await engine.generate(target, _ask(QUESTION), GREEDY) for _ in range(2)]
        assert engine.waiting == 2
        with pytest.raises(Overloaded):
            await engine.generate(target, _ask(QUESTION), GREEDY)
        waiting[0].cancel()
        again = await engine.generate(target, _ask(QUESTION), GREEDY)
        running.cancel()
        assert (await _text(running))[1].reason == "aborted"
        assert (await _text(waiting[0])) == ("", Finish("aborted", 0))
        assert (await _text(waiting[1]))[0] == ANSWERS[0]
        assert (await _text(again))[0] == ANSWERS[0]

    run(scenario, max_waiting=2, max_running=1)


def test_what_does_not_fit_the_context_is_refused_before_computing(run: Callable[..., None], shelf: Shelf) -> None:
    async def scenario(engine: Engine) -> None:
        target = await _loaded(engine, 1, shelf.weights(0))
        with pytest.raises(ContextTooLong, match="2048"):
            await engine.generate(target, _ask("x" * 5000), GREEDY)
        with pytest.raises(ContextTooLong):
            await engine.generate(target, _ask("x"), Sampling(max_tokens=10**9))

    run(scenario)


def test_closing_ends_what_runs_and_what_waits(run: Callable[..., None], shelf: Shelf) -> None:
    async def scenario(engine: Engine) -> None:
        target = await _loaded(engine, 1, shelf.weights(0))
        begun = [await engine.generate(target, _ask(LONG), ENDLESS) for _ in range(2)]
        assert isinstance(await begun[0].next(), Delta)
        await engine.close()
        for generation in begun:
            with pytest.raises(EngineError, match="stopped"):
                await _text(generation)
        with pytest.raises(EngineError):
            await engine.generate(target, _ask(QUESTION), GREEDY)

    run(scenario)


def test_what_is_loaded_when_the_engine_closes_comes_to_nothing(
    run: Callable[..., None], shelf: Shelf, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if request.node.callspec.params["run"] == "upstream":
        pytest.skip("loads nothing itself")
    module = {"embedded": embedded_residents, "ctranslate2": ct2_residents}[request.node.callspec.params["run"]]
    made, begun, go_on = [], threading.Event(), threading.Event()

    class Late(module.Renderer):
        def __init__(self, *given: float) -> None:
            begun.set()
            assert go_on.wait(30)
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(module, "Renderer", Late)

    async def scenario(engine: Engine) -> None:
        loading = asyncio.create_task(engine.load(Target(1, shelf.weights(0))))
        assert await asyncio.to_thread(begun.wait, 30)
        await engine.close()
        go_on.set()
        with pytest.raises(EngineError, match="stopped"):
            await loading
        with pytest.raises(EngineError, match="stopped"):
            await engine.load(Target(2, shelf.weights(1)))

    run(scenario)
    assert [one._process for one in made] == [None], "no process is left to render its prompts"


def test_broken_weights_fail_one_answer_and_not_the_engine(
    run: Callable[..., None], shelf: Shelf, tmp_path: Path
) -> None:
    weights = shelf.weights(0)
    model = load_model(weights)
    model.lm_head.weight.data.fill_(float("nan"))
    model.save_pretrained(tmp_path / "broken")
    load_tokenizer(weights).save_pretrained(tmp_path / "broken")
    del model

    async def scenario(engine: Engine) -> None:
        broken = await _loaded(engine, 1, weights.changed(model=str(tmp_path / "broken")))
        good = await _loaded(engine, 2, shelf.weights(1))
        with pytest.raises(EngineError, match="the model failed"):
            await _text(await engine.generate(broken, _ask(QUESTION), GREEDY))
        assert (await _text(await engine.generate(good, _ask(QUESTION), GREEDY)))[0] == ANSWERS[1]

    run(scenario)


def test_an_unknown_engine_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown engine") as caught:
        ENGINES.load("embeded")
    assert "embedded" in caught.value.fix
