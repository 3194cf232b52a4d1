"""What the judge is asked, and how its reply is read. A reply that cannot be read is none: nothing is guessed."""

import re
from typing import Literal

from nacre.records import Example
from nacre.records.judge import Judge

Language = Literal["en", "zh"]
Choice = Literal["first", "second", "tie"]

_REFERENCE = {"en": "\n\n[Reference answer]\n{reference}", "zh": "\n\n【参考答案】\n{reference}"}
_SCORE = {
    "en": """Judge how well an answer serves the question. The reference answer shows what is right; other words for \
the same thing are as good. Length and politeness do not count.

[Question]
{question}{REFERENCE}

[Answer to judge]
{answer}

Say in one or two sentences what is right and what is wrong. Then write a last line of exactly this form, N a whole \
number from 0 (useless or wrong) to 10 (entirely right):
Score: N""",
    "zh": """请评判下面的回答对问题的完成程度。参考答案给出正确内容，意思相同而措辞不同同样算对；\
篇幅长短和客套话不计分。

【问题】
{question}{REFERENCE}

【待评回答】
{answer}

请先用一两句话说明对错，然后在最后一行严格按下面的格式给出分数，N 为 0（完全无用或错误）到 10（完全正确）的整数：
评分：N""",
}
_PAIR = {
    "en": """Two answers were given to the same question. Judge which one serves it better. Length, politeness and the \
order in which they stand here do not count.

[Question]
{question}{REFERENCE}

[Answer A]
{first}

[Answer B]
{second}

Say in one or two sentences what decides. Then write a last line that is exactly one of these:
Verdict: A
Verdict: B
Verdict: tie""",
    "zh": """下面是对同一个问题的两个回答，请评判哪一个更好。篇幅长短、客套话以及两者的先后顺序都不计入评判。

【问题】
{question}{REFERENCE}

【回答 A】
{first}

【回答 B】
{second}

请先用一两句话说明理由，然后最后一行严格写下面三者之一：
结论：A
结论：B
结论：平""",
}
_SAID_SCORE = re.compile(
    r"(?:(?:final|overall) |最终|总)?(?:score|评分|分数|得分)\s*[:：]\s*(\d+(?:\.\d+)?)(?:\s*/\s*(\d+))?\s*分?",
    re.IGNORECASE,
)
_SAID_CHOICE = re.compile(
    r"(?:final |最终)?(?:verdict|结论)\s*[:：]\s*(?:answer\s+|回答\s*)?(A|B|tie|平局|平手|平)", re.IGNORECASE
)
_DECORATION = "*`_#.。!！ \t"  # what may stand around the last line


def question_of(example: Example) -> str:
    """The whole prompt of a row as one text; a single question stands alone."""
    turns = [message.content for message in example.prompt]
    if len(turns) > 1:
        turns = [f"{message.role}: {message.content}" for message in example.prompt]
    return "\n".join([*([example.system] if example.system else []), *turns])


def score_prompt(judge: Judge, language: Language, example: Example, answer: str) -> str:
    """Asks for a score of one answer."""
    return _filled(judge.prompt or _SCORE[language], language, example, {"answer": answer})


def pair_prompt(judge: Judge, language: Language, example: Example, first: str, second: str) -> str:
    """Asks which of two answers is better."""
    return _filled(judge.pairwise_prompt or _PAIR[language], language, example, {"first": first, "second": second})


def read_score(reply: str) -> float | None:
    """The score in the last line of a reply, as 0 to 1; None where that line is no score, or none from 0 to 10."""
    found = _SAID_SCORE.fullmatch(_last_line(reply))
    if found is None:
        return None
    number, of = float(found[1]), found[2]
    return number / 10 if number <= 10 and of in (None, "10") else None


def read_choice(reply: str) -> Choice | None:
    """The verdict in the last line of a reply; None where that line is none."""
    found = _SAID_CHOICE.fullmatch(_last_line(reply))
    if found is None:
        return None
    return {"a": "first", "b": "second"}.get(found[1].lower(), "tie")  # type: ignore[return-value] # words above


def _last_line(reply: str) -> str:
    """The last line that says something, as it was asked for: alone, whatever stands before it."""
    lines = [line for line in reply.replace("*", "").splitlines() if line.strip(_DECORATION)]
    return lines[-1].strip(_DECORATION) if lines else ""


def _filled(template: str, language: Language, example: Example, given: dict[str, str]) -> str:
    """One pass over the places in braces, so that braces inside an answer stay what they are."""
    texts = {"question": question_of(example), "reference": example.answer, **given}
    template = template.replace("{REFERENCE}", _REFERENCE[language] if example.answer else "")
    return re.sub(r"\{(question|reference|answer|first|second)\}", lambda place: texts.get(place[1], ""), template)
