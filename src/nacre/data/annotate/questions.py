"""What people are asked about a row, and how Label Studio shows it.

Each task's `data` has the texts that are shown, and `nacre` beside them: the row itself, where it came from and an id
made of its content, so that nothing of it is lost on the way there and back, and no row is asked about twice.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree as Xml

from nacre.base.errors import InputError, unknown
from nacre.base.hashing import content_hash
from nacre.data.compose.pieces import Piece
from nacre.records import Example

OWN = "nacre"  # key of `data` with the row
DECISION, CORRECTED_QUESTION, CORRECTED_ANSWER = "decision", "corrected_question", "corrected_answer"
ACCEPT, REJECT = "accept", "reject"
Task = dict[str, Any]


class Question(NamedTuple):
    """A kind of question.

    Attributes:
        about: kinds of rows it can be asked about.
        shown: the texts of `data` for a row.
        build: adds the controls to the labelling page, given the classes.
        classes: whether it needs a list of them.
    """

    about: tuple[str, ...]
    shown: Callable[[Example], dict[str, str]]
    build: Callable[[Xml.Element, Sequence[str]], None]
    classes: bool = False


def config(question: str, classes: Sequence[str] = ()) -> str:
    """The labelling configuration (XML) of a project that asks this question.

    Raises:
        InputError: no such question, too few classes, or classes where there is nothing to choose.
    """
    kind = _known(question)
    if kind.classes != bool(classes) or len(set(classes)) != len(classes) or len(classes) == 1:
        fix = "give two or more different ones" if kind.classes else "leave them out"
        raise InputError(f"'{question}' and these classes do not go together", where="--class", fix=fix)
    view = Xml.Element("View")
    kind.build(view, classes)
    return Xml.tostring(view, encoding="unicode")


def with_opinions(config_xml: str) -> str:
    """The same configuration with a text at its end that shows what was said before (`data.said`).

    Raises:
        InputError: it is no XML.
    """
    try:
        view = Xml.fromstring(config_xml)
    except Xml.ParseError as error:
        fix = "mend the labelling configuration in Label Studio"
        raise InputError(f"the project's configuration is no XML: {error}", where="label_config", fix=fix) from None
    _text(view, "said", "What was said")
    return Xml.tostring(view, encoding="unicode")


def tasks_of(rows: Iterable[Piece], question: str) -> tuple[list[Task], Counter[str]]:
    """Rows as tasks, and how many cannot be asked about, by reason.

    Raises:
        InputError: there is no such question.
    """
    kind = _known(question)
    tasks: dict[str, Task] = {}
    left: Counter[str] = Counter()
    for row in rows:
        example = row.example
        if example.kind not in kind.about:
            left[f"'{question}' is not asked about a row of kind {example.kind}"] += 1
        elif any((example.images, example.videos, example.audios)):
            left["it has pictures or sounds, which are not shown"] += 1
        else:
            task = task_of(example, question)
            if task["data"][OWN]["id"] in tasks:
                left["it says the same as another row"] += 1
            tasks.setdefault(task["data"][OWN]["id"], task)
    return list(tasks.values()), left


def task_of(example: Example, question: str, **more: str | int) -> Task:
    """One row as a task; `more` goes into `data.nacre` and into its id."""
    kept = example.model_dump(mode="json", exclude={"origin"}, exclude_defaults=True)
    number = content_hash([question, example.content_id, more])[:24]
    own = {"id": number, "ask": question, "row": kept, "origin": dict(example.origin.extra), **more}
    return {"data": {**_known(question).shown(example), OWN: own}}


def asked(example: Example) -> str:
    """The whole prompt as people read it: the question alone, or each turn with who says it."""
    turns = [("system", example.system)] if example.system else []
    turns += [(turn.role, turn.content) for turn in example.prompt]
    return turns[0][1] if len(turns) == 1 else "\n\n".join(f"{role}: {text}" for role, text in turns)


def _turned(example: Example) -> bool:
    """Whether the chosen answer stands on the right: by content, so that its place says nothing."""
    return content_hash(["side", example.content_id])[0] in "01234567"


def _one(example: Example) -> dict[str, str]:
    return {"text": asked(example)}


def _answered(example: Example) -> dict[str, str]:
    return {"question": asked(example), "answer": example.answer}


def _sides(example: Example) -> dict[str, str]:
    left, right = (one.content for one in example.answers)
    left, right = (right, left) if _turned(example) else (left, right)
    return {"question": asked(example), "left": left, "right": right}


def _text(view: Xml.Element, name: str, title: str = "") -> None:
    if title:
        Xml.SubElement(view, "Header", value=title)
    Xml.SubElement(view, "Text", name=name, value=f"${name}", valueType="text")


def _choices(view: Xml.Element, name: str, to: str, values: Sequence[str]) -> None:
    box = Xml.SubElement(view, "Choices", name=name, toName=to, choice="single", required="true")
    for value in values:
        Xml.SubElement(box, "Choice", value=value)


def _area(view: Xml.Element, name: str, to: str, title: str, value: str = "", required: str = "false") -> None:
    Xml.SubElement(view, "Header", value=title)
    options = {"name": name, "toName": to, "rows": "6", "editable": "true", "maxSubmissions": "1", "required": required}
    Xml.SubElement(view, "TextArea", options | ({"value": value} if value else {}))


def _classify(view: Xml.Element, classes: Sequence[str]) -> None:
    _text(view, "text")
    _choices(view, "class", "text", classes)


def _correct(view: Xml.Element, _classes: Sequence[str]) -> None:
    _text(view, "question", "Question")
    _text(view, "answer", "Answer")
    _area(view, "correction", "question", "The right answer", value="$answer", required="true")


def _compare(view: Xml.Element, _classes: Sequence[str]) -> None:
    _text(view, "question", "Question")
    Xml.SubElement(view, "Header", value="Click on the better answer")
    Xml.SubElement(view, "Pairwise", name="better", toName="left,right")
    beside = Xml.SubElement(view, "View", style="display: flex; gap: 1em")
    for side in ("left", "right"):
        _text(Xml.SubElement(beside, "View", style="flex: 1; padding: 1em; border: 1px solid gray"), side)


def _rate(view: Xml.Element, _classes: Sequence[str]) -> None:
    _text(view, "question", "Question")
    _text(view, "answer", "Answer")
    Xml.SubElement(view, "Rating", name="stars", toName="answer", maxRating="5", required="true")


def _accept(view: Xml.Element, _classes: Sequence[str]) -> None:
    _text(view, "question", "Question")
    _text(view, "answer", "Answer")
    _choices(view, DECISION, "answer", (ACCEPT, REJECT))
    _area(view, CORRECTED_QUESTION, "question", "A better question, if it needs one")
    _area(view, CORRECTED_ANSWER, "answer", "A better answer, if it needs one")


QUESTIONS = {
    "classify": Question(("sft", "text"), _one, _classify, classes=True),
    "correct": Question(("sft", "kto"), _answered, _correct),
    "compare": Question(("preference",), _sides, _compare),
    "rate": Question(("sft", "kto"), _answered, _rate),
    "accept": Question(("sft",), _answered, _accept),
}


def _known(question: str) -> Question:
    if question not in QUESTIONS:
        raise unknown("question", question, QUESTIONS, where="--ask")
    return QUESTIONS[question]
