"""Many requests side by side: each is answered as if it were alone."""

import asyncio
import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_kit import ALL, chat, heard, loaded, make_adapter, said, with_engine
from serving_kit import ANSWERS, LONG, QUESTION, Shelf
from transformers import LlamaForCausalLM

from nacre.model.chat import prompt_ids
from nacre.model.load import load_model, load_tokenizer
from nacre.records import Weights
from nacre.serve.engines import ContextTooLong, Sampling, Target, TextPrompt
from nacre.serve.engines.embedded import residents

GREEDY = Sampling(temperature=0, max_tokens=24)
REQUESTS = [
    (chat("layer " * (place % 5 * 7 + 1)), Sampling(seed=place, max_tokens=10 + 3 * place, **options))
    for place, options in enumerate(
        [
            {"temperature": 1.4},
            {"temperature": 0.9, "top_p": 0.8},
            {"temperature": 0},
            {"temperature": 1.2, "top_k": 20},
            {"temperature": 1.2, "min_p": 0.05},
            {"temperature": 1.0, "presence_penalty": 1.5, "frequency_penalty": 0.5},
            {"temperature": 0, "repetition_penalty": 1.3},
            {"temperature": 1.5, "logit_bias": {40: 5.0, 41: -100.0}},
            {"temperature": 0.7, "logprobs": 2},
            {"temperature": 1.1, "stop": ("a", "layer")},
        ]
    )
]


@pytest.fixture(scope="module")
def adapted(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> list[Weights]:
    """The first model alone, and with three adapters of different rank and reach."""
    folder, base = tmp_path_factory.mktemp("adapters"), shelf.weights(0)
    return [
        base,
        make_adapter(base, folder / "one", 1),
        make_adapter(base, folder / "two", 2, r=4, lora_alpha=32, use_rslora=True, target_modules=ALL[:3]),
        make_adapter(base, folder / "three", 3, rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 5}),
    ]


def by_peft(weights: Weights, question: str) -> str:
    """The greedy answer as transformers and PEFT give it, without a batch."""
    tokenizer, model = load_tokenizer(weights), load_model(weights)
    ids = prompt_ids(chat(question).messages, tokenizer)
    new = model.generate(input_ids=torch.tensor([ids]), do_sample=False, max_new_tokens=24)[0, len(ids) :]
    return tokenizer.decode(new, skip_special_tokens=True).rstrip("\ufffd")


def test_seed_and_parameters_decide_the_text_whatever_else_runs(shelf: Shelf) -> None:
    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(0))
        alone = [await said(engine, target, *request) for request in REQUESTS]
        together = await asyncio.gather(*(said(engine, target, *request) for request in REQUESTS * 3))
        backwards = await asyncio.gather(*(said(engine, target, *request) for request in reversed(REQUESTS)))
        return alone, together, backwards

    alone, together, backwards = with_engine(scenario, prefill_tokens=40)
    assert len(set(alone)) > 7, "the requests must differ for this to show anything"
    assert together == alone * 3
    assert backwards == alone[::-1]


def test_a_seed_repeats_and_no_seed_does_not(shelf: Shelf) -> None:
    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(0))
        wild = Sampling(temperature=1.8, max_tokens=40)
        seeds = (3, 3, 4, None, None)
        return [await said(engine, target, chat("x"), replace(wild, seed=seed)) for seed in seeds]

    first, again, other, *free = with_engine(scenario)
    assert first == again
    assert len({first, other, *free}) == 4


def test_adapters_mix_in_one_batch_over_one_base_and_say_what_peft_says(adapted: list[Weights]) -> None:
    questions = ["layer", "one layer more", "System"]
    expected = [by_peft(weights, question) for weights in adapted for question in questions]
    assert len(set(expected)) > 8
    gc.collect()
    before = sum(type(each) is LlamaForCausalLM for each in gc.get_objects())

    async def scenario(engine):
        targets = [await loaded(engine, number, weights) for number, weights in enumerate(adapted, 1)]
        asked = [(target, chat(question), GREEDY) for target in targets for question in questions]
        mixed = await asyncio.gather(*(said(engine, *one) for one in asked))
        models = sum(type(each) is LlamaForCausalLM for each in gc.get_objects())
        await engine.unload(targets[1])
        left = await said(engine, *asked[-1])
        return mixed, models, left

    mixed, models, left = with_engine(scenario)
    assert [text.rstrip("\ufffd") for text in mixed] == expected
    assert models == before + 1, "the base is loaded once"
    assert left.rstrip("\ufffd") == expected[-1]


