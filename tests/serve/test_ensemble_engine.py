"""Adapters that answer together, served by the embedded engine under one name, beside others on the same base."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from engine_kit import chat, heard, loaded, make_adapter, said, with_engine
from serving_kit import Connect, Shelf, ask, text_of

from nacre.base.errors import InputError
from nacre.model.ensemble import Plan, elected
from nacre.model.generate import answer_all
from nacre.model.load import load_model, load_tokenizer
from nacre.records import Decoding, Example, Message, Weights
from nacre.serve.engines import ContextTooLong, Delta, Finish, Sampling, TextPrompt
from nacre.serve.run import background
from nacre.serve.settings import Serve

TOKENS = 12
GREEDY = Sampling(temperature=0, max_tokens=TOKENS)
QUESTIONS = ["what do you see?", "layer by layer, one", "System: 105?"]
NAMES = ("member_1", "member_2", "member_3")


@pytest.fixture(scope="module")
def members(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> list[Weights]:
    """Three adapters of chance on the first model of the shelf."""
    return [make_adapter(shelf.weights(0), tmp_path_factory.mktemp("member"), seed, lora_alpha=12) for seed in range(3)]


@pytest.fixture(scope="module")
def ensembles(members: list[Weights], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Weights]:
    """The three of them together, in every way."""
    found = {}
    ways = {"mean": (1 / 3,) * 3, "weighted": (0.6, 0.3, 0.1), "layers": (0.5, 0.5, 0.5), "vote": (1.0,) * 3}
    for by, weights in ways.items():
        folder = tmp_path_factory.mktemp(by)
        Plan(by, NAMES, weights).save(folder, [Path(str(one.adapter)) for one in members])
        load_tokenizer(members[0]).save_pretrained(folder)
        found[by] = members[0].changed(identity=by.ljust(64, "0"), adapter=folder)
    return found


def offline(weights: Weights) -> list[str]:
    """What it says to each question outside the server."""
    rows = [Example(prompt=(Message(role="user", content=text),), answers=()) for text in QUESTIONS]
    decoding = Decoding(max_new_tokens=TOKENS, max_length=200)
    return [one.text for one in answer_all(load_model(weights), load_tokenizer(weights), rows, decoding)]


def test_every_way_says_what_it_says_outside_all_at_once_on_one_base(
    members: list[Weights], ensembles: dict[str, Weights]
) -> None:
    asked = {**ensembles, "alone": members[0], "bare": members[0].changed(identity="b" * 64, adapter=None)}
    expected = {name: offline(weights) for name, weights in asked.items()}
    assert len({tuple(answers) for answers in expected.values()}) >= 4, "they must differ, or this shows nothing"

    async def scenario(engine: Any) -> list[str]:
        targets = [await loaded(engine, number, weights) for number, weights in enumerate(asked.values(), 1)]
        assert len({id(resident.base) for resident in engine._residents.values()}) == 1
        both = [(target, text) for target in targets for text in QUESTIONS]
        answers = await asyncio.gather(*(said(engine, target, chat(text), GREEDY) for target, text in both))
        for target in targets[:-1]:
            await engine.unload(target)
        assert engine._residents[targets[-1]].base.runner.pools.tokens == 0
        return list(answers)

    found = with_engine(scenario, max_running=64)
    apart = [found[start : start + len(QUESTIONS)] for start in range(0, len(found), len(QUESTIONS))]
    assert {name: [_shown(one) for one in answers] for name, answers in zip(asked, apart, strict=True)} == {
        name: [_shown(one) for one in answers] for name, answers in expected.items()
    }


def _shown(text: str) -> str:
    return text.rstrip("\ufffd")  # bytes that are no whole character at the last token


def test_a_mean_streams_and_a_vote_comes_whole(members: list[Weights], ensembles: dict[str, Weights]) -> None:
    async def scenario(engine: Any) -> tuple[Any, Any]:
        mean, vote = [await loaded(engine, place, ensembles[by]) for place, by in enumerate(("mean", "vote"), 1)]
        return tuple(
            [await heard(await engine.generate(target, chat(QUESTIONS[0]), GREEDY)) for target in (mean, vote)]
        )

    (streamed, _), (whole, finish) = with_engine(scenario)
    assert len(streamed) > 2
    assert not any(piece.whole for piece in streamed)
    assert [piece.whole for piece in whole] == [True]
    apart = [offline(one)[0] for one in members]
    assert _shown(whole[0].text) == _shown(apart[elected(apart)])
    assert isinstance(finish, Finish)
    assert 0 < finish.tokens <= TOKENS


def test_log_probabilities_are_the_means_and_a_vote_has_none(ensembles: dict[str, Weights]) -> None:
    import torch

    ids = tuple(load_tokenizer(ensembles["weighted"])("layer by layer").input_ids)
    sampling = Sampling(temperature=0, max_tokens=1, logprobs=2)

    async def scenario(engine: Any) -> list[Delta]:
        target = await loaded(engine, 1, ensembles["weighted"])
        vote = await loaded(engine, 2, ensembles["vote"])
        with pytest.raises(InputError, match="no log probabilities"):
            await engine.generate(vote, TextPrompt(ids), sampling)
        for one in (target, vote):
            with pytest.raises(InputError, match="makes no embeddings"):
                await engine.embed(one, [TextPrompt(ids)])
        assert engine.waiting == 0
        pieces, _ = await heard(await engine.generate(target, TextPrompt(ids), sampling))
        return pieces

    told = [one for piece in with_engine(scenario) for one in piece.logprobs]
    model = load_model(ensembles["weighted"])
    with torch.no_grad():
        expected_V = model(input_ids=torch.tensor([ids])).logits[0, -1]
    assert told[0].logprob == pytest.approx(float(expected_V.max()), abs=1e-3)
    assert [one[2] for one in told[0].top] == pytest.approx(expected_V.topk(2).values.tolist(), abs=1e-3)


def test_rows_of_several_members_share_a_small_memory(ensembles: dict[str, Weights]) -> None:
    """Each takes three places, so few fit at once; all are answered, and what can never fit is refused."""
    expected = offline(ensembles["mean"])

    async def scenario(engine: Any) -> list[str]:
        target = await loaded(engine, 1, ensembles["mean"])
        with pytest.raises(ContextTooLong, match="this server holds 63 tokens of one request"):
            await engine.generate(target, chat(QUESTIONS[0]), Sampling(temperature=0, max_tokens=70))
        asked = [said(engine, target, chat(text), GREEDY) for text in QUESTIONS * 3]
        return list(await asyncio.gather(*asked))

    found = with_engine(scenario, kv_tokens=64 * 3 + 10)
    assert [_shown(one) for one in found] == [_shown(one) for one in expected] * 3

    async def too_small(engine: Any) -> None:
        with pytest.raises(InputError, match="no room for one row of 3 members"):
            await loaded(engine, 1, ensembles["mean"])
        assert engine.loaded == ()

    with_engine(too_small, kv_tokens=150)


def test_a_vote_that_is_given_up_frees_every_member(ensembles: dict[str, Weights]) -> None:
    async def scenario(engine: Any) -> None:
        target = await loaded(engine, 1, ensembles["vote"])
        generation = await engine.generate(target, chat(QUESTIONS[0]), Sampling(temperature=0, max_tokens=100))
        waiting = asyncio.ensure_future(generation.next())
        await asyncio.sleep(0)
        generation.cancel()
        assert (await waiting).reason == "aborted"
        runner = engine._residents[target].base.runner
        await engine.unload(target)
        while engine._scheduler.running or engine._scheduler.waiting:  # until the time given to every scenario is up
            await asyncio.sleep(0.01)
        assert runner.pools.tokens == 0

    with_engine(scenario)


def test_a_vote_is_refused_where_members_cannot_be_read_side_by_side(
    ensembles: dict[str, Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base whose attention cannot be taken over answers through one model, which averages."""
    monkeypatch.setattr("nacre.serve.engines.embedded.residents.packed", lambda *_: None)
    expected = offline(ensembles["mean"])

    async def scenario(engine: Any) -> list[str]:
        with pytest.raises(InputError, match="cannot be answered side by side"):
            await loaded(engine, 1, ensembles["vote"])
        target = await loaded(engine, 2, ensembles["mean"])
        return [await said(engine, target, chat(text), GREEDY) for text in QUESTIONS]

    assert [_shown(one) for one in with_engine(scenario)] == [_shown(one) for one in expected]


@pytest.mark.parametrize("by", ["mean", "vote"])
def test_a_server_answers_with_it_under_one_name(ensembles: dict[str, Weights], connect: Connect, by: str) -> None:
    expected = offline(ensembles[by])[0]
    with background(ensembles[by], Serve(port=0, name="bot")) as url:
        client = connect(url)
        assert [one.id for one in client.models.list()] == ["bot"]
        assert _shown(text_of(ask(client, QUESTIONS[0], max_tokens=TOKENS))) == _shown(expected)
        stream = client.chat.completions.create(
            model="bot",
            messages=[{"role": "user", "content": QUESTIONS[0]}],
            temperature=0,
            max_tokens=TOKENS,
            stream=True,
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert _shown("".join(pieces)) == _shown(expected)
    assert (sum(map(bool, pieces)) > 1) == (by == "mean")
