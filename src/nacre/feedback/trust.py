"""Which opinions count: those of people who are trusted, that a person accepted, or that independent people share.

Everything else waits with its reason. In this order: bursts, caps, people who act as one, people at odds with what
others agree on, and at last whether enough agree. Why so: docs/decisions/0015-whose-word-counts.md.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nacre.base.hashing import sha256_text
from nacre.feedback.agreement import GOOD, Agreement, Stance, stances
from nacre.feedback.voices import Heard, acting_as_one, bursts
from nacre.records.learning import Trust

BURST = "too many opinions of one person in a short time"
CAPPED_PERSON = "beyond what one person may say of an increment"
CAPPED_KEY = "beyond what one key may say of an increment"
AT_ODDS = "its person contradicts what others agree on"
AS_ONE = "; people who act as one count as one"
_ALWAYS = 10  # prompts on which anybody may be heard, however small the share is


@dataclass(frozen=True)
class Judged:
    """Which opinions count, and why others do not yet.

    Attributes:
        vouched: numbers of those that count because of who said them, or because a person accepted them.
        agreed: numbers of those that count because independent people say the same.
        barely: of those agreed the ones that no more people share than must.
        held: number to reason of those that wait; thumbs that nobody shares are in none of the three.
    """

    vouched: frozenset[int] = frozenset()
    agreed: frozenset[int] = frozenset()
    barely: frozenset[int] = frozenset()
    held: Mapping[int, str] = field(default_factory=dict)

    def counts(self, number: int) -> bool:
        """Whether an opinion counts."""
        return number in self.vouched or number in self.agreed


def judge(heard: Sequence[Heard], trust: Trust, *, seed: int = 0) -> Judged:
    """Tell the opinions that count from those that wait.

    Args:
        heard: opinions that nobody rejected, whatever kind.
        trust: the rules.
        seed: which prompts of somebody beyond their cap are heard; the same for the same prompts in any order.
    """
    ordered = sorted(heard, key=lambda one: (one.when, one.said.id))
    vouched = {one.said.id for one in ordered if _vouched(one)}
    held: dict[int, str] = dict.fromkeys((number for number in bursts(ordered, trust) if number not in vouched), BURST)
    open_ = [one for one in ordered if one.said.id not in held]
    free = [one for one in open_ if one.said.id not in vouched and not one.trusted and stances(one, one.voice)]
    same = acting_as_one(open_, trust)
    held |= _beyond(free, lambda one: same.get(one.voice, one.voice), (trust.person_rows, trust.person_share), seed)
    if len({one.said.source for one in free}) > 1:
        rest = [one for one in free if one.said.id not in held]
        beyond = _beyond(rest, lambda one: one.said.source, (trust.key_rows, trust.key_share), seed)
        held |= dict.fromkeys(beyond, CAPPED_KEY)
    said = [
        stance
        for one in open_
        if one.said.id not in held
        for stance in stances(one, one.voice if one.trusted else same.get(one.voice, one.voice))
    ]
    found = Agreement(said, trust)
    if odd := found.at_odds(vouched) - {one.voice for one in ordered if one.trusted}:
        held |= {one.id: AT_ODDS for one in said if one.voice in odd and one.id not in vouched}
        said = [one for one in said if one.voice not in odd or one.id in vouched]
        found = Agreement(said, trust)
    agreed, waiting = _agreed(said, found, vouched)
    barely = {one.id for one in said if one.id in agreed and not one.aside and found.people(one) <= trust.people}
    people = Counter(same.values())
    merged = {one.id for one in said if people[one.voice] > 1}
    held |= {number: why + (AS_ONE if number in merged else "") for number, why in waiting.items()}
    thumbs = {one.said.id for one in ordered if one.said.kind == "thumb" and one.said.id in waiting}
    useful = {one.said.id for one in ordered if _may_teach(one)}
    told = {number: why for number, why in sorted(held.items()) if number in useful and number not in thumbs}
    return Judged(frozenset(vouched), frozenset(agreed), frozenset(barely), told)


def _vouched(one: Heard) -> bool:
    """Whether a person stands for it; for a thumb it takes more than trust in who gave it."""
    return one.said.status == "accepted" or (one.trusted and one.said.kind != "thumb")


def _may_teach(one: Heard) -> bool:
    """Whether such an opinion could become a row."""
    said = one.said
    return said.kind in ("correction", "thumb", "pair") or (said.kind == "stars" and (said.value or 0) >= GOOD)


def _agreed(said: Sequence[Stance], found: Agreement, vouched: Collection[int]) -> tuple[set[int], dict[int, str]]:
    """Numbers of opinions that enough people share, and of the others why not."""
    agreed: set[int] = set()
    waiting: dict[int, str] = {}
    for one in said:
        if one.id in vouched or one.aside:
            continue
        why = found.missing(one)
        if not why:
            agreed.add(one.id)
        else:
            waiting[one.id] = why
    return agreed, waiting


def _beyond(heard: Sequence[Heard], who: Callable[[Heard], str], most: tuple[int, float], seed: int) -> dict[int, str]:
    """Opinions on more prompts than one may be heard on; which prompts those are is drawn."""
    prompts: dict[str, set[str]] = defaultdict(set)
    for one in heard:
        prompts[who(one)].add(one.prompt)
    every = len({one.prompt for one in heard})
    allowed = min(most[0], max(_ALWAYS, int(most[1] * every)))
    kept = {
        name: set(sorted(asked, key=lambda prompt: sha256_text(f"{seed}/{prompt}"))[:allowed])
        for name, asked in prompts.items()
        if len(asked) > allowed
    }
    return {one.said.id: CAPPED_PERSON for one in heard if who(one) in kept and one.prompt not in kept[who(one)]}
