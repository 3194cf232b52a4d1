"""What people answered, out of Label Studio's JSON export, and the rows that it makes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nacre.base.errors import InputError, unknown
from nacre.data.annotate.questions import ACCEPT, CORRECTED_ANSWER, CORRECTED_QUESTION, DECISION, OWN
from nacre.data.formats.fields import Unusable
from nacre.data.formats.label_studio import LabelStudio
from nacre.data.reader import Reader
from nacre.records import Dropped, Example, Message

TEXT, RATING = "textarea", "rating"
_VALUES = {TEXT: "text", "pairwise": "selected", "choices": "choices", RATING: "rating"}  # the first there is counts
_EXPORT = "take the JSON export (nacre data annotate pull), not JSON_MIN or CSV"


@dataclass(frozen=True)
class Opinion:
    """One person's answer to one task.

    Attributes:
        rater: their number, or how else the export names them.
        said: the answer as people can agree in it: class, side, stars, or text.
        annotation: as the export has it.
    """

    rater: str
    said: str | int
    annotation: Mapping[str, Any]

    @property
    def is_truth(self) -> bool:
        """Whether somebody marked it as what holds."""
        return bool(self.annotation.get("ground_truth"))


@dataclass(frozen=True)
class Item:
    """One task of an export with what was said about it; `kind` is Label Studio's word for the question."""

    id: str
    kind: str
    task: Mapping[str, Any]
    opinions: tuple[Opinion, ...]

    @property
    def own(self) -> Mapping[str, Any]:
        """What stands in ``data.nacre``; empty for a task that came from elsewhere."""
        own = self.task["data"].get(OWN)
        return own if isinstance(own, dict) else {}

    @property
    def decided(self) -> Opinion | None:
        """The answer that holds: what was marked as truth, or what all said; None where they differ, or nobody did."""
        valid = [one for one in self.opinions if one.is_truth] or list(self.opinions)
        return valid[0] if len({_whole(one) for one in valid}) == 1 else None


@dataclass
class Export:
    """An export: its items, and what of it says nothing, by reason."""

    path: Path
    items: list[Item] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


def read_export(path: Path, question: str = "") -> Export:
    """Read a JSON export.

    Args:
        path: the file.
        question: `name` of the question in the labelling configuration, where it asks several.

    Raises:
        InputError: the file or a task of it cannot be read, there is no such question, or several are asked.
    """
    found, names = Export(path), Counter[str]()
    for row in Reader(path):
        if isinstance(row, Dropped):
            where = f"{path}, line {row.line}"
            raise InputError(row.reason, where=where, fix=row.remedy or _EXPORT)
        found.items.append(_item(row.value, f"{path}, line {row.line}", question, found.left, names))
    if question and question not in names and names:
        raise unknown("question", question, names, where=str(path))
    kinds = {one.kind for one in found.items if one.opinions}
    if len(kinds) > 1:
        fix = "name one with --question"
        raise InputError(f"the answers are of several kinds: {', '.join(sorted(kinds))}", where=str(path), fix=fix)
    return found


def row_of_item(item: Item, opinion: Opinion, question: str = "") -> Example | None:
    """The row that an answer makes of a task; None where the answer is that there be none.

    A task made by `tasks_of` gives back its row, with all turns and tools, and the answer of the person in it.

    Raises:
        Unusable: the task and the answer make no row, with the reason.
    """
    original = _original(item)
    if item.own.get("ask") == "accept" and original is not None:
        return corrected(original, opinion) if opinion.said == ACCEPT else None
    annotation = dict(opinion.annotation)
    if question:
        annotation["result"] = [one for one in annotation["result"] if one.get("from_name") == question]
    read = LabelStudio().read({"data": item.task["data"], "annotations": [annotation]})
    if original is None:
        return read
    kept = {name: getattr(original, name) for name in ("prompt", "system", "tools")}
    return read.model_copy(update=kept)


def corrected(row: Example, opinion: Opinion) -> Example:
    """An accepted row with the person's corrections, if there are any."""
    texts = _texts(opinion)
    if question := texts.get(CORRECTED_QUESTION):
        row = row.changed(prompt=(*row.prompt[:-1], row.prompt[-1].changed(content=question)))
    if answer := texts.get(CORRECTED_ANSWER):
        row = row.changed(answers=(Message(role="assistant", content=answer),))
    return row


