"""What people say about the answers to a prompt, and how many independent ones say the same."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nacre.data.compose.likeness import Likeness, Sets, plain
from nacre.feedback.voices import Heard
from nacre.records.learning import Trust

GOOD, BAD = 4, 2  # stars from which an answer is right, and up to which it is wrong
_ENDS = ".!?。！？… "
_CONTRADICTIONS = 2  # before somebody is at odds with the others

Sign = Literal["right", "wrong", "better"]


@dataclass(frozen=True)
class Stance:
    """One opinion as a statement: that a text is the right or a wrong answer to a prompt, or better than another.

    Attributes:
        worse: the answer that it is better than; of a correction the one it replaces.
        names: it says what the answer is, and so that others are not.
        aside: it is said beside something else.
    """

    id: int
    voice: str
    key: str
    prompt: str
    sign: Sign
    text: str
    worse: str = ""
    names: bool = False
    aside: bool = False


def stances(one: Heard, voice: str) -> list[Stance]:
    """What an opinion says; a correction says two things."""
    said, shown = one.said, one.asked.answer

    def stance(sign: Sign, text: str, worse: str = "", names: bool = False) -> Stance:
        return Stance(said.id, voice, said.source, one.prompt, sign, _answer(text), _answer(worse), names)

    if said.kind == "correction":
        right = stance("right", said.text, shown, names=True)
        return [right, replace(stance("wrong", shown), aside=True)] if _answer(shown) != right.text else [right]
    if said.kind == "pair" and one.other is not None and said.value in (0, 1):
        better, worse = (shown, one.other.answer) if said.value else (one.other.answer, shown)
        return [stance("better", better, worse)]
    good = said.value is not None and said.value >= (GOOD if said.kind == "stars" else 1)
    bad = said.value is not None and said.value <= (BAD if said.kind == "stars" else 0)
    if said.kind in ("stars", "thumb") and (good or bad):
        return [stance("right" if good else "wrong", shown)]
    return []


def _answer(text: str) -> str:
    return plain(text).rstrip(_ENDS)


class Agreement:
    """Who agrees with whom. Of one person the newest correction of a prompt counts.

    Args:
        said: what was said, in order of time.
        trust: how many must agree.
    """

    def __init__(self, said: Sequence[Stance], trust: Trust) -> None:
        self._trust = trust
        newest = {(one.voice, one.prompt): one.id for one in said if one.names}
        self._said = [one for one in said if not one.names or newest[one.voice, one.prompt] == one.id]
        self._prompts = _grouped([one.prompt for one in said], trust.near)
        texts: dict[int, list[str]] = defaultdict(list)
        for one in said:
            texts[self._prompts[one.prompt]] += [one.text, one.worse]
        self._texts = {group: _grouped(found, trust.near) for group, found in texts.items()}
        self._right: dict[tuple[int, int], set[Stance]] = defaultdict(set)
        self._named: dict[str, dict[str, int]] = defaultdict(dict)
        self._wrong: dict[tuple[str, int], set[Stance]] = defaultdict(set)
        self._better: dict[tuple[str, int, int], set[Stance]] = defaultdict(set)
        self._answered: dict[tuple[object, ...], str] = {}
        for one in self._said:
            self._file(one)

    def _file(self, one: Stance) -> None:
        text = self._text(one.prompt, one.text)
        if one.sign == "right":
            self._right[self._prompts[one.prompt], text].add(one)
            if one.names:
                self._named[one.prompt][one.voice] = text
        elif one.sign == "wrong":
            self._wrong[one.prompt, text].add(one)
        else:
            self._better[one.prompt, text, self._text(one.prompt, one.worse)].add(one)

    def _text(self, prompt: str, text: str) -> int:
        return self._texts[self._prompts[prompt]][text]

    def missing(self, one: Stance) -> str:
        """Why too few say so for it to count; empty where enough do."""
        asked = (one.sign, one.prompt, one.text, one.worse, one.names)
        if asked not in self._answered:
            self._answered[asked] = self._missing(one)
        return self._answered[asked]

    def people(self, one: Stance) -> int:
        """How many independent people say so."""
        text = self._text(one.prompt, one.text)
        if one.sign == "right":
            found = self._right[self._prompts[one.prompt], text]
        elif one.sign == "wrong":
            found = self._wrong[one.prompt, text]
        else:
            found = self._better[one.prompt, text, self._text(one.prompt, one.worse)]
        return len({other.voice for other in found})

    def _missing(self, one: Stance) -> str:
        text = self._text(one.prompt, one.text)
        right = self._right.get((self._prompts[one.prompt], text), set())
        wrong = {other.voice for other in self._wrong.get((one.prompt, text), ())}
        if one.sign == "right":
            others = {voice for voice, said in self._named.get(one.prompt, {}).items() if said != text}
            praise = self._right.get((self._prompts[one.prompt], self._text(one.prompt, one.worse)), ())
            replaced = one.names and self._text(one.prompt, one.worse) != text
            return self._enough(right, wrong | others | ({other.voice for other in praise} if replaced else set()))
        if one.sign == "wrong":
            return self._enough(self._wrong[one.prompt, text], {other.voice for other in right})
        worse = self._text(one.prompt, one.worse)
        against = self._better.get((one.prompt, worse, text), set())
        return self._enough(self._better[one.prompt, text, worse], {other.voice for other in against})

    def _enough(self, agreeing: Iterable[Stance], others: Collection[str]) -> str:
        agreeing = list(agreeing)
        people, keys = {one.voice for one in agreeing}, {one.key for one in agreeing}
        against = set(others) - people
        if against and len(people) < self._trust.agree * len(people | against):
            return "people differ about this prompt"
        if len(people) < self._trust.people:
            return f"fewer than {self._trust.people} independent people say so"
        if len(keys) < self._trust.keys:
            return f"said through fewer than {self._trust.keys} keys"
        return ""

    def at_odds(self, vouched: Collection[int]) -> set[str]:
        """People who contradict what others agree on, or what is vouched for, more often than they agree with it."""
        truth: dict[str, set[int]] = defaultdict(set)
        for one in self._said:
            if one.sign == "right" and (one.id in vouched or not self.missing(one)):
                truth[one.prompt].add(self._text(one.prompt, one.text))
        score: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for one in self._said:
            if one.sign != "better" and not one.aside and one.prompt in truth and one.id not in vouched:
                right = (self._text(one.prompt, one.text) in truth[one.prompt]) == (one.sign == "right")
                score[one.voice][right] += 1
        return {voice for voice, (against, along) in score.items() if against >= _CONTRADICTIONS and against > along}


def _grouped(texts: Iterable[str], near: float) -> Mapping[str, int]:
    """For each text the group of those like it."""
    distinct = list(dict.fromkeys(texts))
    sets = Sets(len(distinct))
    if len(distinct) > 1:
        Likeness(distinct, near).join(sets, len(distinct))
    return {text: sets.root(place) for place, text in enumerate(distinct)}
