"""What the routes work with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nacre.registry.ledger import Ledger
from nacre.serve.engines import Engine, Target
from nacre.serve.gateway.errors import ApiError, model_not_found, unavailable
from nacre.serve.gateway.ids import Signer
from nacre.serve.gateway.keyring import KeyRing
from nacre.serve.gateway.keys import Crowd
from nacre.serve.gateway.logs import log_answer
from nacre.serve.gateway.metrics import Metrics
from nacre.serve.interactions import Writer
from nacre.serve.knowledge.retrieval import Retrieval
from nacre.serve.outcome import Outcome
from nacre.serve.routing import Live, Route
from nacre.serve.settings import Serve
from nacre.serve.shadow import Shadow

Action = Callable[[Mapping[str, Any], str], Any]


@dataclass(frozen=True)
class Memory:
    """Where answers and opinions about them are kept, and who writes them there."""

    ledger: Ledger
    writer: Writer


@dataclass(frozen=True)
class Service:
    """One server: its engine, its settings, and its memory (None when it serves a folder without a ledger).

    Attributes:
        live: what is served now; asked once a request.
        problem: what keeps the newest champion from being served; empty when nothing does.
        troubles: why versions of other slots do not answer, by slot.
        ring: the keys that open it.
        metrics: its numbers.
        shadow: has a version in the shadow answer what users asked; None where nothing is kept.
        crowd: how many requests run.
        actions: the moves of releases by name; each takes what was sent and who sent it, and answers JSON.
        knowledge: the documents that chats are given passages of; None where there can be none.
    """

    settings: Serve
    engine: Engine
    signer: Signer
    live: Callable[[], Live]
    memory: Memory | None = None
    problem: Callable[[], str] = field(default=lambda: "")
    troubles: Callable[[], Mapping[str, str]] = field(default=dict)
    ring: KeyRing = field(default_factory=KeyRing)
    metrics: Metrics = field(default_factory=Metrics)
    shadow: Shadow | None = None
    crowd: Crowd = field(default_factory=Crowd)
    actions: Mapping[str, Action] = field(default_factory=dict)
    knowledge: Retrieval | None = None

    def ended(self, outcome: Outcome) -> None:
        """Count an answer, charge its key, have it written where it may be kept, and show it to the shadow."""
        outcome.count(self.metrics)
        outcome.caller.meter.charge(outcome.prompt_tokens + outcome.answer_tokens)
        log_answer(outcome, content=self.settings.log_content and outcome.keep)
        if self.memory is not None and outcome.keep:
            self.memory.writer.add(outcome.interaction)
            if self.shadow is not None:
                self.shadow.offer(outcome)

    def model_ids(self) -> list[str]:
        """The names that are answered now: ``bot``, ``bot:challenger``, and ``bot@7`` while version 7 is loaded."""
        live, name = self.live(), self.settings.name
        numbers = sorted({target.version for target in (*live.slots.values(), *live.leaving) if target.version})
        slots = [f"{name}:{slot}" for slot in live.slots] if numbers else []
        return [*([name] if live.champion else []), *slots, *(f"{name}@{number}" for number in numbers)]

    def full_name(self, target: Target) -> str:
        """The served name with the version, where it has a number."""
        return f"{self.settings.name}@{target.version}" if target.version else self.settings.name

    def route(self, model: str, user: str) -> Route:
        """What answers a request.

        Args:
            model: as the client sent it.
            user: what `Live.route` asks about.

        Raises:
            ApiError: 404 for a name that is not ours or a version that is not loaded, 503 when none is.
        """
        live, name = self.live(), self.settings.name
        if model == name:
            found = live.route(user)
        else:
            found = live.named(model[len(name) + 1 :]) if model.startswith((f"{name}@", f"{name}:")) else None
        if found is not None:
            return found
        if not live.slots and model.startswith(name):
            raise self.not_ready()
        raise model_not_found(model, self.model_ids())

    def not_ready(self) -> ApiError:
        """Why nothing answers."""
        return unavailable(self.problem() or "no version is loaded", "no_champion")
