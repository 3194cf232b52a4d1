"""What `nacre watch` may spend, and how often it looks."""

from typing import Annotated

from pydantic import Field

from nacre.base.config import Settings

Hours = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Budget(Settings):
    """Processor hours for what runs by itself, in windows that end now; what is not set is not limited."""

    day: Hours | None = Field(None, description="processor hours in any 24 hours")
    week: Hours | None = Field(None, description="processor hours in any 7 days")
    month: Hours | None = Field(None, description="processor hours in any 30 days")

    @property
    def days(self) -> dict[int, float]:
        """Hours by the days of their window, of those that are set."""
        found = {1: self.day, 7: self.week, 30: self.month}
        return {days: hours for days, hours in found.items() if hours is not None}


class Watch(Settings):
    """The loop over the schedules."""

    seconds: float = Field(60, gt=0, le=86_400, description="from one look to the next")
    budget: Budget = Field(Budget(), description="beyond it a schedule waits; by hand (`schedule run NAME`) it runs")
