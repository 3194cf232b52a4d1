"""Whether people agree well enough for their answers to be trained on."""

from typing import NamedTuple

from nacre.records.verdict import Outcome
from nacre.stats.agreement import Agreement

AT_LEAST = 0.8  # kappa from which conclusions are usually drawn (Krippendorff 2004; McHugh 2012: "strong")
ITEMS = 100  # below it the interval itself is not to be trusted


class Agreed(NamedTuple):
    """The outcome, and one sentence that says why."""

    outcome: Outcome
    why: str


def judge_agreement(found: Agreement, *, at_least: float = AT_LEAST, items: int = ITEMS) -> Agreed:
    """Pass where the whole interval of kappa lies at or above the target, fail where it lies below.

    Undecided where the interval holds the target, where there are fewer items than asked for, and where kappa cannot
    be computed.
    """
    if found.items < items:
        missing = items - found.items
        return Agreed("undecided", f"too few items: {found.items} of {items} were answered by several, {missing} more")
    if found.value is None or found.low is None or found.high is None:
        return Agreed("undecided", found.reason)
    shown = f"{found.value:.3f}, 95% interval {found.low:.3f} to {found.high:.3f}"
    if found.low >= at_least:
        return Agreed("pass", f"kappa {shown}: all of it at {at_least:g} or above")
    if found.high < at_least:
        return Agreed("fail", f"kappa {shown}: all of it below {at_least:g}")
    return Agreed("undecided", f"kappa {shown}: {at_least:g} lies within it, more items would decide")
