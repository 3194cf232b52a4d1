"""Steps by name, as the tests use them."""

from typing import Any

from nacre.data.clean import CLEANERS
from nacre.data.clean.marks import Marks


def step(name: str, **settings: Any) -> Any:
    cleaner = CLEANERS.load(name)
    return cleaner(cleaner.Config(**settings))


def cleaned(name: str, text: str, **settings: Any) -> str:
    """What the step makes of the text when it is asked, and that its marks would have it asked."""
    made = step(name, **settings)
    after = made.text(text)
    assert after == text or Marks([made.marks()]).steps(text), f"{name} changes {text!r}, but no mark shows it"
    assert step(name, **settings).text(after) == after, f"{name} cleans {after!r} again"
    return str(after)
