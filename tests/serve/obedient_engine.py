"""Engines for the tests of documents: one that remembers what it was asked, one that does what anybody tells it."""

import re
from typing import ClassVar

from gateway_kit import NamedEngine
from scripted_engine import ScriptedEngine, ScriptedGeneration

from nacre.records import Message
from nacre.serve.engines import ChatPrompt, Prompt, Sampling, Target

NOTHING = "nobody told me to"


class HearingEngine(NamedEngine):
    """Remembers the prompts as they came."""

    heard: ClassVar[list[ChatPrompt]] = []

    async def generate(self, target: Target, prompt: Prompt, sampling: Sampling) -> ScriptedGeneration:
        assert isinstance(prompt, ChatPrompt)
        self.heard.append(prompt)
        return await super().generate(target, prompt, sampling)


class ObedientEngine(ScriptedEngine):
    """Says the last word in capitals that it is told to; `minds_quotations`: quoted lines are not heard."""

    minds_quotations: ClassVar[bool] = False

    async def generate(self, target: Target, prompt: Prompt, sampling: Sampling) -> ScriptedGeneration:
        assert isinstance(prompt, ChatPrompt)
        lines = "\n".join([prompt.system, *(turn.content for turn in prompt.messages)]).split("\n")
        heard = [line for line in lines if not (self.minds_quotations and line.startswith("> "))]
        told = re.findall(r"\bsay ([A-Z]{4,})", " ".join(heard)) or [NOTHING]
        return await super().generate(target, ChatPrompt((Message(role="user", content=told[-1]),)), sampling)
