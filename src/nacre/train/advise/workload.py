"""What is to be learned: how many rows, how long they are, of which kind and in which language."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from nacre.base.errors import InputError, unknown
from nacre.data.check import at
from nacre.data.dataset import load_split
from nacre.data.report.records import Said
from nacre.model.load import load_tokenizer
from nacre.records import Example, Weights
from nacre.train.memory import length_of

Task = Literal["classification", "qa", "generation", "chat", "domain"]
TASKS: tuple[Task, ...] = get_args(Task)
SAMPLE = 2000  # rows that are measured, at most
COVERED = 0.95  # share of the rows that the length must hold whole
TOKENS_A_HAN, TOKENS_A_LETTER, TOKENS_A_ROW = 0.8, 0.3, 24  # a rough count: Chinese, all else, and the template
USUAL: dict[
    Task, tuple[int, int, float]
] = {  # 95 of 100 rows, a mean row, share with a label; where rows are not there
    "classification": (256, 160, 0.05),
    "qa": (512, 320, 0.3),
    "generation": (1024, 500, 0.5),
    "chat": (1024, 600, 0.5),
    "domain": (1024, 700, 1.0),
}
FEW_ANSWERS = 20  # different ones, up to which rows are a classification
TEXT_LONG = 2.0  # an answer so many times longer than its question is written, not looked up


@dataclass(frozen=True)
class Workload:
    """Rows to learn.

    Attributes:
        rows: how many.
        covering: tokens that hold 95 of 100 rows whole; `longest` and `mean` of a row.
        labelled: share of the tokens that are learned.
        language: `zh` or `en`.
        notes: how this was found.
    """

    task: Task
    rows: int
    covering: int
    longest: int
    mean: float
    labelled: float
    language: str
    notes: tuple[Said, ...]


def workload(
    rows: str | None, *, task: str | None = None, language: str | None = None, model: Weights | None = None
) -> Workload:
    """What the words of a command line mean.

    Args:
        rows: a number, a file or a folder; None: 1,000 are assumed.
        task: default: what the rows look like.
        language: of the rows; default: what they look like.
        model: whose tokenizer counts; without it lengths are guessed from characters, which is said.

    Raises:
        InputError: unknown task or language, no such file, or no usable row in it.
    """
    if task is not None and task not in TASKS:
        raise unknown("task", task, TASKS, where="--task")
    if language not in (None, "zh", "en"):
        raise unknown("language", str(language), ("zh", "en"), where="--language")
    count = _number(rows)
    if count is not None:
        return _assumed(next((one for one in TASKS if one == task), "generation"), count, language, rows is None)
    return _measured(str(rows), task, language, model)


def _number(rows: str | None) -> int | None:
    if rows is None:
        return 1000
    digits = rows.replace(",", "").replace("_", "")
    if not digits.lstrip("-").isdigit():
        return None
    if int(digits) < 1:
        raise InputError(f"{rows} rows teach nothing", where="--rows", fix="give a file, or a number above 0")
    return int(digits)


def _assumed(task: Task, count: int, language: str | None, guessed: bool) -> Workload:
    covering, mean, labelled = USUAL[task]
    notes = [
        Said(
            en=f"no rows to look at: lengths usual for {task} are assumed, up to {covering} tokens",
            zh=f"没有可查看的数据：按 {task} 的常见长度假定，最长 {covering} 个词元",
        )
    ]
    if guessed:
        notes.insert(0, Said(en="1,000 rows are assumed: give --rows", zh="假定有 1,000 行：请用 --rows 给出"))
    return Workload(task, count, covering, covering, float(mean), labelled, language or "en", tuple(notes))


def _measured(path: str, task: str | None, language: str | None, model: Weights | None) -> Workload:
    loaded = load_split(at(path), "train")
    examples = loaded.examples
    if not examples:
        raise InputError("there is no usable row", where=path, fix="look at it with nacre data check")
    sample = examples[:: max(1, len(examples) // SAMPLE)][:SAMPLE]
    lengths, how = _lengths(sample, model)
    totals = sorted(total for total, _ in lengths)
    found = next((one for one in TASKS if one == task), None)
    notes = [how]
    if loaded.dropped:
        notes.append(
            Said(
                en=f"{len(loaded.dropped)} of {loaded.rows} rows cannot be used: see nacre data check",
                zh=f"{loaded.rows} 行中有 {len(loaded.dropped)} 行不可用：见 nacre data check",
            )
        )
    if found is None:
        found = _task_of(sample)
        notes.append(
            Said(en=f"the rows look like {found}: --task says otherwise", zh=f"数据看来属于 {found}：可用 --task 改")
        )
    return Workload(
        task=found,
        rows=len(examples),
        covering=totals[min(len(totals) - 1, int(COVERED * len(totals)))],
        longest=totals[-1],
        mean=statistics.fmean(totals),
        labelled=sum(labelled for _, labelled in lengths) / max(1, sum(totals)),
        language=language or _language_of(sample),
        notes=tuple(notes),
    )


def _lengths(sample: Sequence[Example], model: Weights | None) -> tuple[list[tuple[int, int]], Said]:
    """Tokens of each row, and how many of them are learned."""
    if model is not None:
        tokenizer: Any = load_tokenizer(model)
        told = Said(en="tokens were counted by the model's tokenizer", zh="词元数由该模型的分词器数出")
        return [length_of(row, tokenizer) for row in sample], told
    told = Said(
        en="tokens were guessed from characters (0.3 a letter, 0.8 a Chinese character): --model FOLDER counts them",
        zh="词元数由字符数推测（每个字母 0.3，每个汉字 0.8）：用 --model 指定本地模型文件夹可实际统计",
    )
    return [_guessed(row) for row in sample], told


def _guessed(row: Example) -> tuple[int, int]:
    answer = sum(_tokens(turn.content) for turn in row.answers)
    whole = sum(_tokens(turn.content) for turn in row.prompt) + answer
    if row.kind == "text":
        return round(whole), round(whole)
    return round(whole) + TOKENS_A_ROW, round(answer) + 1


def _tokens(text: str) -> float:
    han = _han(text)
    return TOKENS_A_HAN * han + TOKENS_A_LETTER * (len(text) - han)


def _han(text: str) -> int:
    return sum("\u3400" <= letter <= "\u9fff" for letter in text)


def _language_of(sample: Sequence[Example]) -> str:
    text = "".join(turn.content[:500] for row in sample[:200] for turn in (*row.prompt, *row.answers))
    return "zh" if _han(text) > 0.15 * len(text) else "en"


def _task_of(sample: Sequence[Example]) -> Task:
    """Of what kind rows are, by what they look like."""
    if all(row.kind == "text" for row in sample):
        return "domain"
    if sum(len(row.prompt) > 2 for row in sample) > 0.5 * len(sample):
        return "chat"
    answers = [row.answers[0].content for row in sample if row.answers]
    if len(set(answers)) <= min(FEW_ANSWERS, max(1, len(answers) // 3)):
        return "classification"
    asked = sum(len(turn.content) for row in sample for turn in row.prompt)
    return "generation" if sum(map(len, answers)) > TEXT_LONG * asked else "qa"