def _whole(opinion: Opinion) -> tuple[object, ...]:
    """An answer with the texts that stand beside its choice, as far as they decide about the row."""
    texts = _texts(opinion)
    beside = (texts.get(CORRECTED_QUESTION, ""), texts.get(CORRECTED_ANSWER, "")) if opinion.said == ACCEPT else ()
    return (opinion.said, *beside)


def _texts(opinion: Opinion) -> dict[str, str]:
    found = {}
    for one in opinion.annotation["result"]:
        text = _text(one.get("value")) if one.get("type") == TEXT else ""
        if text:
            found[str(one.get("from_name"))] = text
    return found


def _text(value: Any) -> str:
    text = value.get("text") if isinstance(value, dict) else None
    parts = text if isinstance(text, list) else [text]
    return "\n".join(part for part in parts if isinstance(part, str)).strip()


def _item(task: Mapping[str, Any], where: str, question: str, left: Counter[str], names: Counter[str]) -> Item:
    data, annotations = task.get("data"), task.get("annotations")
    if not isinstance(data, dict) or not isinstance(annotations, list):
        raise InputError("this is no task with its annotations", where=where, fix=_EXPORT)
    held = data.get(OWN)
    own: Mapping[str, Any] = held if isinstance(held, dict) else {}
    number = str(own.get("id") or f"{task.get('project', '')}/{task.get('id', '')}")
    asked = question or (DECISION if own.get("ask") == "accept" else "")
    kind, by_rater = "", dict[str, Opinion]()
    for annotation in sorted(annotations, key=_age):
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
            raise InputError("an annotation is no object with a list 'result'", where=where, fix=_EXPORT)
        if annotation.get("was_cancelled"):
            left["skipped answers"] += 1
            continue
        results = [one for one in annotation["result"] if isinstance(one, dict) and one.get("type") in _VALUES]
        names.update(str(one.get("from_name")) for one in results)
        said = _said([one for one in results if asked in ("", one.get("from_name"))], where)
        if said is None:
            left["empty answers"] += 1
            continue
        rater = _rater(annotation.get("completed_by"))
        left["answers that the same person gave anew"] += rater in by_rater
        kind, by_rater[rater] = said[0], Opinion(rater, said[1], annotation)
    return Item(number, kind, task, tuple(by_rater.values()))


def _said(results: Sequence[Mapping[str, Any]], where: str) -> tuple[str, str | int] | None:
    """The kind of question that was answered, and the answer; None where it is empty."""
    for kind, key in _VALUES.items():
        same = [one for one in results if one.get("type") == kind]
        asked = sorted({str(one.get("from_name")) for one in same})
        if len(asked) > 1:
            fix = "name one of them with --question"
            raise InputError(f"several questions are answered: {', '.join(asked)}", where=where, fix=fix)
        if same:
            value = same[0].get("value")
            if kind == TEXT:
                text = _text(value)
                return (kind, text) if text else None
            found = value.get(key) if isinstance(value, dict) else None
            if kind == "choices" and isinstance(found, list):
                found = ", ".join(sorted(map(str, found)))
            if kind == RATING and isinstance(found, float) and found.is_integer():
                found = int(found)
            return (kind, found) if isinstance(found, int if kind == RATING else str) and found else None
    return None


def _age(annotation: Any) -> tuple[str, int]:
    if not isinstance(annotation, dict):
        return "", 0
    number = annotation.get("id")
    return str(annotation.get("created_at", "")), number if isinstance(number, int) else 0


def _rater(found: Any) -> str:
    return str(found.get("id") if isinstance(found, dict) else found)


def _original(item: Item) -> Example | None:
    """The row that the task was made of."""
    if "row" not in item.own:
        return None
    try:
        return Example.model_validate(item.own["row"])
    except ValidationError:
        raise Unusable("the row in the task's data was changed", "push the rows into a new project") from None


def told(counts: Mapping[str, int]) -> list[str]:
    """A sentence for each reason that is not nought."""
    return [f"{count} {reason}" for reason, count in counts.items() if count]


def raters_of(items: Iterable[Item]) -> dict[str, int]:
    """How many tasks each person answered."""
    return dict(sorted(Counter(one.rater for item in items for one in item.opinions).items()))
