"""What the tests of the embedded engine share: start one, load versions, ask several things at once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from nacre.model.load import load_model
from nacre.records import Message, Weights
from nacre.serve.engines import ChatPrompt, Delta, Finish, Generation, Sampling, Target, TextPrompt
from nacre.serve.engines.embedded import EmbeddedEngine
from nacre.serve.settings import Serve

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]


def chat(text: str, system: str = "") -> ChatPrompt:
    return ChatPrompt((Message(role="user", content=text),), system)


def with_engine(
    scenario: Callable[[EmbeddedEngine], Awaitable[Any]], *, max_waiting: int = 64, **embedded: float
) -> Any:
    async def main() -> Any:
        engine = EmbeddedEngine(Serve(max_waiting=max_waiting, embedded=embedded))
        try:
            return await asyncio.wait_for(scenario(engine), 120)
        finally:
            await engine.close()

    return asyncio.run(main())


async def loaded(engine: EmbeddedEngine, number: int, weights: Weights) -> Target:
    target = Target(number, weights)
    await engine.load(target)
    return target


async def heard(generation: Generation) -> tuple[list[Delta], Finish]:
    pieces = []
    while isinstance(piece := await generation.next(), Delta):
        pieces.append(piece)
    return pieces, piece


async def said(engine: EmbeddedEngine, target: Target, prompt: ChatPrompt | TextPrompt, sampling: Sampling) -> str:
    pieces, _ = await heard(await engine.generate(target, prompt, sampling))
    return "".join(piece.text for piece in pieces)


def make_adapter(weights: Weights, folder: Path, seed: int, **options: Any) -> Weights:
    """An adapter of chance, as PEFT saves it."""
    torch.manual_seed(seed)
    given = {"r": 8, "target_modules": ALL, "init_lora_weights": False, "task_type": "CAUSAL_LM"} | options
    get_peft_model(load_model(weights, train=True), LoraConfig(**given)).save_pretrained(str(folder))
    return weights.changed(identity=f"{seed:064d}", adapter=folder)
