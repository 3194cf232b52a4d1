"""Opinions out of files: CSV and JSON lines by their columns, exports of Label Studio and Langfuse as they mean it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nacre.base.errors import InputError, nearest
from nacre.base.hashing import sha256_text
from nacre.data.annotate.answers import read_export
from nacre.data.formats.fields import Unusable
from nacre.data.formats.label_studio import LabelStudio
from nacre.data.formats.layout import is_annotated
from nacre.data.reader import Reader
from nacre.feedback.voices import IMPORTED
from nacre.records import ChatTurn, Dropped, Feedback

FORMATS = ("auto", "csv", "jsonl", "label-studio", "langfuse")
_PROMPTS = ("prompt", "question", "instruction", "messages", "input")
_ANSWERS = ("answer", "response", "completion", "output")
_PEOPLE = ("person", "user", "user_id", "userId", "annotator")
_IDS = ("response_id", "interaction")
_OPINIONS = ("stars", "thumb", "comment", "correction", "chosen", "rejected")
_BESIDE = ("system", "time", "timestamp", "consent")
_UP = ("up", "good", "positive", "yes", "true", "1", "1.0", "+1", "like")
_DOWN = ("down", "bad", "negative", "no", "false", "0", "0.0", "-1", "dislike")
_STARS = range(1, 6)
_OF_PEOPLE = ("ANNOTATION", "API", "")  # who gave a score of Langfuse; EVAL is a program
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


@dataclass(frozen=True)
class Entry:
    """What one line says of one answer.

    Attributes:
        line: where it stands, from 1.
        response_id: of an answer that this workspace gave; else `turns` and `answer` say what it is about.
        other: of a comparison the other answer.
        opinions: without interaction and number.
    """

    line: int
    opinions: tuple[Feedback, ...]
    response_id: str = ""
    turns: tuple[ChatTurn, ...] = ()
    answer: str = ""
    other: str = ""
    time: str = ""
    refused: bool = False


@dataclass
class Parsed:
    """The entries of a file, and what of it says nothing, by reason."""

    entries: list[Entry] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


def parse(path: Path, form: str = "auto", *, time: str) -> Parsed:
    """Read a file of opinions.

    Args:
        path: the file.
        form: one of `FORMATS`; auto tells by the first row.
        time: of opinions that do not say when they were given.

    Raises:
        InputError: the file cannot be read, or a line of it says nothing that can be understood.
    """
    rows = []
    for row in Reader(path):
        if isinstance(row, Dropped):
            raise InputError(row.reason, where=f"{path}, line {row.line}", fix=row.remedy or "correct or delete it")
        rows.append((row.line, row.value))
    if not rows:
        raise InputError("the file holds no rows", where=str(path), fix="export it again")
    kind = _kind(rows[0][1]) if form == "auto" else form
    found = Parsed()
    if kind == "label-studio":
        _label_studio(path, found, time)
        return found
    read: Callable[[int, Mapping[str, Any], Parsed, str], Iterator[Entry]] = _trace if kind == "langfuse" else _columns
    for line, record in rows:
        try:
            found.entries += read(line, record, found, time)
        except Unusable as problem:
            raise InputError(problem.reason, where=f"{path}, line {line}", fix=problem.remedy) from None
        except ValidationError as error:
            what = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise InputError(what, where=f"{path}, line {line}", fix="correct or delete the line") from None
    return found


def person_of(name: str) -> str:
    """The hash of somebody whom a file names."""
    return sha256_text(f"{IMPORTED}\n{name}")[:32] if name else ""


def _kind(record: Mapping[str, Any]) -> str:
    if is_annotated(record):
        return "label-studio"
    return "langfuse" if isinstance(record.get("scores"), list) else "jsonl"


def _columns(line: int, record: Mapping[str, Any], found: Parsed, time: str) -> Iterator[Entry]:
    """A row by its columns."""
    known = {*_PROMPTS, *_ANSWERS, *_PEOPLE, *_IDS, *_OPINIONS, *_BESIDE}
    for name in record:
        if name not in known and (close := nearest(name, _OPINIONS)):
            raise Unusable(f"unknown column '{name}'", f"did you mean '{close}'? Rename it")
        found.left[f"cells of the column '{name}', which is not used"] += name not in known
    said = {name: value for name, value in record.items() if value not in (None, "")}
    person = person_of(_first(said, _PEOPLE))
    time = _first(said, ("time", "timestamp")) or time
    beside = {"time": time, "person": person, "refused": said.get("consent") in ("refused", "no", False)}
    response = _first(said, _IDS)
    turns = () if response else _turns(said)
    if "chosen" in said or "rejected" in said:
        if not {"chosen", "rejected"} <= said.keys() or response:
            raise Unusable("a comparison names no two answers", "give prompt, chosen and rejected")
        yield _entry(
            line, [("pair", 1, "")], beside, turns=turns, answer=str(said["chosen"]), other=str(said["rejected"])
        )
        return
    opinions = _opinions(said)
    if not opinions:
        raise Unusable(
            "the row says nothing about an answer", "give stars, thumb, comment, correction, or chosen and rejected"
        )
    answer = _first(said, _ANSWERS)
    if not response and not turns:
        raise Unusable("the row does not say what it is about", "give response_id, or prompt and answer")
    if not response and not answer and [kind for kind, _, _ in opinions] != ["correction"]:
        raise Unusable("the row has no answer that it is about", f"name it {' or '.join(_ANSWERS)}")
    yield _entry(line, opinions, beside, response=response, turns=turns, answer=answer)


def _opinions(said: Mapping[str, Any]) -> list[tuple[str, float | None, str]]:
    found: list[tuple[str, float | None, str]] = []
    if "stars" in said:
        found.append(("stars", _number(said["stars"], "stars"), ""))
    if "thumb" in said:
        found.append(("thumb", _thumb(said["thumb"]), ""))
    return found + [(kind, None, str(said[kind])) for kind in ("comment", "correction") if kind in said]


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Unusable(f"{name} is {value!r}, not a number", "write 1 to 5") from None
    if number not in _STARS:
        raise Unusable(f"{name} is {number:g}", "write 1, 2, 3, 4 or 5")
    return number


def _thumb(value: Any) -> float:
    word = str(value).strip().casefold()
    if word not in (*_UP, *_DOWN):
        raise Unusable(f"thumb is {value!r}", "write up or down")
    return float(word in _UP)


def _turns(said: Mapping[str, Any]) -> tuple[ChatTurn, ...]:
    """The conversation: text, a list of messages, or JSON text of one."""
    value = next((said[name] for name in _PROMPTS if name in said), None)
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError):  # a question may begin with a bracket
            value = json.loads(value)
    system = [ChatTurn(role="system", content=said["system"])] if isinstance(said.get("system"), str) else []
    if isinstance(value, str):
        return (*system, ChatTurn(role="user", content=value))
    if value is None:
        return ()
    turns = value if isinstance(value, list) else [value]
    right = all(isinstance(turn, dict) and turn.get("role") in _ROLES for turn in turns)
    if not right or not all(isinstance(turn.get("content"), str) for turn in turns):
        raise Unusable("the prompt is neither text nor messages", 'write text, or [{"role": "user", "content": "…"}]')
    return (*system, *(ChatTurn(role=turn["role"], content=turn["content"]) for turn in turns))


def _first(said: Mapping[str, Any], names: Sequence[str]) -> str:
    value = next((said[name] for name in names if name in said), "")
    if isinstance(value, dict):
        value = value.get("content", "")
    if not isinstance(value, str | int | float):
        raise Unusable(f"{names[0]} is neither text nor a number", "write text")
    return str(value)


def _entry(
    line: int,
    opinions: Sequence[tuple[str, float | None, str]],
    beside: Mapping[str, Any],
    *,
    response: str = "",
    turns: tuple[ChatTurn, ...] = (),
    answer: str = "",
    other: str = "",
) -> Entry:
    """An entry; the values of its opinions are checked by their record."""
    common = {"time": beside["time"], "person": beside["person"], "source": IMPORTED, "interaction": "-"}
    made = tuple(
        Feedback.model_validate(common | {"kind": kind, "value": value, "text": text, "other": "of" if other else ""})
        for kind, value, text in opinions
    )
    refused = bool(beside.get("refused"))
    return Entry(line, made, response, turns, answer, other, beside["time"], refused)


def _label_studio(path: Path, found: Parsed, time: str) -> None:
    """Each person's answer to each task."""
    export = read_export(path)
    found.left.update(export.left)
    for line, item in enumerate(export.items, start=1):
        for said in item.opinions:
            beside = {
                "time": str(said.annotation.get("created_at") or time),
                "person": person_of(f"label-studio {said.rater}"),
            }
            if item.kind == "rating" and said.said not in (1, 2, 4, 5):
                found.left["ratings in the middle, which say nothing"] += 1
                continue
            try:
                row = LabelStudio().read({"data": item.task["data"], "annotations": [dict(said.annotation)]})
            except Unusable as problem:
                raise InputError(problem.reason, where=f"{path}, task {line}", fix=problem.remedy) from None
            system = (ChatTurn(role="system", content=row.system),) if row.system else ()
            turns = (*system, *(ChatTurn(role=turn.role, content=turn.content) for turn in row.prompt))
            shown = _first(item.task["data"], _ANSWERS)
            if row.kind == "preference":
                opinions: list[tuple[str, float | None, str]] = [("pair", 1, "")]
                pair = {"answer": row.answer, "other": row.answers[1].content}
            else:
                opinions = (
                    [("stars", float(said.said), "")] if row.kind == "kto" else [("correction", None, row.answer)]
                )
                pair = {"answer": row.answer if row.kind == "kto" else shown}
            found.entries.append(_entry(line, opinions, beside, turns=turns, **pair))


