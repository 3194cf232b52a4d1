"""`dev_all.json`: every dev row seen so far, as JSON lines with the row's task beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.base.hashing import canonical_json
from nacre.data.convert import read_examples
from nacre.records import Example, Message

TASK_COLUMN = "task"
_ROLES = {"user": "user", "assistant": "assistant", "observation": "tool", "function": "function_call"}


def write_dev_all(path: Path, tasks: Mapping[str, Sequence[Example]]) -> None:
    """Write the dev rows of all tasks, in alpaca columns plus `task`, for any tool to read.

    Rows that alpaca has no columns for (tool calls) are written as messages. What is written reads back
    with the same content.

    Raises:
        InputError: there are no rows: an empty file could be neither scored nor read back.
        NacreError: the disk is full or cannot be written; the old file is untouched.
    """
    if not any(tasks.values()):
        fix = "train with rows held out (val_size), or with a dev.json beside train.json"
        raise InputError("there are no dev rows", where=str(path), fix=fix)
    rows = [row_of(example) | {TASK_COLUMN: task} for task, examples in tasks.items() for example in examples]
    atomic_write(path, "".join(canonical_json(row) + "\n" for row in rows))


def read_dev_all(path: Path) -> dict[str, list[Example]]:
    """The dev rows by task. A file whose rows name no task is one task, named after the file.

    Raises:
        InputError: the file or one of its rows cannot be used: scores must not leave rows out silently.
    """
    found = read_examples(path, task=path.stem, task_column=TASK_COLUMN)
    if found.dropped:
        first = found.dropped[0]
        more = f", and {len(found.dropped) - 1} more rows cannot be used" if len(found.dropped) > 1 else ""
        raise InputError(f"{first.reason}{more}", where=f"{first.file}, line {first.line}", fix=first.remedy)
    tasks: dict[str, list[Example]] = {}
    for example in found.examples:
        tasks.setdefault(example.origin.task, []).append(example)
    return tasks


def row_of(example: Example) -> dict[str, Any]:
    """The example as a row of the simplest format that can say it."""
    media = {name: list(paths) for name in ("images", "videos", "audios") if (paths := getattr(example, name))}
    beside = {name: value for name in ("system", "tools") if (value := getattr(example, name))} | media
    if example.kind == "text":
        return {"text": example.prompt[0].content}
    turns = (*example.prompt, *example.answers)
    if any(turn.role in ("function", "observation") for turn in turns):
        return _dialogue(example) | beside
    past = example.prompt[:-1]
    history = [[past[i].content, past[i + 1].content] for i in range(0, len(past), 2)]
    row = {"instruction": example.prompt[-1].content, "input": "", **({"history": history} if history else {})}
    return row | _answers([turn.content for turn in example.answers], example) | beside


def _dialogue(example: Example) -> dict[str, Any]:
    if example.kind == "preference":
        answers = _answers([_message(turn) for turn in example.answers], example)
        return {"messages": [_message(turn) for turn in example.prompt]} | answers
    judged = {} if example.desirable is None else {"label": example.desirable}
    return {"messages": [_message(turn) for turn in (*example.prompt, *example.answers)]} | judged


def _answers(answers: Sequence[Any], example: Example) -> dict[str, Any]:
    if example.kind == "preference":
        return {"chosen": answers[0], "rejected": answers[1]}
    judged = {} if example.desirable is None else {"label": example.desirable}
    return {"output": answers[0]} | judged


def _message(turn: Message) -> dict[str, str]:
    return {"role": _ROLES[turn.role], "content": turn.content}
