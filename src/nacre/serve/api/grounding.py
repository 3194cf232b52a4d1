"""Passages of the documents put into a conversation before the engine sees it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nacre.serve.api.parts import Question
from nacre.serve.engines import ChatPrompt
from nacre.serve.gateway.wishes import Wishes
from nacre.serve.knowledge.retrieval import Retrieved
from nacre.serve.service import Service

_SYSTEM = ("system", "developer")


async def passages_for(service: Service, questions: tuple[Question, ...], wanted: Wishes) -> Retrieved | None:
    """What the documents say to the last thing the user of a chat said; None where there are no documents to ask."""
    retrieval = service.knowledge
    if retrieval is None or not retrieval.in_use or len(questions) != 1:
        return None
    prompt = questions[0].prompt
    if not isinstance(prompt, ChatPrompt):
        return None
    if not wanted.knowledge:
        return retrieval.count(Retrieved("off"))
    asked = next((turn.content for turn in reversed(prompt.messages) if turn.role == "user"), "")
    return await retrieval.look(asked) if asked.strip() else None


def grounded(question: Question, block: str) -> Question:
    """The question with the passages at the end of the opening system message; what is kept of it stays as it was."""
    prompt = question.prompt
    assert isinstance(prompt, ChatPrompt)
    system = f"{prompt.system}\n\n{block}" if prompt.system else block
    return replace(question, prompt=replace(prompt, system=system, turns=_turns(prompt.turns, block)))


def _turns(turns: tuple[Mapping[str, Any], ...], block: str) -> tuple[Mapping[str, Any], ...]:
    """The same for the conversation as it was sent."""
    if not turns or turns[0]["role"] not in _SYSTEM:
        return ({"role": "system", "content": block}, *turns)
    last = next((place for place, turn in enumerate(turns) if turn["role"] not in _SYSTEM), len(turns)) - 1
    both = {**turns[last], "content": f"{turns[last]['content']}\n\n{block}"}
    return (*turns[:last], both, *turns[last + 1 :])
