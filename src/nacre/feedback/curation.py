"""From opinions to rows: which feedback becomes the next increment.

The rule is simple, because one operator speaks: a correction is right, four stars or more mean that the shown
answer was right, and nothing else names an answer. Each prompt gets its corrections' newest word; ratings count
where nobody corrected. What is rejected stays out; everything that is left out is counted with its reason.
"""

from collections import Counter
from dataclasses import dataclass, field

from nacre.feedback.signals import SIGNALS, Answer, LeftOut
from nacre.records import Example, Feedback, Interaction, Message, Origin
from nacre.registry.ledger import Ledger


@dataclass(frozen=True)
class Harvest:
    """Rows made from feedback, not yet marked as used.

    Attributes:
        examples: one row an answer, in the order the opinions came.
        feedback_ids: opinions these rows say everything of: to be marked exported once the rows are on disk.
        left_out: reason to number of opinions that became no row.
    """

    examples: tuple[Example, ...] = ()
    feedback_ids: tuple[int, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Lesson:
    said: Feedback
    answer: Answer
    example: Example


def collect(ledger: Ledger, *, task: str) -> Harvest:
    """Make rows of all feedback that was not exported before.

    Marking is the caller's second step, after the rows are safely written:
    ``ledger.export_feedback(harvest.feedback_ids, …)``. Whoever may be killed between the two notes beforehand what
    it writes, as `nacre.cycle.rows.harvest` does, or repeats the rows.

    Args:
        ledger: where opinions and the answers they are about are kept.
        task: the increment's name, written into each row's origin.
    """
    lessons: list[_Lesson] = []
    left_out: Counter[str] = Counter()
    for said in _open_feedback(ledger):
        found = _lesson(ledger, said, task)
        if isinstance(found, LeftOut):
            left_out[found.reason] += 1
        else:
            lessons.append(found)
    chosen = _choose(lessons, left_out)
    return Harvest(
        examples=tuple(lesson.example for lesson in chosen),
        feedback_ids=tuple(lesson.said.id for lesson in lessons),
        left_out=dict(left_out),
    )


def _open_feedback(ledger: Ledger) -> list[Feedback]:
    opinions = [*ledger.feedback(status="new"), *ledger.feedback(status="accepted")]
    return sorted(opinions, key=lambda said: said.id)


def _lesson(ledger: Ledger, said: Feedback, task: str) -> _Lesson | LeftOut:
    interaction = ledger.interaction(said.interaction)
    if interaction is None:
        return LeftOut("the interaction is no longer kept")
    answer = SIGNALS.load(said.kind)().answer(interaction, said)
    return answer if isinstance(answer, LeftOut) else _Lesson(said, answer, _example(interaction, answer, task))


def _example(interaction: Interaction, answer: Answer, task: str) -> Example:
    system = [turn.content for turn in interaction.messages if turn.role in ("system", "developer")]
    rest = [turn for turn in interaction.messages if turn.role not in ("system", "developer")]
    return Example(
        prompt=tuple(Message.model_validate({"role": turn.role, "content": turn.content}) for turn in rest),
        answers=(Message(role="assistant", content=answer.text),),
        system="\n\n".join(system),
        origin=Origin(task=task, time=interaction.time, file=interaction.id),
    )


def _choose(lessons: list[_Lesson], left_out: Counter[str]) -> list[_Lesson]:
    """The newest correction of each prompt; where there is none, each different answer that was rated good."""
    prompts: dict[str, list[_Lesson]] = {}
    for lesson in lessons:
        prompts.setdefault(lesson.example.changed(answers=()).content_id, []).append(lesson)
    chosen: list[_Lesson] = []
    for same_prompt in prompts.values():
        rank = max(lesson.answer.rank for lesson in same_prompt)
        best = [lesson for lesson in same_prompt if lesson.answer.rank == rank]
        kept = best[-1:] if rank > 1 else list({lesson.example.content_id: lesson for lesson in best}.values())
        left_out["a correction of the same prompt counts instead"] += len(same_prompt) - len(best)
        reason = "a newer correction of the same prompt" if rank > 1 else "the same row twice"
        left_out[reason] += len(best) - len(kept)
        chosen += kept
    for reason in [reason for reason, count in left_out.items() if not count]:
        del left_out[reason]
    return sorted(chosen, key=lambda lesson: lesson.said.id)