@pytest.mark.parametrize("options", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"target_modules": "all"}])
def test_an_adapter_that_cannot_be_mixed_is_answered_on_a_base_of_its_own(
    options: dict, adapted: list[Weights], tmp_path: Path
) -> None:
    options = {"target_modules": [*ALL, "lm_head"]} if options.get("target_modules") else options
    weights = make_adapter(adapted[0], tmp_path / "odd", 7, **options)
    expected = [by_peft(one, "layer") for one in (adapted[0], weights, adapted[1])]

    async def scenario(engine):
        targets = [await loaded(engine, number, one) for number, one in enumerate((adapted[0], weights, adapted[1]))]
        return await asyncio.gather(*(said(engine, target, chat("layer"), GREEDY) for target in targets * 2))

    assert [text.rstrip("\ufffd") for text in with_engine(scenario)] == expected * 2


def test_a_model_whose_attention_stays_its_own_says_the_same(
    shelf: Shelf, adapted: list[Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(engine):
        targets = [await loaded(engine, number, one) for number, one in enumerate(adapted[:2], 1)]
        asked = [(target, *request) for target in targets for request in REQUESTS]
        return await asyncio.gather(*(said(engine, *one) for one in asked))

    packed = with_engine(scenario, prefill_tokens=16)
    monkeypatch.setattr(residents, "packed", lambda *_: None)
    assert with_engine(scenario, prefill_tokens=16) == packed


def test_a_long_prompt_is_read_in_pieces_while_others_go_on(shelf: Shelf) -> None:
    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(0))
        question = chat("layer by layer " * 60)
        whole = await said(engine, target, question, GREEDY)
        running = await engine.generate(target, chat(LONG), Sampling(temperature=0, max_tokens=1500, stop=("none",)))
        await running.next()
        reading = await engine.generate(target, question, GREEDY)
        meanwhile, text = 0, asyncio.ensure_future(heard(reading))
        while not text.done():
            await running.next()
            meanwhile += 1
        running.cancel()
        return whole, "".join(piece.text for piece in (await text)[0]), meanwhile

    whole, pieces, meanwhile = with_engine(scenario, prefill_tokens=8, prefix_tokens=0)
    assert pieces == whole
    assert meanwhile > 30, "the running answer stood still while the prompt was read"


def test_when_the_memory_is_used_up_the_youngest_reads_again_and_says_the_same(shelf: Shelf) -> None:
    end = load_tokenizer(shelf.weights(0)).eos_token_id
    asked = [
        (chat(f"layer {place}"), Sampling(seed=place, max_tokens=150, logit_bias={end: -100.0})) for place in range(6)
    ]

    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(0))
        return await asyncio.gather(*(said(engine, target, *one) for one in asked))

    roomy = with_engine(scenario)
    assert sum(len(text) for text in roomy) > 300
    assert with_engine(scenario, kv_tokens=300, prefix_tokens=0) == roomy


def test_what_can_never_fit_the_memory_is_refused(shelf: Shelf) -> None:
    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(0))
        with pytest.raises(ContextTooLong, match="holds 127 tokens of one request"):
            await engine.generate(target, chat("x"), Sampling(max_tokens=200))
        _, finish = await heard(await engine.generate(target, chat(LONG), Sampling(temperature=0)))
        assert finish.reason == "length"
        assert finish.tokens < 128
        assert await said(engine, target, chat(QUESTION), Sampling(temperature=0)) == ANSWERS[0]

    with_engine(scenario, kv_tokens=128)


