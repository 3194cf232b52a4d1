"""Who speaks: people behind opinions, those whose word counts at once, and those who act as one.

A person is the hash of a user that the client names; where it names none, everybody who uses one key is one person.
Whoever says too much in a short time is not heard. People who say the same of the same prompts one after another
(the lockstep that CopyCatch looks for, Beutel et al., WWW 2013), or send one long text, count as one person: what
they agree on shows nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nacre.data.compose.likeness import Likeness, Sets, plain
from nacre.records import Feedback, Interaction
from nacre.records.learning import Trust

IMPORTED = "import"  # how the source of what was imported begins
IMPORTED_ARM = "imported"  # of the answers that imported opinions are about, where this workspace did not give them
_LONG = 60  # characters: two people do not write the same so long text by chance
_TOGETHER = 3  # opinions that two must share before they can act as one
_SHARED = 0.5  # of all that both said
_NEIGHBOURS = 50  # who said the same next, of so many; bounds the work on a prompt that thousands rate


@dataclass(frozen=True)
class Heard:
    """One opinion with the answer it is about, and who holds it.

    Attributes:
        voice: the person.
        trusted: their word counts at once.
        prompt: the question, as it is compared.
        other: of a pair the answer it was compared with.
    """

    said: Feedback
    asked: Interaction
    voice: str
    trusted: bool
    prompt: str
    other: Interaction | None = None

    @property
    def when(self) -> float:
        """Seconds since 1970; 0 where the time cannot be read."""
        return seconds(self.said.time)


def hear(said: Feedback, asked: Interaction, other: Interaction | None, trust: Trust, keys: Collection[str]) -> Heard:
    """Who holds an opinion.

    Args:
        keys: ids of the ledger's keys; any other is one of the configuration, which is the operator's.
    """
    person = said.person
    imported = said.source.startswith(IMPORTED)
    operator = trust.operator and not person and not imported and said.source not in keys
    trusted = operator or bool({said.source, person} & set(trust.trusted) - {""})
    voice = f"person {person}" if person else f"key {said.source}"
    return Heard(said, asked, voice, trusted, prompt_of(asked), other)


def prompt_of(asked: Interaction) -> str:
    """What was asked, as it is compared: all turns, white space and case aside."""
    return plain("\n".join(f"{turn.role}: {turn.content}" for turn in asked.messages))


def seconds(time: str) -> float:
    """A time as seconds since 1970; without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(time)
    except ValueError:
        return 0.0
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def bursts(heard: Iterable[Heard], trust: Trust) -> set[int]:
    """Ids of opinions that one person gave faster than is heard; of a burst all."""
    times: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for one in heard:
        if not one.trusted:
            times[one.voice].append((one.when, one.said.id))
    found: set[int] = set()
    for said in times.values():
        said.sort()
        first = 0
        for last, (when, _) in enumerate(said):
            while when - said[first][0] > trust.burst_minutes * 60:
                first += 1
            if last - first >= trust.burst:
                found.update(number for _, number in said[first : last + 1])
    return found


def acting_as_one(heard: Sequence[Heard], trust: Trust) -> Mapping[str, str]:
    """For each person the one that stands for all who act like them; themselves for most."""
    others = [one for one in heard if not one.trusted]
    names = list(dict.fromkeys(one.voice for one in others))
    place = {name: number for number, name in enumerate(names)}
    sets = Sets(len(names))
    for first, second in [*_in_lockstep(others, trust), *_copied(others, trust)]:
        sets.join(place[first], place[second])
    return {name: names[sets.root(number)] for name, number in place.items()}


def _in_lockstep(heard: Sequence[Heard], trust: Trust) -> list[tuple[str, str]]:
    """Two people most of whose opinions are the same, given soon after each other."""
    said: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    count: Counter[str] = Counter()
    for one in heard:
        if one.voice not in said[one.prompt, _stance(one)]:
            said[one.prompt, _stance(one)][one.voice] = one.when
            count[one.voice] += 1
    shared: Counter[tuple[str, str]] = Counter()
    for voices in said.values():
        order = sorted(voices, key=lambda name: (voices[name], name))
        for place, first in enumerate(order):
            for second in order[place + 1 : place + 1 + _NEIGHBOURS]:
                if voices[second] - voices[first] > trust.copied_minutes * 60:
                    break
                shared[min(first, second), max(first, second)] += 1
    return [
        pair
        for pair, both in shared.items()
        if both >= _TOGETHER and both >= _SHARED * (count[pair[0]] + count[pair[1]] - both)
    ]


def _stance(one: Heard) -> str:
    value = "" if one.said.value is None else f"{one.said.value:g}"
    return f"{one.said.kind} {value} {plain(one.said.text)} {plain(one.asked.answer)}"


def _copied(heard: Sequence[Heard], trust: Trust) -> list[tuple[str, str]]:
    """People who sent one long text that is not the shown answer put right."""
    long = [one for one in heard if one.said.kind == "correction" and len(plain(one.said.text)) >= _LONG]
    if not long:
        return []
    count = len(long)
    found = Likeness([one.said.text for one in long] + [one.asked.answer for one in long], trust.near)
    sets = Sets(count)
    found.join(sets, count)
    loose = Likeness([one.said.text for one in long] + [one.asked.answer for one in long], _SHARED)
    groups: dict[int, list[Heard]] = defaultdict(list)
    for place, one in enumerate(long):
        if not loose.alike(place, count + place):
            groups[sets.root(place)].append(one)
    pairs = []
    for group in groups.values():
        group.sort(key=lambda one: (one.when, one.said.id))
        voices: Counter[str] = Counter()  # of those from `first` on
        first = 0
        for place, one in enumerate(group):
            voices[one.voice] += 1
            while one.when - group[first].when > trust.copied_minutes * 60:
                voices -= Counter((group[first].voice,))
                first += 1
            if len(voices) >= trust.copied:
                last = group[max(first, place - _NEIGHBOURS) : place]
                pairs += [(one.voice, other.voice) for other in last]
    return pairs
