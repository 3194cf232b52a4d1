"""What the routes work with."""

from collections.abc import Callable
from dataclasses import dataclass, field

from nacre.registry.ledger import Ledger
from nacre.serve.engines import Engine, Target
from nacre.serve.errors import ApiError, model_not_found, unavailable
from nacre.serve.ids import Signer
from nacre.serve.interactions import Writer
from nacre.serve.settings import Serve


@dataclass(frozen=True)
class Memory:
    """Where answers and opinions about them are kept."""

    ledger: Ledger
    writer: Writer


@dataclass(frozen=True)
class Service:
    """One server: its engine, its settings, and its memory (None when it serves a folder without a ledger).

    Attributes:
        problem: what keeps the newest champion from being served; empty when nothing does.
    """

    settings: Serve
    engine: Engine
    signer: Signer
    memory: Memory | None = None
    problem: Callable[[], str] = field(default=lambda: "")

    def model_ids(self) -> list[str]:
        """The names that are answered now: ``bot``, and ``bot@7`` while version 7 is loaded."""
        target = self.engine.target
        if target is None:
            return []
        return [self.settings.name, *([self.full_name(target)] if target.version else [])]

    def full_name(self, target: Target) -> str:
        """The served name with the version, where it has a number."""
        return f"{self.settings.name}@{target.version}" if target.version else self.settings.name

    def check_model(self, name: str) -> None:
        """Refuse a model name that nothing answers to.

        Raises:
            ApiError: 404 for a name that is not ours or a version that is not loaded, 503 when none is.
        """
        ours = name.partition("@")[0] == self.settings.name
        if self.engine.target is None and ours:
            raise self.not_ready()
        if name not in self.model_ids():
            raise model_not_found(name, self.model_ids())

    def not_ready(self) -> ApiError:
        """Why nothing answers."""
        return unavailable(self.problem() or "no version is loaded", "no_champion")
