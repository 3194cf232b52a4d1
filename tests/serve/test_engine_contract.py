import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from serving_kit import ANSWERS, LONG, QUESTION, Shelf

from nacre.base.errors import InputError
from nacre.model.chat import prompt_ids
from nacre.model.load import load_model, load_tokenizer
from nacre.records import Message
from nacre.serve.engines import (
    ENGINES,
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

GREEDY = Sampling(temperature=0)
ENDLESS = Sampling(temperature=0, max_tokens=1500, stop=("never said",))


def _ask(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


async def _text(generation: Generation) -> tuple[str, Finish]:
    text = ""
    while isinstance(piece := await generation.next(), Delta):
        text += piece.text
    return text, piece


@pytest.fixture(params=ENGINES.names())
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run(scenario: Callable[[Engine], Coroutine[Any, Any, None]], max_waiting: int = 8) -> None:
        async def main() -> None:
            engine = ENGINES.load(request.param)(max_waiting=max_waiting)
            try:
                await asyncio.wait_for(scenario(engine), 60)
            finally:
                await engine.close()

        asyncio.run(main())

    return run


def test_a_loaded_version_answers_only_after_the_swap(run: Callable[..., None], shelf: Shelf) -> None:
    async def scenario(engine: Engine) -> None:
        with pytest.raises(NotLoaded):
            await engine.generate(_ask(QUESTION), "", GREEDY)
        loaded = await engine.load(Target(7, shelf.weights(0)))
        assert engine.target is None
        engine.swap(loaded)
        assert engine.target is not None
        assert engine.target.label == "7"
        text, finish = await _text(await engine.generate(_ask(QUESTION), "", GREEDY))
        assert (text, finish.reason) == (ANSWERS[0], "stop")
        engine.swap(None)
        with pytest.raises(NotLoaded):
            await engine.generate(_ask(QUESTION), "", GREEDY)

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
    prompt = prompt_ids(_ask("layer"), tokenizer)
    ids = model.generate(input_ids=torch.tensor([prompt]), do_sample=False, max_new_tokens=60)[0, len(prompt) :]
    expected = tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")

    async def scenario(engine: Engine) -> None:
        engine.swap(await engine.load(Target(1, weights)))
        text, _ = await _text(await engine.generate(_ask("layer"), "", Sampling(max_tokens=60, temperature=0)))
        assert text.rstrip("\ufffd") == expected

    run(scenario)


def test_accepted_requests_end_on_the_version_they_began_with_and_it_is_freed(
    run: Callable[..., None], shelf: Shelf
) -> None:
    async def scenario(engine: Engine) -> None:
        old = await engine.load(Target(1, shelf.weights(0)))
        engine.swap(old)
        freed = weakref.ref(old)
        running = await engine.generate(_ask(LONG), "", Sampling(temperature=0, max_tokens=100))
        waiting = await engine.generate(_ask(QUESTION), "", GREEDY)
        first = await running.next()
        engine.swap(await engine.load(Target(2, shelf.weights(1))))
        newer = await engine.generate(_ask(QUESTION), "", GREEDY)
        assert (running.target.version, waiting.target.version, newer.target.version) == (1, 1, 2)
        rest, _ = await _text(running)
        assert isinstance(first, Delta)
        assert (first.text + rest).startswith("123456789 123456789 ")
        assert (await _text(waiting))[0] == ANSWERS[0]
        assert (await _text(newer))[0] == ANSWERS[1]
        del old, running, waiting, newer
        gc.collect()
        assert freed() is None, "the replaced version is still in memory"

    run(scenario)


def test_one_request_too_many_is_refused_and_a_cancelled_one_gives_its_place_back(
    run: Callable[..., None], shelf: Shelf
) -> None:
    async def scenario(engine: Engine) -> None:
        engine.swap(await engine.load(Target(1, shelf.weights(0))))
        running = await engine.generate(_ask(LONG), "", ENDLESS)
        assert isinstance(await running.next(), Delta)
        waiting = [await engine.generate(_ask(QUESTION), "", GREEDY) for _ in range(2)]
        assert engine.waiting == 2
        with pytest.raises(Overloaded):
            await engine.generate(_ask(QUESTION), "", GREEDY)
        waiting[0].cancel()
        again = await engine.generate(_ask(QUESTION), "", GREEDY)
        running.cancel()
        assert (await _text(running))[1].reason == "aborted"
        assert (await _text(waiting[0])) == ("", Finish("aborted", 0))
        assert (await _text(waiting[1]))[0] == ANSWERS[0]
        assert (await _text(again))[0] == ANSWERS[0]

    run(scenario, max_waiting=2)


def test_what_does_not_fit_the_context_is_refused_before_computing(run: Callable[..., None], shelf: Shelf) -> None:
    async def scenario(engine: Engine) -> None:
        engine.swap(await engine.load(Target(1, shelf.weights(0))))
        with pytest.raises(ContextTooLong, match="2048"):
            await engine.generate(_ask("x" * 5000), "", GREEDY)
        with pytest.raises(ContextTooLong):
            await engine.generate(_ask("x"), "", Sampling(max_tokens=10**9))

    run(scenario)


def test_closing_ends_what_runs_and_what_waits(run: Callable[..., None], shelf: Shelf) -> None:
    async def scenario(engine: Engine) -> None:
        engine.swap(await engine.load(Target(1, shelf.weights(0))))
        begun = [await engine.generate(_ask(LONG), "", ENDLESS) for _ in range(2)]
        assert isinstance(await begun[0].next(), Delta)
        await engine.close()
        for generation in begun:
            with pytest.raises(EngineError, match="stopped"):
                await _text(generation)
        with pytest.raises(EngineError):
            await engine.generate(_ask(QUESTION), "", GREEDY)

    run(scenario)


def test_broken_weights_fail_one_answer_and_not_the_engine(run: Callable[..., None], shelf: Shelf) -> None:
    async def scenario(engine: Engine) -> None:
        loaded = await engine.load(Target(1, shelf.weights(0)))
        good = await engine.load(Target(2, shelf.weights(1)))
        loaded.model.lm_head.weight.data.fill_(float("nan"))
        engine.swap(loaded)
        with pytest.raises(EngineError, match="the model failed"):
            await _text(await engine.generate(_ask(QUESTION), "", GREEDY))
        engine.swap(good)
        assert (await _text(await engine.generate(_ask(QUESTION), "", GREEDY)))[0] == ANSWERS[1]

    run(scenario)


def test_an_unknown_engine_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown engine") as caught:
        ENGINES.load("embeded")
    assert "embedded" in caught.value.fix
