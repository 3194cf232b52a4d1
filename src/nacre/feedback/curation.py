"""From opinions to rows: which feedback becomes the next increment.

Which opinions count says `nacre.feedback.trust`. Of those, a correction is right, four stars or more mean that the
shown answer was right; both are rows to learn (sft). A correction over what was shown, and one answer over another,
are pairs (dpo); thumbs that several people share judge an answer (kto). Each prompt gets the newest correction, first
of people who are trusted; ratings count where nobody corrected. Everything that is left out is counted with its reason.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nacre.data.compose.likeness import plain
from nacre.feedback.agreement import GOOD
from nacre.feedback.rows import Rows, placed, row_of
from nacre.feedback.signals import SIGNALS, Answer, LeftOut
from nacre.feedback.trust import Judged, judge
from nacre.feedback.voices import Heard, hear
from nacre.records import Example, Feedback
from nacre.records.learning import Learning
from nacre.registry.ledger import Ledger

JUDGED_BY_PEOPLE = ("correction", "stars", "thumb", "pair")
PAIRS = "_dpo"  # how the name of an increment of pairs ends
_TIE = 0.5


@dataclass(frozen=True)
class Harvest:
    """Rows made from feedback, not yet marked as used.

    Attributes:
        examples: rows to learn (sft), one an answer, in the order the opinions came.
        feedback_ids: opinions these rows say everything of: to be marked exported once the rows are on disk.
        left_out: reason to number of opinions that became no row.
        pairs, pair_ids: preference pairs (dpo), and the opinions that made them.
        thumbs, thumb_ids: judged answers (kto), and the thumbs that made them.
        held: opinions that are to wait in quarantine, with the reason.
        vouched: whether a person stands for each of the `examples`.
        barely: opinions that count with no more people behind them than must be: two of these could be one.
        ratings: each question that people rated or corrected since the last harvest, and whether that was bad.
    """

    examples: tuple[Example, ...] = ()
    feedback_ids: tuple[int, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    pairs: tuple[Example, ...] = ()
    pair_ids: tuple[int, ...] = ()
    thumbs: tuple[Example, ...] = ()
    thumb_ids: tuple[int, ...] = ()
    held: Mapping[int, str] = field(default_factory=dict)
    vouched: bool = True
    barely: frozenset[int] = frozenset()
    ratings: tuple[tuple[str, bool], ...] = ()

    @property
    def rows(self) -> int:
        """Rows of all three kinds."""
        return len(self.examples) + len(self.pairs) + len(self.thumbs)


@dataclass(frozen=True)
class _Lesson:
    heard: Heard
    answer: Answer
    example: Example
    vouched: bool
    behind: tuple[Feedback, ...] = ()  # the opinions that say the same


def collect(ledger: Ledger, *, task: str, learning: Learning | None = None) -> Harvest:
    """Make rows of all feedback that was not exported before. Nothing is written.

    Marking is the caller's second step, after the rows are safely written:
    ``ledger.export_feedback(harvest.feedback_ids, …)``. Whoever may be killed between the two notes beforehand what
    it writes, as `nacre.cycle.rows.harvest` does, or repeats the rows.

    Args:
        ledger: where opinions and the answers they are about are kept.
        task: the increment's name, written into each row's origin.
        learning: whom to believe; default: as without any settings.
    """
    learning = learning or Learning()
    left_out: Counter[str] = Counter()
    opinions, before = _open_feedback(ledger)
    heard = _newest(_heard(ledger, opinions, learning, left_out), left_out)
    judged = judge([one for one in heard if one.said.kind in JUDGED_BY_PEOPLE], learning.trust)
    lessons = _lessons(heard, judged, left_out)
    chosen = _choose(lessons, left_out)
    pairs, thumbs = Rows(), Rows()
    _pairs(heard, judged, [*lessons, *_corrected_before(ledger, before, learning)], pairs, left_out)
    _judged_pairs(ledger, before, learning.judged_margin, pairs)
    _thumbs(heard, judged, thumbs, left_out)
    left_out.update(judged.held.values())
    return Harvest(
        examples=tuple(placed(lesson.example, task, lesson.behind) for lesson in chosen),
        feedback_ids=tuple(lesson.heard.said.id for lesson in lessons),
        left_out=dict(left_out),
        pairs=pairs.of_task(task),
        pair_ids=pairs.numbers,
        thumbs=thumbs.of_task(task),
        thumb_ids=thumbs.numbers,
        held=judged.held,
        barely=judged.barely,
        vouched=all(lesson.vouched for lesson in chosen),
        ratings=tuple((one.asked.messages[-1].content, bad) for one in heard if (bad := _bad(one)) is not None),
    )


def _open_feedback(ledger: Ledger) -> tuple[list[Feedback], list[Feedback]]:
    """Opinions that nothing was made of and nobody rejected, and those that were exported."""
    found = ledger.feedback()
    waiting = [said for said in found if said.status in ("new", "quarantined", "accepted")]
    return waiting, [said for said in found if said.status == "exported"]


def _heard(ledger: Ledger, opinions: Iterable[Feedback], learning: Learning, left_out: Counter[str]) -> list[Heard]:
    """Opinions on answers that are kept and may be learned from."""
    keys = {held.key.id for held in ledger.keys.all()}
    opinions = list(opinions)
    answers = ledger.usage.interactions({name for said in opinions for name in (said.interaction, said.other)})
    found = []
    for said in opinions:
        asked = answers.get(said.interaction)
        other = answers.get(said.other) if said.other else None
        if asked is None or (said.other and other is None):
            left_out["the interaction is no longer kept"] += 1
        elif "refused" in (asked.consent, other.consent if other else ""):
            left_out["its user did not consent to learning from it"] += 1
        else:
            found.append(hear(said, asked, other, learning.trust, keys))
    return found


def _newest(heard: Sequence[Heard], left_out: Counter[str]) -> list[Heard]:
    """Without ratings that the same person took back by a newer one of the same answer and kind."""
    last = {_rated(one): one for one in sorted(heard, key=lambda one: (one.when, one.said.id))}
    kept = [one for one in heard if _side(one) == _side(last[_rated(one)])]
    if len(kept) < len(heard):
        left_out["a newer opinion of the same person says otherwise"] += len(heard) - len(kept)
    return kept


def _side(one: Heard) -> float | bool | None:
    """What an opinion comes to: of stars whether they are good, of a thumb or a comparison which way it goes."""
    said = one.said
    return said.value is not None and said.value >= GOOD if said.kind == "stars" else said.value


def _rated(one: Heard) -> tuple[str, str, str, str]:
    return one.voice, one.said.interaction, one.said.kind, one.said.other


def _lessons(heard: Iterable[Heard], judged: Judged, left_out: Counter[str]) -> list[_Lesson]:
    """What counts and names an answer."""
    lessons = []
    for one in heard:
        if one.said.kind in ("pair", "thumb"):
            continue
        answer = SIGNALS.load(one.said.kind)().answer(one.asked, one.said)
        if isinstance(answer, LeftOut):
            if one.said.id not in judged.held:
                left_out[answer.reason] += 1
        elif judged.counts(one.said.id):
            example = row_of("sft", one.asked, (answer.text,), one.said)
            if isinstance(example, LeftOut):
                left_out[example.reason] += 1
            else:
                lessons.append(_Lesson(one, answer, example, one.said.id in judged.vouched))
    return lessons


def _choose(lessons: list[_Lesson], left_out: Counter[str]) -> list[_Lesson]:
    """The newest correction of each prompt; where there is none, each different answer that was rated good."""
    prompts: dict[str, list[_Lesson]] = {}
    for lesson in lessons:
        prompts.setdefault(lesson.example.changed(answers=()).content_id, []).append(lesson)
    chosen: list[_Lesson] = []
    for same_prompt in prompts.values():
        rank = max((lesson.vouched, lesson.answer.rank) for lesson in same_prompt)
        best = [lesson for lesson in same_prompt if (lesson.vouched, lesson.answer.rank) == rank]
        kept = best[-1:] if rank[1] > 1 else list({lesson.example.content_id: lesson for lesson in best}.values())
        chosen += [_with_all(lesson, same_prompt) for lesson in kept]
        same = {plain(lesson.answer.text) for lesson in kept}
        agreeing = sum(plain(lesson.answer.text) in same for lesson in same_prompt) - len(kept)
        left_out["the same row twice"] += agreeing
        others = [lesson for lesson in same_prompt if plain(lesson.answer.text) not in same]
        newer = sum((lesson.vouched, lesson.answer.rank) == rank for lesson in others)
        left_out["a newer correction of the same prompt"] += newer
        left_out["a correction of the same prompt counts instead"] += len(others) - newer
    for reason in [reason for reason, count in left_out.items() if not count]:
        del left_out[reason]
    return sorted(chosen, key=lambda lesson: lesson.heard.said.id)


def _with_all(lesson: _Lesson, others: Sequence[_Lesson]) -> _Lesson:
    """The lesson with all opinions that say the same behind it."""
    text = plain(lesson.answer.text)
    said = [one.heard.said for one in others if one is not lesson and plain(one.answer.text) == text]
    return replace(lesson, behind=(lesson.heard.said, *said))


def _corrected_before(ledger: Ledger, before: Iterable[Feedback], learning: Learning) -> list[_Lesson]:
    """Corrections that were learned and of which no pair was made yet."""
    found = [said for said in before if said.kind == "correction" and said.increment and not _paired(said)]
    heard = _heard(ledger, found, learning, Counter())
    return _lessons(heard, Judged(vouched=frozenset(said.id for said in found)), Counter())


def _paired(said: Feedback) -> bool:
    """Whether an increment of pairs was made of it."""
    return any(name.endswith(PAIRS) for name in said.increment.split("+"))


def _pairs(
    heard: Iterable[Heard], judged: Judged, lessons: Iterable[_Lesson], found: Rows, left_out: Counter[str]
) -> None:
    """Corrections over what was shown, and answers that people prefer over others."""
    for lesson in lessons:
        one, shown = lesson.heard, lesson.heard.asked.answer
        if one.said.kind == "correction" and shown.strip() and plain(shown) != plain(lesson.answer.text):
            found.add(row_of("preference", one.asked, (lesson.answer.text, shown), one.said), one.said)
    for one in heard:
        if one.said.kind != "pair" or one.other is None:
            continue
        answers = (one.asked.answer, one.other.answer)
        if one.said.value == _TIE:
            left_out["a comparison without a winner"] += 1
        elif not all(answer.strip() for answer in answers) or plain(answers[0]) == plain(answers[1]):
            left_out["a comparison of answers that are equal or empty"] += 1
        elif judged.counts(one.said.id):
            chosen = answers if one.said.value else answers[::-1]
            found.add(row_of("preference", one.asked, chosen, one.said), one.said)


def _judged_pairs(ledger: Ledger, before: Iterable[Feedback], margin: float, found: Rows) -> None:
    """Answers of champion and shadow to one request that a judge found clearly different in quality."""
    scores: dict[str, dict[str, Feedback]] = {}
    for said in before:
        if said.kind == "score" and not said.increment:
            scores.setdefault(said.interaction, {}).setdefault(said.source, said)
    kept = ledger.usage.interactions(scores)
    for name, of_shadow in scores.items():
        new = kept.get(name)
        old = kept.get(new.twin) if new and new.twin else None
        if new is None or old is None or "refused" in (new.consent, old.consent):
            continue
        source = next((one for one in of_shadow if one in scores.get(old.id, {})), None)
        if source is None:
            continue
        both = (of_shadow[source], scores[old.id][source])
        difference = (both[0].value or 0.0) - (both[1].value or 0.0)
        answers = (new.answer, old.answer) if difference > 0 else (old.answer, new.answer)
        whole = all(answer.strip() for answer in answers) and plain(answers[0]) != plain(answers[1])
        if abs(difference) >= margin and whole and {new.finish, old.finish} == {"stop"}:
            found.add(row_of("preference", old, answers, both[0]), *both)


def _thumbs(heard: Iterable[Heard], judged: Judged, found: Rows, left_out: Counter[str]) -> None:
    """Answers that several people's thumbs, or one that a person accepted, judge."""
    for one in heard:
        if one.said.kind != "thumb" or one.said.id in judged.held:
            continue
        if not judged.counts(one.said.id):
            left_out["a thumb alone teaches no answer"] += 1
        elif one.asked.finish != "stop" or not one.asked.answer.strip():
            left_out["a thumb for an answer that was cut off or empty"] += 1
        else:
            up = one.said.value == 1
            found.add(row_of("kto", one.asked, (one.asked.answer,), one.said, desirable=up), one.said)


def _bad(one: Heard) -> bool | None:
    """Whether an opinion says that the answer was bad; None where it does not say."""
    said = one.said
    if said.kind == "correction":
        return True
    if said.kind not in ("stars", "thumb") or said.value is None:
        return None
    return said.value <= 2 if said.kind == "stars" else said.value == 0
