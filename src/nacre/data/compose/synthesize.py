"""Rows that a language model makes up: asked of any OpenAI-compatible server, with rows of the task as examples.

Its reply must be a JSON list of {"question": …, "answer": …} and nothing else; what is not is counted and asked again.
Rows that are like a row there is, or like a dev row, are dropped and counted. Nothing is trained on before a person
has accepted it (`nacre data review`).
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import Field

from nacre.base.chat_client import ChatClient, ChatServer
from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.data.compose.likeness import Likeness, plain
from nacre.data.compose.pieces import question_of, text_of
from nacre.data.compose.split import NEAR
from nacre.records import Example, Message

_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_SPARE_REQUESTS = 3  # times as many as it would take if every row could be used
PROMPT = """You write rows that a language model is trained on: questions that people ask, and the right answers.

{instruction}

These are rows as they should be:
{examples}

Write {count} new rows of the same kind, in the same language, each different from those above and from each other.
Reply with a JSON list of objects with the keys "question" and "answer", and with nothing else."""


class Endpoint(Settings):
    """A model behind an OpenAI-compatible server."""

    url: str = Field(description="of the API, e.g. http://localhost:8000/v1")
    model: str = Field(description="the name that the server knows it by")
    key_env: str | None = Field(None, description="name of the environment variable that holds the API key")
    max_tokens: int = Field(1024, ge=1, description="of a reply")
    temperature: float = Field(1.0, ge=0, description="how freely it writes")
    timeout_s: float = Field(60, gt=0, description="seconds until a request counts as failed")
    retries: int = Field(4, ge=0, description="how often a request is sent again that failed")
    instruction: str = Field("", description="said to the model beside the examples")
    examples: int = Field(4, ge=1, description="rows shown in each request")
    batch: int = Field(5, ge=1, description="rows asked for in each request")


@dataclass
class Synthetic:
    """What came of it: rows, each with the content ids of its examples; what was dropped and why; requests sent."""

    rows: list[tuple[Example, tuple[str, ...]]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    notes: list[str] = field(default_factory=list)


def synthesize(
    seeds: Sequence[Example],
    wanted: int,
    endpoint: Endpoint,
    *,
    dev: Sequence[Example] = (),
    known: Sequence[Example] = (),
    keep: Callable[[Example, tuple[str, ...]], None] = lambda *_: None,
    seed: int = 0,
) -> Synthetic:
    """Ask for rows until there are as many as wanted, or three times the requests it should take were sent.

    Args:
        seeds: rows of the task; some are shown in each request.
        wanted: how many new rows.
        endpoint: who is asked.
        dev: rows that no new row may be like.
        known: more rows that no new row may be like, such as those that a person rejected.
        keep: is given each new row and the content ids of its examples at once: replies are paid for, and a server that
            fails later must not cost them.
        seed: of which rows are shown when.

    Raises:
        InputError: no row has a question with an answer; the key is not set, or the server refuses.
        NacreError: the server fails again and again.
    """
    shown = [row for row in seeds if row.kind == "sft" and len(row.prompt) == 1]
    if not shown:
        fix = "name rows with one question and one answer"
        raise InputError("there is no row to show as an example", where="nacre data synthesize", fix=fix)
    client = _client(endpoint)
    found, chance = Synthetic(), random.Random(f"{seed}/synthesize")
    most = -(-wanted // endpoint.batch) * _SPARE_REQUESTS
    while len(found.rows) < wanted and found.requests < most:
        examples = chance.sample(shown, min(endpoint.examples, len(shown)))
        reply = client.ask(_prompt(examples, endpoint, min(endpoint.batch, wanted - len(found.rows))))
        found.requests += 1
        made = _parsed(reply, found.dropped)
        against = [*seeds, *known, *(row for row, _ in found.rows)]
        for row in _new(made, against, dev, NEAR, found.dropped)[: wanted - len(found.rows)]:
            found.rows.append((row, tuple(one.content_id for one in examples)))
            keep(*found.rows[-1])
    if len(found.rows) < wanted:
        found.notes.append(f"{len(found.rows)} rows, not {wanted}: {found.requests} requests gave no more")
    found.notes += [f"{count} dropped: {reason}" for reason, count in found.dropped.most_common()]
    return found


def _prompt(examples: Sequence[Example], endpoint: Endpoint, count: int) -> str:
    rows = [{"question": one.prompt[-1].content, "answer": one.answer} for one in examples]
    values = {
        "instruction": endpoint.instruction,
        "examples": json.dumps(rows, ensure_ascii=False, indent=1),
        "count": str(count),
    }
    return re.sub(r"\{(instruction|examples|count)\}", lambda place: values[place[1]], PROMPT)


def _parsed(reply: str, dropped: Counter[str]) -> list[Example]:
    """The rows of a reply; what is none is counted."""
    fenced = _FENCE.fullmatch(reply)
    try:
        items = json.loads(fenced[1] if fenced else reply, parse_constant=_no_number)
    except (ValueError, RecursionError):
        dropped["the reply is not JSON alone"] += 1
        return []
    if not isinstance(items, list):
        dropped["the reply is no list"] += 1
        return []
    rows = []
    for item in items:
        reason = _refused(item)
        if reason:
            dropped[reason] += 1
            continue
        question, answer = Message(role="user", content=item["question"]), item["answer"]
        rows.append(Example(prompt=(question,), answers=(Message(role="assistant", content=answer),)))
    return rows


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _refused(item: Any) -> str:
    """Why an item of a reply is no row; empty where it is one."""
    if not isinstance(item, dict) or set(item) != {"question", "answer"}:
        return "an item is no object with question and answer alone"
    if not all(isinstance(text, str) and text.strip() for text in item.values()):
        return "a question or answer is no text, or blank"
    return "" if all(_writable(text) for text in item.values()) else "a text has half a character"


def _writable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _new(
    made: Sequence[Example], known: Sequence[Example], dev: Sequence[Example], near: float, dropped: Counter[str]
) -> list[Example]:
    """The rows that are like no dev row and no other row."""
    rows: list[Example] = []
    held = {plain(question_of(one)) for one in dev}
    asked = {plain(question_of(one)) for one in known}
    for row in made:
        texts = [text_of(one) for one in (row, *dev, *known, *rows)]
        like = Likeness(texts, near).like_any([0], range(1, len(texts))).get(0, 0)
        if 0 < like <= len(dev) or plain(question_of(row)) in held:
            dropped["like a dev row"] += 1
        elif like or plain(question_of(row)) in asked:
            dropped["like a row there is"] += 1
        else:
            asked.add(plain(question_of(row)))
            rows.append(row)
    return rows


def _client(endpoint: Endpoint) -> ChatClient:
    """Asks the server, again where it failed."""
    asked = ("url", "model", "key_env", "max_tokens", "temperature", "timeout_s", "retries")
    values = endpoint.model_dump(include=set(asked))
    return ChatClient(ChatServer(**values, who="the server", settings="", kept="rows that it made so far are kept"))
