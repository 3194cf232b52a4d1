"""What is kept, and for how long: the section `retention` of nacre.yaml, which `nacre gc` carries out."""

from typing import Literal

from pydantic import Field

from nacre.base.config import Settings


class Retention(Settings):
    """Which weights, answers and opinions `nacre gc` may take away. The records of a version always stay.

    What a slot, a rollout, a pin or a running server needs is never taken, whatever stands here.
    """

    versions: int | None = Field(
        None, ge=1, description="keep the weights of the last so many; without this and days: of all"
    )
    days: float | None = Field(None, ge=0, description="keep the weights of all that were made within so many days")
    parents: Literal["one", "all"] = Field(
        "one", description="of a version that is kept: the one it was trained from, to reproduce it, or all before it"
    )
    interaction_days: float | None = Field(
        None, ge=0, le=36500, description="keep answers, and opinions on them, for so many days; default: for ever"
    )
    feedback_days: float | None = Field(
        None, ge=0, le=36500, description="keep opinions for so many days, none without its answer; default: for ever"
    )
    run_days: float = Field(7.0, ge=0, description="keep unfinished trainings that were touched within so many days")
    cache_days: float = Field(30.0, ge=0, description="keep what can be computed again, written within so many days")
