"""Numbers and places as people read them, the same in every kind of report."""

from nacre.cycle.reports.facts import Evolved


def number(value: float) -> str:
    """A score."""
    return f"{value:.3f}"


def points(value: float) -> str:
    """A change of a score, with its sign; a minus that is as wide as the plus."""
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")  # + 0.0: no minus before nought


def counts(lost: int, gained: int, words: tuple[str, str]) -> str:
    """How many answers went wrong and right; what did not happen is not named."""
    told = (f"−{lost:,} {words[0]}" if lost else "", f"+{gained:,} {words[1]}" if gained else "")
    return ", ".join(filter(None, told))


def seconds(value: float) -> str:
    """A duration."""
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def bytes_told(count: int) -> str:
    """A size."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def place_of(found: Evolved) -> tuple[str, str]:
    """Where the version stands, as a key of the words, and what is to be said behind it."""
    for slot in ("champion", "challenger", "shadow"):
        if slot in found.slots:
            return slot, ""
    if found.slots:
        return "previous", f" ({', '.join(found.slots)})"
    refused = found.verdict is not None and found.verdict.outcome == "fail"
    return ("not used" if refused else "candidate"), ""