def _trace(line: int, record: Mapping[str, Any], found: Parsed, time: str) -> Iterator[Entry]:
    """A trace of Langfuse with its scores."""
    scores = record.get("scores")
    if not isinstance(scores, list):
        raise Unusable("the trace has no list 'scores'", "export traces with their scores")
    turns = _turns({"prompt": record.get("input")})
    answer = _output(record.get("output"))
    for score in scores:
        if not isinstance(score, dict):
            raise Unusable("a score is no object", "export traces with their scores")
        if str(score.get("source") or "") not in _OF_PEOPLE:
            found.left["scores that a program gave"] += 1
            continue
        opinions = _score(score)
        if not opinions:
            found.left[f"scores '{score.get('name')}', which are neither thumb, stars, comment nor correction"] += 1
            continue
        if not turns or not answer:
            raise Unusable("the trace has no input or no output as text", "export traces with input and output")
        who = _first(
            {key: value for key, value in (*record.items(), *score.items()) if value}, ("authorUserId", "userId")
        )
        beside = {"time": str(score.get("timestamp") or record.get("timestamp") or time), "person": person_of(who)}
        yield _entry(line, opinions, beside, turns=turns, answer=answer)


def _score(score: Mapping[str, Any]) -> list[tuple[str, float | None, str]]:
    """What a score means: right or wrong, stars, or a text; nothing where it is another measure."""
    name, value = str(score.get("name", "")).casefold(), score.get("value")
    word = str(score.get("stringValue") or (value if isinstance(value, str) else "")).strip()
    text = str(score.get("comment") or "").strip()
    rated = "star" in name or "rating" in name
    found: list[tuple[str, float | None, str]] = []
    if "correct" in name and (word or text) and not isinstance(value, int | float):
        return [("correction", None, word or text)]
    if isinstance(value, bool) or word.casefold() in (*_UP, *_DOWN) or (value in (0, 1) and not rated):
        found.append(("thumb", _thumb(word if word else float(value or 0)), ""))
    elif isinstance(value, int | float) and value in _STARS:
        found.append(("stars", float(value), ""))
    return found + ([("comment", None, text)] if text else [])


def _output(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""
