"""How a version is released: the settings, one rollout's record, and the moves that are possible from each state.

candidate → shadow (answers beside the champion, nobody sees them) → canary (a growing share of the users) → champion →
previous. From shadow and canary it may also be held, resumed, aborted and promoted. `moved` is the whole state
machine; the ledger only writes down what it returns.
"""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.records.base import Record
from nacre.records.recipe import Share

State = Literal["candidate", "shadow", "canary", "champion", "previous", "retired", "rolled back", "aborted"]
Action = Literal["start", "advance", "hold", "resume", "approve", "abort", "promote"]
Quality = Literal["shadow", "feedback", "completion"]

ACTIVE: tuple[State, ...] = ("shadow", "canary")
FINISHED: tuple[State, ...] = ("champion", "previous", "retired", "rolled back")
BUCKETS = 10_000  # users are divided into so many; a share is a number of buckets


def _one_user(weight: float) -> float:
    """A share is a number of buckets: one that rounds to none would wait for ever."""
    if round(weight / 100 * BUCKETS) < 1:
        raise ValueError(f"the smallest share is {100 / BUCKETS:g} percent")
    return weight


class Step(Settings):
    """One step of the canary. What is not set holds for all steps."""

    weight: Annotated[float, AfterValidator(_one_user)] = Field(
        gt=0, le=100, description="percent of the users that the new version answers"
    )
    requests: int | None = Field(None, ge=0, description="answers of the new version before the next step")
    minutes: float | None = Field(None, ge=0, description="time before the next step")
    approve: bool | None = Field(None, description="whether a person must approve the next step")


def _steps(value: Any) -> Any:
    """A number is short for a step of that weight."""
    if not isinstance(value, list | tuple):
        return value
    return [{"weight": one} if isinstance(one, int | float) else one for one in value]


