"""Opinions of a judge on what the champion and the shadow answered to the same requests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nacre.base.clock import now
from nacre.base.errors import InputError
from nacre.cycle.workspace import Workspace
from nacre.evaluate.judge.verdicts import Asking, judge_language
from nacre.records import Example, Feedback, Interaction, Message

Judge = Callable[[Interaction, Interaction], tuple[float, float]]


@dataclass(frozen=True)
class Scored:
    """How many pairs were scored, how many are left, and what is to be said of it."""

    pairs: int
    left: int
    notes: tuple[str, ...] = ()


def score_pairs(workspace: Workspace, judge: Judge, source: str) -> int:
    """Have a judge score the pairs that nobody has scored, and keep its opinions; returns how many there were.

    Args:
        judge: called with the champion's and the shadow's interaction, answers a score from 0 to 1 for each. It
            should not be told which is which by their order alone: draw the order inside.
        source: the judge's name, kept with its opinions. They are never harvested as training data.

    Raises:
        InputError: a score outside 0 to 1; the pairs before it are kept.
    """
    unscored = _unscored(workspace)
    for old, new in unscored:
        _keep(workspace, (old, new), judge(old, new), source)
    return len(unscored)


def ask_judge(workspace: Workspace) -> Scored:
    """Have the model of `evaluate.judge` score both answers of each unscored pair, one by one and without their arm.

    Raises:
        InputError: no judge is set, or no rollout is active.
        NacreError: the judge fails; the verdicts it had given are kept and not asked for again.
    """
    settings = workspace.settings.evaluate.judge
    if settings is None:
        fix = "set url and model of a server that judges (in Python, nacre.cycle.scores.pair_scores takes any judge)"
        raise InputError("no judge is set", where="nacre.yaml, evaluate.judge", fix=fix)
    if workspace.ledger.releases.active() is None:
        raise InputError("no rollout is active", where="release", fix="`nacre release start N` begins one")
    pairs = _unscored(workspace)
    answers = [one for pair in pairs for one in pair]
    examples = dict(enumerate(map(_example, answers)))
    language = judge_language(settings, [one.answer for one in answers])
    texts = {place: one.answer for place, one in enumerate(answers)}
    if not pairs:
        return Scored(0, 0)
    found = Asking(settings, workspace.memory / "judged").scores(examples, texts, language)
    count = 0
    for place, pair in enumerate(pairs):
        old, new = found.scores.get(2 * place), found.scores.get(2 * place + 1)
        if old is not None and new is not None:
            _keep(workspace, pair, (old, new), f"judge {settings.model}")
            count += 1
    return Scored(count, len(pairs) - count, found.notes)


def _unscored(workspace: Workspace) -> list[tuple[Interaction, Interaction]]:
    """Pairs that nobody has scored and that both ended without an error."""
    rollout = workspace.ledger.releases.active()
    found = []
    for pair in workspace.ledger.releases.observed.pairs(rollout) if rollout else ():
        if pair.scores is None and "error" not in pair.finishes:
            old, new = (workspace.ledger.interaction(identity) for identity in pair.ids)
            if old is not None and new is not None:  # else deleted since the pair was read
                found.append((old, new))
    return found


def _keep(workspace: Workspace, pair: Sequence[Interaction], scores: tuple[float, float], source: str) -> None:
    """Both opinions, or none where one is no score."""
    opinions = [_opinion(one.id, score, source) for one, score in zip(pair, scores, strict=True)]
    for opinion in opinions:
        workspace.ledger.add_feedback(opinion)


def _opinion(identity: str, score: float, source: str) -> Feedback:
    if not 0 <= score <= 1:
        raise InputError(
            f"a judge gave the score {score:g}",
            where=f"{source}, answer {identity}",
            fix="a judge answers scores from 0 to 1: divide by its highest",
        )
    return Feedback(time=now(), interaction=identity, kind="score", value=score, source=source, status="exported")


def _example(asked: Interaction) -> Example:
    """The request without an answer: the judge has no reference."""
    system = [turn.content for turn in asked.messages if turn.role in ("system", "developer")]
    rest = [turn for turn in asked.messages if turn.role not in ("system", "developer")]
    return Example(
        prompt=tuple(Message.model_validate({"role": turn.role, "content": turn.content}) for turn in rest),
        answers=(Message(role="assistant", content=""),),
        system="\n\n".join(system),
    )
