"""One server, several adapters: each request is answered by the adapter of its task."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from serving_kit import Connect, Shelf, ask, text_of

from nacre.model.chat import prompt_ids
from nacre.model.load import load_model, load_tokenizer
from nacre.model.routed import Routed
from nacre.model.router import Router, read_prompts
from nacre.records import Message, Weights
from nacre.serve.engines import ENGINES, ChatPrompt, Delta, Sampling, Target
from nacre.serve.run import background
from nacre.serve.settings import Serve

QUESTIONS = {
    "adapter_1": [f"layer by layer, {word}" for word in ("one", "two", "three", "four", "five", "six")],
    "adapter_2": [f"System: {number}?" for number in range(100, 106)],
}
LAST = {name: questions[-1] for name, questions in QUESTIONS.items()}  # not among those that the router learns from
TOKENS = 24


def _ids(tokenizer, question: str) -> list[int]:
    return prompt_ids((Message(role="user", content=question),), tokenizer)


@pytest.fixture(scope="module")
def routed(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Two adapters of chance on the first model of the shelf."""
    weights = shelf.weights(0)
    tokenizer, model = load_tokenizer(weights), load_model(weights)
    router = Router()
    for name, questions in QUESTIONS.items():
        router = router.with_task(name, name, read_prompts(model, [_ids(tokenizer, one) for one in questions[:-1]]))
    torch.manual_seed(0)
    config = {"r": 8, "target_modules": "all-linear", "init_lora_weights": False, "task_type": "CAUSAL_LM"}
    peft = get_peft_model(model, LoraConfig(**config), adapter_name="adapter_1")
    peft.add_adapter("adapter_2", LoraConfig(**config))
    folder = tmp_path_factory.mktemp("routed")
    Routed(peft, router).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return weights.changed(adapter=folder)


@pytest.fixture(scope="module")
def expected(routed: Weights) -> dict[str, str]:
    """By adapter, what it says to each last question, as transformers and PEFT give it without a router."""
    tokenizer, model = load_tokenizer(routed), load_model(routed)
    found = {}
    for name, question in LAST.items():
        ids = _ids(tokenizer, question)
        options = {"do_sample": False, "max_new_tokens": TOKENS, "adapter_names": [name]}
        said = model.peft.generate(input_ids=torch.tensor([ids]), **options)[0, len(ids) :]
        found[name] = tokenizer.decode(said, skip_special_tokens=True).rstrip("\ufffd")
    assert found["adapter_1"] != found["adapter_2"]
    return found


def test_two_prompts_that_run_at_once_get_their_own_adapters(routed: Weights, expected: dict[str, str]) -> None:
    target = Target(1, routed)

    async def text(engine, question: str) -> str:
        messages = (Message(role="user", content=question),)
        generation = await engine.generate(target, ChatPrompt(messages), Sampling(temperature=0, max_tokens=TOKENS))
        said = ""
        while isinstance(piece := await generation.next(), Delta):
            said += piece.text
        return said.rstrip("\ufffd")

    async def scenario() -> list[str]:
        engine = ENGINES.load("embedded")(Serve(max_waiting=8))
        try:
            await engine.load(target)
            return await asyncio.gather(*(text(engine, question) for question in (*LAST.values(), *LAST.values())))
        finally:
            await engine.close()

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == [*expected.values()] * 2


def test_one_server_answers_both_tasks(routed: Weights, expected: dict[str, str], connect: Connect) -> None:
    with background(routed, Serve(port=0, name="bot")) as url, ThreadPoolExecutor(2) as pool:
        client = connect(url)
        asked = [*LAST.values()] * 3
        said = list(pool.map(lambda question: text_of(ask(client, question, max_tokens=TOKENS)), asked))
    assert [text.rstrip("\ufffd") for text in said] == [*expected.values()] * 3


def test_the_folder_stands_alone(routed: Weights) -> None:
    assert sorted(path.name for path in Path(str(routed.adapter)).iterdir() if path.is_dir()) == [*QUESTIONS]