class Release(Settings):
    """How `nacre release` brings a version to the users, and what stops it."""

    shadow_requests: int = Field(
        100, ge=0, description="requests that both versions answer, unseen, before the canary; 0: no shadow"
    )
    steps: Annotated[tuple[Step, ...], BeforeValidator(_steps)] = Field(
        tuple(Step(weight=weight) for weight in (1, 5, 25, 50, 100)),
        description="percent of the users, one step after another; none: from the shadow straight to champion",
    )
    min_requests: int = Field(100, ge=0, description="answers of the new version in each step")
    min_minutes: float = Field(0, ge=0, description="time in the shadow and in each step")
    manual: bool = Field(False, description="a person must approve what follows the shadow and each step")
    metrics: dict[Quality, Share] = Field(
        default_factory=dict,
        description="largest drop of shadow (scored pairs), feedback (opinions) and completion (answers not broken "
        "off by the user); default: keep.max_drop, or 0.02 where that is auto",
    )
    max_errors: Share = Field(0.01, description="largest rise of the share of requests that end in an error")
    max_latency: float = Field(0.25, gt=0, description="largest rise of the typical seconds per request, as a share")
    per_person: int = Field(
        1, ge=1, description="answers on which one person's opinion counts: with 1 each has the same say"
    )
    per_key: int | None = Field(
        1000,
        ge=1,
        description="opinions of one key that names no people; beyond them only as many as all others gave, if any did",
    )
    prove: tuple[Literal["shadow", "feedback", "completion", "errors", "latency"], ...] = Field(
        (), description="what must be shown to be within its margin before each step, not only not shown to be beyond"
    )

    @field_validator("steps")
    @classmethod
    def _rising(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        weights = [step.weight for step in steps]
        if sorted(set(weights)) != weights:
            raise ValueError("give weights that rise, e.g. [1, 5, 25, 50, 100]")
        return steps

    @model_validator(mode="after")
    def _tries_something(self) -> "Release":
        if not self.steps and not self.shadow_requests:
            raise ValueError("without shadow_requests and steps nothing is tried: `nacre promote` makes a champion")
        if not self.shadow_requests and self.steps[0].weight == 100:
            raise ValueError(
                "without shadow_requests a first step of 100 has no champion's answers to compare with: "
                "begin below 100, or `nacre promote`"
            )
        if not self.shadow_requests and "shadow" in self.prove:
            raise ValueError("prove: [shadow] needs shadow_requests above 0")
        return self


class Period(Record):
    """A time in which the new version had one share of the users, in percent."""

    weight: float
    since: str


class Rollout(Record):
    """One version on its way to the users.

    Attributes:
        id: number given by the ledger; 0 before it is stored.
        champion: the version it is compared with, champion as long as the rollout is active.
        step: place in `plan.steps`; -1 before the canary.
        generation: rises with every change, so that a decision taken on an older state is refused.
        held: why it goes no further for now; empty when it may.
        approved: whether a person has approved what follows the present stage.
        salt: decides together with a user's name who belongs to the canary; another for each rollout.
        margins: what each quality may lose, see `Release.metrics`, decided when the rollout began.
        confidence: 1 - the chance that any of its tests stops an unharmful version.
        since: when the present stage began.
        periods: the shares the canary had, in order.
        why: the reason of the last change.
    """

    id: int = 0
    version: int
    champion: int
    state: State = "candidate"
    step: int = -1
    generation: int = 0
    held: str = ""
    approved: bool = False
    salt: str
    plan: Release = Release()
    margins: dict[str, float] = Field(default_factory=dict)
    confidence: float = 0.95
    created: str
    since: str
    periods: tuple[Period, ...] = ()
    why: str = ""

    @property
    def active(self) -> bool:
        """Whether it is under way."""
        return self.state in ACTIVE

    @property
    def weight(self) -> float:
        """Percent of the users that the new version answers: what the routes read."""
        return self.plan.steps[self.step].weight if self.state == "canary" else 0.0

    @property
    def compared_since(self) -> str:
        """Since when answers are compared: since users have two arms; where they never have, since the beginning."""
        beside = self.periods and self.periods[0].weight < 100
        return self.periods[0].since if beside else self.created

    @property
    def slot(self) -> str | None:
        """The trial slot its version stands in while it is active."""
        return {"shadow": "shadow", "canary": "challenger"}.get(self.state)

    @property
    def stage(self) -> Step:
        """What the present stage asks for, with nothing left open."""
        found = self.plan.steps[self.step] if self.state == "canary" else Step(weight=100)
        plan = self.plan
        requests = plan.shadow_requests if self.state == "shadow" else plan.min_requests
        return Step(
            weight=found.weight,
            requests=requests if found.requests is None else found.requests,
            minutes=plan.min_minutes if found.minutes is None else found.minutes,
            approve=plan.manual if found.approve is None else found.approve,
        )

    @property
    def last(self) -> bool:
        """Whether the next step makes it champion."""
        return self.step + 1 >= len(self.plan.steps)

    def takes(self, user: str) -> bool:
        """Whether the new version answers this user: the same answer each time, and kept while the share grows."""
        digest = hashlib.sha256(f"{self.salt}\n{user}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % BUCKETS < round(self.weight / 100 * BUCKETS)


def possible(rollout: Rollout) -> tuple[Action, ...]:
    """The moves that the present state allows."""
    if rollout.state == "candidate":
        return ("start",)
    if not rollout.active:
        return ()
    found: list[Action] = ["resume"] if rollout.held else ["hold"]
    if rollout.stage.approve and not rollout.approved:
        found.append("approve")
    elif not rollout.held:
        found.append("advance")
    return (*found, "abort", "promote")


def commands(rollout: Rollout) -> tuple[str, ...]:
    """What people may do about it now, by the names that `nacre release` and the admin API have for it."""
    found = ["tick" if action == "advance" else action for action in possible(rollout)]  # only a look takes it on
    if rollout.active or rollout.state == "champion":
        found.append("rollback")
    return tuple(found)


def moved(rollout: Rollout, action: Action, *, time: str, why: str) -> Rollout:
    """The rollout after a move.

    Raises:
        InputError: the state does not allow it; names what is possible now.
    """
    if action not in possible(rollout):
        raise _impossible(rollout, action)
    common = {"generation": rollout.generation + 1, "why": why}
    if action in ("hold", "resume"):
        return rollout.changed(**common, held=(why or "held") if action == "hold" else "")
    if action == "approve":
        return rollout.changed(**common, approved=True)
    entered = common | {"since": time, "held": "", "approved": False}
    if action == "abort":
        return rollout.changed(**entered, state="aborted")
    if action == "start" and rollout.plan.shadow_requests:
        return rollout.changed(**entered, state="shadow")
    if action == "promote" or rollout.last:
        return rollout.changed(**entered, state="champion")
    step = rollout.step + 1
    periods = (*rollout.periods, Period(weight=rollout.plan.steps[step].weight, since=time))
    return rollout.changed(**entered, state="canary", step=step, periods=periods)


def _impossible(rollout: Rollout, action: Action) -> InputError:
    standing = f"{rollout.state}{f' at {rollout.weight:g} %' if rollout.state == 'canary' else ''}"
    if rollout.held:
        standing += f", held: {rollout.held}"
    elif rollout.active and rollout.stage.approve and not rollout.approved:
        standing += ", waiting for approval"
    allowed = ", ".join(commands(rollout))
    return InputError(
        f"'{action}' is not possible: the rollout of version {rollout.version} is {standing}",
        where=f"release {rollout.id}",
        fix=f"possible now: {allowed}" if allowed else "it has ended; `nacre release start N` begins another",
    )
