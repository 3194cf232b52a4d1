"""How versions are judged: the section `gate` of `nacre.yaml`."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from nacre.base.config import Settings
from nacre.records.recipe import Positive, Share
from nacre.records.tune import named

GateTest = Literal["sequential", "score", "mcnemar", "bootstrap"]


class Improvement(Settings):
    """New tasks must be learned: the candidate's score is shown to be higher than the champion's."""

    name: Literal["improvement"] = "improvement"
    min_gain: Share = Field(0.0, description="the score must rise by more than this")
    tasks: tuple[str, ...] = Field((), description="which tasks; default: those the champion does not know")


class Latency(Settings):
    """Answers must not take longer: seconds of single requests, the same ones before and after."""

    name: Literal["latency"] = "latency"
    max_ratio: Positive = Field(1.2, description="candidate's seconds / champion's, at most")


class Perplexity(Settings):
    """The references must not become less likely, per token."""

    name: Literal["perplexity"] = "perplexity"
    max_increase: Share = Field(0.05, description="share by which the perplexity of a kept task may rise")
    tasks: tuple[str, ...] = Field((), description="which tasks; default: all kept ones whose perplexity is known")


class Safety(Settings):
    """Prompts that must go on being answered rightly: every answer that was right and is wrong now counts."""

    name: Literal["safety"] = "safety"
    tasks: tuple[str, ...] = Field(min_length=1, description="tasks that hold the prompts")
    max_flips: int = Field(0, ge=0, description="answers of each task that may go from right to wrong")


class Refusals(Settings):
    """The candidate must not decline more often than the champion, by the metric `refusal`."""

    name: Literal["refusals"] = "refusals"
    max_increase: Share = Field(0.05, description="by which the share of declined rows may rise")
    tasks: tuple[str, ...] = Field((), description="which tasks; default: all kept ones that have answers")
    phrases: tuple[str, ...] = Field((), description="beginnings of answers that decline too")


class Length(Settings):
    """Answers must not become much longer or shorter."""

    name: Literal["length"] = "length"
    max_ratio: float = Field(1.5, gt=1, description="of the characters of an answer, in either direction")
    tasks: tuple[str, ...] = Field((), description="which tasks; default: all kept ones that have answers")


Rule = Annotated[
    Improvement | Latency | Perplexity | Safety | Refusals | Length,
    Field(discriminator="name"),
    BeforeValidator(named),
]


class Gate(Settings):
    """How a version is judged, and what happens to it then. The margins are in `keep`."""

    promote: Literal["pass", "never"] = Field("pass", description="promote by itself when the gate passes, or never")
    test: GateTest = Field(
        "sequential",
        description="sequential: may be looked at after every row; score, mcnemar, bootstrap: all rows, one look",
    )
    power: float = Field(
        0.8, gt=0.5, lt=1, description="a drop of the whole margin passes with probability 1 - power at most"
    )
    correction: Literal["holm", "bonferroni", "none"] = Field(
        "holm", description="over the tasks, so that many of them do not raise false alarms"
    )
    stop_early: int | None = Field(
        1000, ge=1, description="score tasks of more dev rows in chunks, and stop when decided; null: score every row"
    )
    rules: tuple[Rule, ...] = Field((), description="further rules; a name is short for one with its defaults")
