"""What to do next, as far as the facts of a version say it."""

from collections.abc import Iterator, Sequence

from nacre.cycle.reports.facts import Advice, Learned
from nacre.records import Verdict, Version

LITTLE = 0.02  # of a new task's score: hardly learned


def advise(
    version: Version, verdict: Verdict | None, learned: Sequence[Learned], *, in_use: bool, tried: bool
) -> tuple[Advice, ...]:
    """Sentences in the order in which they matter; at least one.

    Args:
        version: what was made.
        verdict: what the gate found; None: it was never judged.
        learned: the tasks that are new in it.
        in_use: it is the champion, or the champion comes from it.
        tried: it was released or promoted once.
    """
    found = [*_of_gate(version.number, verdict, in_use=in_use, tried=tried)]
    found += _of_learning([one for one in learned if one.task == version.snapshot.task])
    if dropped := len(version.snapshot.dropped):
        found.append(
            Advice(
                en=f"{dropped} rows could not be used: mend them, or drop them on purpose.",
                zh=f"{dropped} 行数据无法使用：请修复，或明确舍弃。",
                command=f"nacre data check {version.snapshot.task}",
            )
        )
    return tuple(found)


def _of_gate(number: int, verdict: Verdict | None, *, in_use: bool, tried: bool) -> Iterator[Advice]:
    if verdict is None:
        yield Advice(
            en="It was never judged, so nothing is proved of it: judge it.",
            zh="该版本从未经过裁决，未得到任何证明：请先裁决。",
            command=f"nacre versions judge {number}",
        )
    elif in_use:
        yield Advice(
            en="It is in use. Bring the next increment, or collect feedback on its answers.",
            zh="该版本正在使用。可带来下一个增量，或收集对其回答的反馈。",
            command="nacre harvest",
        )
    elif verdict.outcome == "fail":
        yield from _of_failure(verdict)
    elif verdict.outcome == "undecided":
        yield from _of_doubt(number, verdict)
    elif tried:
        yield Advice(
            en="It passed, users have had it, and it is not in use now: see in the history why it was taken back.",
            zh="该版本已通过门禁并曾是冠军，但目前未在使用：原因见历史记录。",
            command=f"nacre versions show {number}",
        )
    else:
        yield Advice(
            en="It passed and waits as a candidate: release it step by step, or promote it at once.",
            zh="该版本已通过门禁，作为候选等待：可逐步发布，或直接晋升。",
            command=f"nacre release start {number}",
        )


def _of_failure(verdict: Verdict) -> Iterator[Advice]:
    lost = [task.task for task in verdict.tasks if task.outcome == "fail"]
    rules = [rule.rule for rule in verdict.rules if rule.outcome == "fail"]
    if lost:
        names = ", ".join(lost)
        yield Advice(
            en=f"It lost more of {names} than is allowed, and is not used. Look at the answers that went wrong, train "
            "it more protected (protect: auto tries further rungs, keep.tries), or mix rows of those tasks in.",
            zh=f"{names} 的损失超出允许范围，因此不予使用。请查看变错的回答，加强保护后重新训练"
            "（protect: auto 会逐级尝试，次数见 keep.tries），或混入这些任务的数据。",
        )
    if rules:
        names = ", ".join(rules)
        yield Advice(
            en=f"The rules {names} refused it: see what each says below.",
            zh=f"规则 {names} 拒绝了该版本：详见下文。",
        )


def _of_doubt(number: int, verdict: Verdict) -> Iterator[Advice]:
    wanted = [(task.task, task.more_rows) for task in verdict.tasks if task.outcome == "undecided"]
    for task, rows in wanted:
        yield Advice(
            en=f"{task}: its dev rows cannot decide"
            + (f"; about {rows:,} more would." if rows else ". Bring more of them."),
            zh=f"{task}：验证数据不足以判定" + (f"；约再需 {rows:,} 行。" if rows else "，请补充。"),
        )
    yield Advice(
        en="Until it is decided it is held as a candidate. A person may promote it all the same.",
        zh="在判定之前，该版本作为候选保留；也可由人工直接晋升。",
        command=f"nacre promote {number} --force",
    )


def _of_learning(learned: Sequence[Learned]) -> Iterator[Advice]:
    for one in learned:
        if one.after - one.before < LITTLE and one.after < 1 - LITTLE:
            yield Advice(
                en=f"{one.task} was hardly learned ({one.before:.2f} → {one.after:.2f}): more or better rows, a higher "
                "train.learning_rate, or train more of the model.",
                zh=f"{one.task} 几乎没有学会（{one.before:.2f} → {one.after:.2f}）：请增加或改进数据、"
                "提高 train.learning_rate，或训练更多参数。",
            )
