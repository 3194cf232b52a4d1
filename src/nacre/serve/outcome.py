"""How one request for an answer ended: what is counted, charged, kept, and shown to the shadow."""

from dataclasses import dataclass

from nacre.base.clock import now
from nacre.records import ChatTurn, Interaction
from nacre.records.feedback import Consent
from nacre.serve.engines import Prompt, Sampling
from nacre.serve.gateway.callers import Caller
from nacre.serve.gateway.metrics import Metrics
from nacre.serve.routing import Route


@dataclass(slots=True)  # not frozen, as a frozen one takes three times as long to make; nobody changes it
class Outcome:
    """One answer, or the error that came instead.

    Attributes:
        id: the response id the client saw.
        route: the version that answered, and as which arm.
        caller: who asked.
        user: the name by which the routes assigned the request; empty where the client names no user.
        prompt: what was asked, as the engine got it.
        sampling: how the answer was drawn.
        turns: the conversation as it is kept.
        answer: the text; what there was of it where it was broken off.
        finish: OpenAI's finish reason, ``aborted`` when the client went away, ``error`` when no answer came.
        latency_s: seconds from the request's arrival to the last token.
        keep: whether the client allows that it is kept (no ``x-nacre-no-store``).
        plain: whether it is text alone: no tools, no second choice.
        consent: whether it may be learned from, see `Interaction`.
        first_token_s: seconds from the request's arrival to the first token; None where the engine does not say.
    """

    id: str
    route: Route
    caller: Caller
    user: str
    prompt: Prompt
    sampling: Sampling
    turns: tuple[ChatTurn, ...]
    answer: str
    finish: str
    prompt_tokens: int
    answer_tokens: int
    latency_s: float
    keep: bool = True
    plain: bool = True
    consent: Consent = "assumed"
    first_token_s: float | None = None

    def count(self, metrics: Metrics) -> None:
        """Tell the numbers."""
        tokens = (self.prompt_tokens, self.answer_tokens)
        metrics.answer(self.route.arm, self.route.target.version, self.finish, self.latency_s, tokens)

    @property
    def interaction(self) -> Interaction:
        """As it is kept in the ledger, before anything was taken out of its texts."""
        return Interaction(
            id=self.id,
            time=now(),
            version=self.route.target.version,
            arm=self.route.arm,
            session=self.user,
            messages=self.turns,
            answer=self.answer,
            finish=self.finish,
            prompt_tokens=self.prompt_tokens,
            answer_tokens=self.answer_tokens,
            latency_s=self.latency_s,
            first_token_s=self.first_token_s,
            consent=self.consent,
            key=self.caller.id,
        )
