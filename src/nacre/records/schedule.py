"""What happens by itself, and when: the settings of `nacre schedule`."""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nacre.base.config import Settings
from nacre.records.recipe import Share

Step = Literal["knowledge", "coverage", "harvest", "evolve", "release", "review"]

_AT = "03:00"
_WORDS = {"hour": "{minute} * * * *", "day": "{minute} {hour} * * *", "week": "{minute} {hour} * * 1"}
_WORDS |= {"month": "{minute} {hour} 1 * *", "quarter": "{minute} {hour} 1 1,4,7,10 *"}


def _every(value: str) -> str:
    if value not in _WORDS:
        try:
            CronSim(value, datetime.now(UTC))
        except CronSimError as error:
            known = ", ".join(_WORDS)
            raise ValueError(f"give {known}, or five fields as in a crontab: {str(error).lower()}") from None
        if len(value.split()) != 5:
            raise ValueError(
                "a cron expression has five fields: minute, hour, day of the month, month, day of the week"
            )
    return value


def _at(value: Any) -> Any:
    """YAML reads an unquoted 13:00 as the number 780: thirteen times sixty."""
    return f"{value // 60:02}:{value % 60:02}" if isinstance(value, int) else value


def _command(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"{value!r} cannot be read as a command: {str(error).lower()}") from None
    if not words or not words[0]:
        raise ValueError("a command of run is empty")
    return value


class When(Settings):
    """What makes a schedule due beside its time: any of these."""

    feedback: Annotated[int, Field(ge=1)] | Literal["enough"] | None = Field(
        None, description="rows that a harvest would make now; enough: as many as the gate needs to see a loss on them"
    )
    drift: float | None = Field(
        None,
        gt=0.5,
        le=1,
        description="how surely the questions asked since its last run are told from the champion's rows: area under "
        "the ROC curve, lower end of its interval; 0.5 where they are alike",
    )
    rest: float = Field(24, ge=0, description="hours after a run in which these are not looked at")

    @model_validator(mode="after")
    def _names_something(self) -> "When":
        if self.feedback is None and self.drift is None:
            raise ValueError("name what to look for: feedback, drift, or both")
        return self


class Entry(Settings):
    """One schedule: commands of the user's own, then steps of nacre's."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="what it is called in the history")
    every: Annotated[str, AfterValidator(_every)] | None = Field(
        None,
        description="hour, day, week (Monday), month or quarter (the first), or five fields as in a crontab; in UTC",
    )
    when: When | None = Field(None, description="also, or without every only, when feedback or drift ask for it")
    at: Annotated[str, BeforeValidator(_at)] = Field(
        _AT, pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="time of day where every is a word, UTC; of hour 00:MM"
    )
    run: tuple[Annotated[str, AfterValidator(_command)], ...] = Field(
        (), description="commands run first, in the workspace's folder and without a shell"
    )
    max_hours: float = Field(
        24, gt=0, description="of run: a command that takes longer is killed, with all it started, and has failed"
    )
    do: tuple[Step, ...] = Field((), description="then these, in this order; one that fails ends the schedule")
    models: tuple[str, ...] = Field((), description="of review: folders of base models to compare with the present one")
    questions: Path | None = Field(
        None, description="of coverage and knowledge: a file of questions that must be covered, one a line"
    )
    target: Share = Field(0.95, description="of coverage: the share of the questions that must be covered")
    similarity: Share = Field(
        0.5, description="of coverage: how like a row a question must be (cosine, parts of words)"
    )

    @model_validator(mode="after")
    def _does_something(self) -> "Entry":
        if not self.run and not self.do:
            raise ValueError("a schedule needs something to run or to do")
        if self.every is None and self.when is None:
            raise ValueError("say every, when, or both: nothing else makes a schedule due")
        return self

    @model_validator(mode="after")
    def _ignores_nothing(self) -> "Entry":
        if self.at != _AT and (self.every is None or self.every not in _WORDS):
            raise ValueError("at stands beside a word; five cron fields say the time themselves")
        if self.at != _AT and self.every == "hour" and not self.at.startswith("00:"):
            raise ValueError("of every hour only the minute can be chosen: give at as 00:MM")
        if self.questions is not None and not {"coverage", "knowledge"} & set(self.do):
            raise ValueError("questions are of the step coverage or knowledge, and do names neither")
        if self.models and "review" not in self.do:
            raise ValueError("models are of the step review, which do does not name")
        return self

    @property
    def cron(self) -> str | None:
        """The five fields that `every` and `at` stand for; None where only `when` makes it due."""
        if self.every is None:
            return None
        hour, minute = self.at.split(":")
        return _WORDS.get(self.every, self.every).format(minute=int(minute), hour=int(hour))


TIERS = (
    Entry(name="knowledge", every="week", do=("knowledge", "coverage")),
    Entry(name="increment", every="month", when=When(feedback="enough"), do=("harvest", "evolve")),
    Entry(name="review", every="quarter", do=("review",)),
)


def distinct(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Refuse two schedules of one name: their last runs could not be told apart."""
    names = [entry.name for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two schedules are called {twice}")
    return entries