def test_a_shared_beginning_is_read_once_and_by_each_version_for_itself(adapted: list[Weights]) -> None:
    system = "Answer layer by layer, and be as brief as mother of pearl. " * 3

    async def scenario(engine):
        first, second = [await loaded(engine, number, one) for number, one in enumerate(adapted[:2], 1)]
        found = []
        for target, question in ((first, "a"), (first, "layers b"), (second, "a"), (second, "b"), (first, "a")):
            pieces, finish = await heard(await engine.generate(target, chat(question, system), GREEDY))
            found.append(("".join(piece.text for piece in pieces), finish.cached_tokens))
        return found

    kept, fresh = with_engine(scenario), with_engine(scenario, prefix_tokens=0)
    assert [text for text, _ in kept] == [text for text, _ in fresh]
    assert [cached > 0 for _, cached in kept] == [False, True, False, True, True]
    assert all(cached == 0 for _, cached in fresh)
    assert all(cached % 32 == 0 for _, cached in kept)


def test_no_tenant_learns_by_what_was_read_before_what_another_has_asked(shelf: Shelf) -> None:
    secret = "My number is 4711, remember it well, layer by layer, and tell nobody. " * 2

    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(0))
        found = []
        for tenant in ("a", "b", "a"):
            asked = Sampling(temperature=0, max_tokens=1, tenant=tenant)
            found.append((await heard(await engine.generate(target, chat(secret), asked)))[1].cached_tokens)
        return found

    first, other, again = with_engine(scenario)
    assert (first, other) == (0, 0)
    assert again > 0


def test_kept_beginnings_stay_within_their_bound(shelf: Shelf) -> None:
    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(0))
        for place in range(8):
            await said(engine, target, chat(f"{place} " * 60), GREEDY)
        prefixes = engine._residents[target].base.prefixes
        assert 0 < prefixes.tokens <= 128
        await said(engine, target, chat("7 " * 60), GREEDY)

    with_engine(scenario, prefix_tokens=128)


def test_a_cancelled_request_leaves_at_once_and_the_others_do_not_notice(shelf: Shelf) -> None:
    endless = Sampling(temperature=0, max_tokens=1500, stop=("never said",))

    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(0))
        doomed = [await engine.generate(target, chat(LONG), endless) for _ in range(3)]
        beside = asyncio.ensure_future(said(engine, target, chat(QUESTION), Sampling(temperature=0)))
        await asyncio.gather(*(one.next() for one in doomed))
        for one in doomed:
            one.cancel()
        assert [(await heard(one))[1].reason for one in doomed] == ["aborted"] * 3
        assert await beside == ANSWERS[0]
        # one step later nothing of them is left: neither place nor memory
        assert await said(engine, target, chat(QUESTION), Sampling(temperature=0)) == ANSWERS[0]
        assert engine._scheduler.running == 0
        assert engine._residents[target].base.runner.pools.tokens == 0

    with_engine(scenario)


def test_a_version_asked_during_its_unloading_ends_and_its_twin_stays(adapted: list[Weights]) -> None:
    async def scenario(engine):
        first, second = [await loaded(engine, number, one) for number, one in enumerate(adapted[:2], 1)]
        sampling = Sampling(temperature=0, max_tokens=60)
        alone = [await said(engine, target, chat("layer"), sampling) for target in (first, second)]
        running = [await engine.generate(target, chat("layer"), sampling) for target in (first, second)]
        await engine.unload(second)
        texts = [(await heard(one))[0] for one in running]
        assert ["".join(piece.text for piece in pieces) for pieces in texts] == alone
        await engine.unload(first)
        assert not engine._shelf._shared

    with_engine(scenario)


def test_a_text_goes_on_from_ids_and_from_text(shelf: Shelf) -> None:
    tokenizer = load_tokenizer(shelf.weights(0))
    ids = tuple(prompt_ids(chat(QUESTION).messages, tokenizer))

    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(0))
        for prompt in (TextPrompt(ids), TextPrompt(tokenizer.decode(ids))):
            assert await said(engine, target, prompt, Sampling(temperature=0)) == ANSWERS[0]

    with_engine(scenario)


def test_two_versions_without_a_base_in_common_are_answered_side_by_side(shelf: Shelf) -> None:
    async def scenario(engine):
        targets = [await loaded(engine, place + 1, shelf.weights(place)) for place in (0, 1)]
        asked: list[Target] = targets * 6
        return await asyncio.gather(*(said(engine, one, chat(QUESTION), Sampling(temperature=0)) for one in asked))

    assert with_engine(scenario) == [*ANSWERS] * 6
