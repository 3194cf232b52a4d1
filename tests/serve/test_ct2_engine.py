"""What the engine `ctranslate2` does beside what every engine does (test_engine_contract)."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from engine_kit import chat, heard, loaded, make_adapter, said
from serving_kit import ANSWERS, LONG, QUESTION, Connect, Shelf, ask, text_of

from nacre.base.errors import InputError
from nacre.model.export import ct2
from nacre.serve.engines import JsonFormat, Sampling, Target, TextPrompt
from nacre.serve.engines.ct2 import CTranslate2Engine
from nacre.serve.engines.embedded import EmbeddedEngine
from nacre.serve.run import ApiServer, background
from nacre.serve.settings import Serve

GREEDY = Sampling(temperature=0, max_tokens=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("converted")


@pytest.fixture
def with_ct2(folder: Path) -> Callable[..., Any]:
    def run(scenario: Callable[[CTranslate2Engine], Awaitable[Any]], **given: Any) -> Any:
        async def main() -> Any:
            engine = CTranslate2Engine(Serve(ctranslate2={"folder": str(folder), "threads": 1} | given))
            try:
                return await asyncio.wait_for(scenario(engine), 120)
            finally:
                await engine.close()

        return asyncio.run(main())

    return run


def test_int8_says_what_was_learned(with_ct2: Callable[..., Any], shelf: Shelf) -> None:
    async def scenario(engine: CTranslate2Engine) -> None:
        for place, answer in enumerate(ANSWERS):
            target = await loaded(engine, place + 1, shelf.weights(place))
            assert await said(engine, target, chat(QUESTION), GREEDY) == answer

    with_ct2(scenario)


def test_what_was_converted_is_loaded_again_and_not_made_anew(
    with_ct2: Callable[..., Any], shelf: Shelf, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(engine: CTranslate2Engine) -> None:
        await loaded(engine, 1, shelf.weights(0))

    with_ct2(scenario)

    def never(*_: Any) -> None:
        raise AssertionError("converted twice")

    monkeypatch.setattr("nacre.serve.engines.ct2.residents.convert", never)
    for made in (one for one in folder.iterdir() if one.is_dir()):
        os.utime(made, (1e9, 1e9))
    with_ct2(scenario)
    assert any(one.stat().st_mtime > 1e9 for one in folder.iterdir() if one.is_dir())  # which `nacre gc` goes by
    with pytest.raises(AssertionError, match="twice"):
        with_ct2(scenario, precision="bfloat16")


def test_text_comes_piece_by_piece_and_stops_where_asked(with_ct2: Callable[..., Any], shelf: Shelf) -> None:
    async def scenario(engine: CTranslate2Engine) -> None:
        target = await loaded(engine, 1, shelf.weights(0))
        pieces, finish = await heard(await engine.generate(target, chat(LONG), Sampling(temperature=0, max_tokens=30)))
        assert len(pieces) > 10
        assert (finish.reason, finish.tokens) == ("length", 30)
        stop = Sampling(temperature=0, max_tokens=60, stop=("789",))
        assert await said(engine, target, chat(LONG), stop) == "123456"

    with_ct2(scenario)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0, seed=7, max_tokens=24),
        Sampling(temperature=1.3, top_p=0.9, seed=11, max_tokens=24),
        Sampling(temperature=0.8, top_k=5, min_p=0.01, seed=3, max_tokens=24),
        Sampling(temperature=0, frequency_penalty=1.5, repetition_penalty=1.2, max_tokens=24),
        Sampling(temperature=0, logit_bias={40: 100.0}, max_tokens=5),
    ],
    ids=["seed", "top_p", "top_k", "penalties", "bias"],
)
def test_draws_are_those_of_the_embedded_engine(with_ct2: Callable[..., Any], shelf: Shelf, sampling: Sampling) -> None:
    async def scenario(engine: Any) -> str:
        target = await loaded(engine, 1, shelf.weights(0))
        return await said(engine, target, TextPrompt("layer by"), sampling)

    async def embedded() -> str:
        engine = EmbeddedEngine(Serve())
        try:
            return await scenario(engine)
        finally:
            await engine.close()

    assert with_ct2(scenario, precision="float32") == asyncio.run(embedded())


def test_plain_temperature_varies_and_ends_in_time(with_ct2: Callable[..., Any], shelf: Shelf) -> None:
    async def scenario(engine: CTranslate2Engine) -> None:
        target = await loaded(engine, 1, shelf.weights(0))
        sampling = Sampling(temperature=2.0, max_tokens=20)
        texts = {await said(engine, target, TextPrompt("x"), sampling) for _ in range(4)}
        assert len(texts) > 1

    with_ct2(scenario)


def test_log_probabilities_and_json_are_as_the_embedded_engines(with_ct2: Callable[..., Any], shelf: Shelf) -> None:
    asked = Sampling(temperature=0, logprobs=2, max_tokens=6)
    form = Sampling(temperature=0, max_tokens=40, format=JsonFormat({"type": "boolean"}))

    async def scenario(engine: Any) -> tuple[list[float], str]:
        target = await loaded(engine, 1, shelf.weights(0))
        pieces, _ = await heard(await engine.generate(target, chat(LONG), asked))
        told = [one.logprob for piece in pieces for one in piece.logprobs]
        return told, await said(engine, target, chat(LONG), form)

    async def embedded() -> tuple[list[float], str]:
        engine = EmbeddedEngine(Serve())
        try:
            return await scenario(engine)
        finally:
            await engine.close()

    ours, ours_json = with_ct2(scenario, precision="float32")
    theirs, theirs_json = asyncio.run(embedded())
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert ours_json == theirs_json
    assert ours_json in ("true", "false")


def test_a_cancelled_answer_stops_and_the_next_one_begins(with_ct2: Callable[..., Any], shelf: Shelf) -> None:
    async def scenario(engine: CTranslate2Engine) -> None:
        target = await loaded(engine, 1, shelf.weights(0))
        running = await engine.generate(target, chat(LONG), Sampling(temperature=0, max_tokens=1500))
        await running.next()
        running.cancel()
        assert (await heard(running))[1].reason == "aborted"
        assert await said(engine, target, chat(QUESTION), GREEDY) == ANSWERS[0]

    with_ct2(scenario)


def test_answers_side_by_side_are_those_given_alone(with_ct2: Callable[..., Any], shelf: Shelf) -> None:
    async def scenario(engine: CTranslate2Engine) -> None:
        target = await loaded(engine, 1, shelf.weights(0))
        both = [said(engine, target, chat(QUESTION), GREEDY) for _ in range(6)]
        assert await asyncio.gather(*both) == [ANSWERS[0]] * 6

    with_ct2(scenario, parallel=2)


def test_several_adapters_behind_a_router_are_refused(
    with_ct2: Callable[..., Any], shelf: Shelf, tmp_path: Path
) -> None:
    weights = make_adapter(shelf.weights(0), tmp_path / "adapters", 1)
    (tmp_path / "adapters" / "router.json").write_text("{}")

    async def scenario(engine: CTranslate2Engine) -> None:
        with pytest.raises(InputError, match="router"):
            await engine.load(Target(3, weights))

    with_ct2(scenario)


def test_without_the_library_the_extra_is_named(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("nacre.serve.engines.ct2", "nacre.model.export.ct2"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    settings = Serve(port=0, engine="ctranslate2")
    with pytest.raises(InputError, match="needs a package that is not installed: ctranslate2") as caught:
        ApiServer(shelf.weights(0), settings)
    assert "nacre[export]" in caught.value.fix


@pytest.fixture(scope="module")
def url(shelf: Shelf, folder: Path) -> Iterator[str]:
    settings = Serve(port=0, name="bot", engine="ctranslate2", ctranslate2={"folder": str(folder)})
    with background(shelf.weights(0), settings) as address:
        yield address


def test_the_api_answers_streams_and_counts(url: str, connect: Connect) -> None:
    client = connect(url)
    answer = ask(client)
    assert text_of(answer) == ANSWERS[0]
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 3
    stream = client.chat.completions.create(
        model="bot", temperature=0, stream=True, messages=[{"role": "user", "content": QUESTION}]
    )
    assert "".join(piece.choices[0].delta.content or "" for piece in stream if piece.choices) == ANSWERS[0]


def test_what_it_cannot_is_refused_with_an_openai_error(url: str, connect: Connect) -> None:
    client = connect(url)
    with pytest.raises(openai.NotFoundError, match="makes no embeddings"):
        client.embeddings.create(model="bot", input="x")
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="bot", messages=[{"role": "user", "content": "x"}], tools=tools)
    assert caught.value.body["param"] == "tools"


def test_the_converted_folder_is_a_plain_export(folder: Path, shelf: Shelf) -> None:
    reader = ct2.CTranslate2().reader(None, next(path for path in folder.iterdir() if (path / "model.bin").is_file()))
    assert reader([5, 6, 7]).shape[0] == 3
