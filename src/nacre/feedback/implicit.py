"""What people say without saying it: they leave, they ask again, they ask in other words, they go on for long.

Numbers in, numbers out; what was answered comes from `nacre.registry.usage`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from nacre.registry.usage import Use

AGAIN_S = 600.0  # the same question within ten minutes is the same wish
SITTING_S = 1800.0  # who says nothing for half an hour has left
ALIKE = 0.5  # share of common pairs of characters from which two questions are one in other words
_BROKEN = ("aborted", "error")
_NOISE = re.compile(r"[\W_]+")

Arm = tuple[int, str]
"""Version and slot that answered."""


@dataclass
class Signals:
    """What the use of one version in one arm says.

    Attributes:
        answers: requests that were answered, to the end or not.
        aborted: the client went away before the end; `failed`: no answer came.
        named: answers to somebody the client names, not failed: only of them it is known what the person did next.
        regenerated: of those, the same person asked the very same within `AGAIN_S`.
        rephrased: of those, the same person asked much the same in other words within `AGAIN_S`.
        seconds: of answers that came to their end; `first_tokens_s`: to the first token, where it is known.
        sittings: answers in each sitting that began here; `sittings_s`: how long those with several lasted.
    """

    answers: int = 0
    aborted: int = 0
    failed: int = 0
    named: int = 0
    regenerated: int = 0
    rephrased: int = 0
    seconds: list[float] = field(default_factory=list)
    first_tokens_s: list[float] = field(default_factory=list)
    sittings: list[int] = field(default_factory=list)
    sittings_s: list[float] = field(default_factory=list)


def signals(uses: Iterable[Use]) -> dict[Arm, Signals]:
    """Read requests, each session's together and in order of time."""
    found: dict[Arm, Signals] = {}
    sitting: list[Use] = []
    for use in uses:
        _count(found.setdefault((use.version, use.arm), Signals()), use)
        if not use.session:
            continue
        if sitting and (use.session != sitting[-1].session or _pause_s(sitting[-1], use) > SITTING_S):
            _sit(found, sitting)
            sitting = []
        sitting.append(use)
    if sitting:
        _sit(found, sitting)
    return found


def _count(one: Signals, use: Use) -> None:
    one.answers += 1
    one.aborted += use.finish == "aborted"
    one.failed += use.finish == "error"
    if use.finish not in _BROKEN:
        one.seconds.append(use.latency_s)
    if use.first_token_s is not None:
        one.first_tokens_s.append(use.first_token_s)


def _sit(found: dict[Arm, Signals], sitting: Sequence[Use]) -> None:
    """One person's requests without a long pause."""
    first, last = sitting[0], sitting[-1]
    began = found[first.version, first.arm]
    began.sittings.append(len(sitting))
    if len(sitting) > 1:
        began.sittings_s.append(_seconds(last) - (_seconds(first) - first.latency_s))
    for use in sitting:
        found[use.version, use.arm].named += use.finish != "error"
    for use, following in pairwise(sitting):
        if use.finish == "error" or _pause_s(use, following) > AGAIN_S:
            continue
        of = found[use.version, use.arm]
        if use.prompt and use.prompt == following.prompt:
            of.regenerated += 1
        elif alike(use.question, following.question) >= ALIKE:
            of.rephrased += 1


def alike(one: str, other: str) -> float:
    """How much two texts have in common, 0 to 1: the Jaccard index of their pairs of letters and figures.

    Case, spaces and punctuation do not count. Pairs, because two Chinese characters are a word; texts of fewer than two
    characters have nothing in common.
    """
    pairs = [{text[place : place + 2] for place in range(len(text) - 1)} for text in map(_bare, (one, other))]
    return len(pairs[0] & pairs[1]) / len(pairs[0] | pairs[1]) if all(pairs) else 0.0


def _bare(text: str) -> str:
    return _NOISE.sub("", text.casefold())


def asked_again(asked: Iterable[tuple[str, str, float]]) -> list[bool]:
    """Of each request, given as person, hash of the prompt and second, whether that person soon asked the same again.

    Requests are in order of time. Where nothing is known of person or prompt, nobody asked again.
    """
    last: dict[tuple[str, str], tuple[int, float]] = {}
    found: list[bool] = []
    for place, (person, prompt, second) in enumerate(asked):
        found.append(False)
        if not (person and prompt):
            continue
        before = last.get((person, prompt))
        if before is not None and second - before[1] <= AGAIN_S:
            found[before[0]] = True
        last[person, prompt] = place, second
    return found


def _pause_s(use: Use, following: Use) -> float:
    """From the end of an answer to the beginning of the next request; below nought where they overlap."""
    return _seconds(following) - following.latency_s - _seconds(use)


def _seconds(use: Use) -> float:
    return datetime.fromisoformat(use.time).timestamp()
