"""What an answer tells beside its text: log probabilities, the prompt again, JSON, vectors."""

import asyncio
import json
import math
import sys

import pytest
import torch
from engine_kit import chat, heard, loaded, make_adapter, said, with_engine
from serving_kit import ANSWERS, QUESTION, Shelf

from nacre.base.errors import InputError
from nacre.model.chat import prompt_ids
from nacre.model.load import load_model, load_tokenizer
from nacre.serve.engines import JsonFormat, Sampling, TextPrompt
from nacre.serve.engines.embedded.tokens import TokenTexts

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["nacre", "shell"]}, "layers": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "layers"],
    "additionalProperties": False,
}


def logprobs_of(weights, ids: list[int]) -> torch.Tensor:
    """Of every position, as transformers has them."""
    with torch.no_grad():
        return load_model(weights)(torch.tensor([ids])).logits[0].double().log_softmax(-1)


def test_log_probabilities_are_the_models_own_whatever_the_sampling(shelf: Shelf) -> None:
    weights = shelf.weights(0)
    tokenizer = load_tokenizer(weights)
    prompt = prompt_ids(chat("layer by layer").messages, tokenizer)

    async def scenario(engine):
        target = await loaded(engine, 1, weights)
        sampling = Sampling(temperature=1.7, top_p=0.9, presence_penalty=1.0, seed=5, max_tokens=30, logprobs=3)
        return await heard(await engine.generate(target, chat("layer by layer"), sampling))

    pieces, finish = with_engine(scenario)
    told = [one for piece in pieces for one in piece.logprobs]
    text = "".join(piece.text for piece in pieces)
    assert b"".join(one.raw for one in told).decode(errors="replace").startswith(text.rstrip("\ufffd"))
    texts = TokenTexts(tokenizer)
    by_bytes = {texts.raw(token): token for token in range(len(tokenizer))}
    ids = [by_bytes[one.raw] for one in told]
    assert len(ids) >= finish.tokens - 1
    expected_TV = logprobs_of(weights, prompt + ids)
    for place, one in enumerate(told):
        logprobs_V = expected_TV[len(prompt) + place - 1]
        assert one.logprob == pytest.approx(float(logprobs_V[ids[place]]), abs=1e-3)
        best = logprobs_V.topk(3)
        assert [by_bytes[raw] for _, raw, _ in one.top] == best.indices.tolist()
        assert [number for *_, number in one.top] == pytest.approx(best.values.tolist(), abs=1e-3)


@pytest.mark.parametrize("as_ids", [True, False])
@pytest.mark.parametrize("max_tokens", [0, 2])
def test_echo_gives_the_prompt_with_its_log_probabilities(shelf: Shelf, as_ids: bool, max_tokens: int) -> None:
    weights = shelf.weights(0)
    tokenizer = load_tokenizer(weights)
    text = "one layer more, 珍珠 layer by layer. " * 6
    ids = tokenizer(text)["input_ids"]
    assert len(ids) > 64, "longer than what is read of such a prompt in one step"
    prompt = TextPrompt(tuple(ids) if as_ids else text)

    async def scenario(engine):
        target = await loaded(engine, 1, weights)
        sampling = Sampling(temperature=0, max_tokens=max_tokens, logprobs=2, echo=True)
        await said(engine, target, prompt, Sampling(temperature=0, max_tokens=1))  # its beginning is known now
        beside = asyncio.ensure_future(said(engine, target, chat(QUESTION), Sampling(temperature=0)))
        found = await heard(await engine.generate(target, prompt, sampling))
        assert await beside == ANSWERS[0]
        return found

    pieces, finish = with_engine(scenario)
    first = pieces[0]
    assert first.text == text
    assert [one.raw for one in first.logprobs] == [TokenTexts(tokenizer).raw(token) for token in ids]
    assert first.logprobs[0].logprob is None
    expected_TV = logprobs_of(weights, ids)
    numbers = [float(expected_TV[place - 1, token]) for place, token in enumerate(ids) if place]
    assert [one.logprob for one in first.logprobs[1:]] == pytest.approx(numbers, abs=1e-3)
    assert len(first.logprobs[1].top) == 2
    assert finish.tokens == max_tokens
    assert (max_tokens == 0) == (len(pieces) == 1)


def test_tokens_of_a_stop_text_are_not_told(shelf: Shelf) -> None:
    stop = ANSWERS[1][10:14]

    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(1))
        sampling = Sampling(temperature=0, stop=(stop,), logprobs=0)
        return await heard(await engine.generate(target, chat(QUESTION), sampling))

    pieces, finish = with_engine(scenario)
    assert "".join(piece.text for piece in pieces) == ANSWERS[1][:10]
    assert finish.reason == "stop"
    told = [one.raw for piece in pieces for one in piece.logprobs]
    assert b"".join(told).decode().startswith(ANSWERS[1][:10])
    assert len(b"".join(told[:-1])) < 10, "only the token that the stop text begins in reaches beyond the text"


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_json_answers_are_what_the_schema_says(shelf: Shelf, temperature: float) -> None:
    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(1))
        sampling = Sampling(temperature=temperature, seed=3, max_tokens=400, format=JsonFormat(SCHEMA))
        free = Sampling(temperature=temperature, seed=3, max_tokens=300, format=JsonFormat())
        beside = asyncio.ensure_future(said(engine, target, chat(QUESTION), Sampling(temperature=0)))
        texts = await asyncio.gather(*(said(engine, target, chat("x" * size), sampling) for size in range(4)))
        assert await beside == ANSWERS[1]
        return texts, await heard(await engine.generate(target, chat("an object"), free))

    texts, (pieces, finish) = with_engine(scenario)
    for text in texts:
        found = json.loads(text)
        assert set(found) == {"name", "layers"}
        assert found["name"] in ("nacre", "shell")
        assert 0 <= found["layers"] <= 99
    text = "".join(piece.text for piece in pieces)
    assert text.lstrip().startswith("{")
    if finish.reason == "stop":
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"type": "nonsense"}, "cannot be enforced"),
        ({"$ref": "#/nowhere"}, "cannot be enforced"),
        ({"enum": ["x" * 70_000]}, "bytes"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused(shelf: Shelf, schema: dict, what: str) -> None:
    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(1))
        with pytest.raises(InputError, match=what):
            await engine.generate(target, chat("x"), Sampling(format=JsonFormat(schema)))
        await engine.unload(target)
        assert not engine._shelf._shared, "the refused request holds the version"

    with_engine(scenario)


def test_without_the_library_json_is_refused_by_the_extras_name(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    monkeypatch.delitem(sys.modules, "nacre.serve.engines.embedded.constrain", raising=False)

    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(1))
        with pytest.raises(InputError) as caught:
            await engine.generate(target, chat("x"), Sampling(format=JsonFormat()))
        assert "nacre[json]" in caught.value.fix

    with_engine(scenario)


def test_embeddings_are_mean_last_hidden_states_of_length_one(shelf: Shelf, tmp_path) -> None:
    versions = [shelf.weights(0), make_adapter(shelf.weights(0), tmp_path / "adapter", 3)]
    texts = ["layer", "mother of pearl " * 20, "层"]

    async def scenario(engine):
        targets = [await loaded(engine, number, one) for number, one in enumerate(versions, 1)]
        return [await engine.embed(target, [TextPrompt(text) for text in texts]) for target in targets]

    found = with_engine(scenario, prefill_tokens=16)
    tokenizer = load_tokenizer(versions[0])
    for weights, embeddings in zip(versions, found, strict=True):
        model = load_model(weights)
        for text, vector in zip(texts, embeddings.vectors, strict=True):
            ids_BT = torch.tensor([tokenizer(text)["input_ids"]])
            with torch.no_grad():
                hidden_D = model(ids_BT, output_hidden_states=True).hidden_states[-1][0].mean(0)
            expected = (hidden_D / hidden_D.norm()).tolist()
            assert vector == pytest.approx(expected, abs=1e-4)
            assert math.sqrt(sum(one * one for one in vector)) == pytest.approx(1.0)
        assert embeddings.tokens == sum(len(tokenizer(text)["input_ids"]) for text in texts)
    assert found[0].vectors != found[1].vectors


@pytest.mark.parametrize(
    ("prompt", "sampling", "where"),
    [
        (TextPrompt(""), Sampling(), "prompt"),
        (TextPrompt((1, 10**6)), Sampling(), "prompt"),
        (TextPrompt((5,)), Sampling(logit_bias={10**6: 1.0}), "logit_bias"),
    ],
)
def test_what_the_model_does_not_know_is_refused(shelf: Shelf, prompt: TextPrompt, sampling: Sampling, where) -> None:
    async def scenario(engine):
        target = await loaded(engine, 1, shelf.weights(1))
        with pytest.raises(InputError) as caught:
            await engine.generate(target, prompt, sampling)
        assert caught.value.where == where

    with_engine(scenario)


def test_bytes_of_tokens() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocab = [("<unk>", 0.0), ("▁hi", -1.0)] + [(f"<0x{byte:02X}>", -2.0) for byte in range(256)]
    raw = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    texts = TokenTexts(PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>"))
    assert texts.raw(1) == b" hi"
    assert texts.raw(2 + 0xE5) == b"\xe5"
    assert texts.told(2 + 0xE5, -0.5, ()).token == "\ufffd"
    assert texts.raw(10**6) == b""
