"""Label Studio's JSON export: one task a row, with what people said about it.

What becomes of a task depends on what was asked (https://labelstud.io/guide/export):

- a correction (`textarea`): the question with the corrected answer;
- a comparison (`pairwise`): a preference pair;
- a class (`choices`): the question with the class as its answer;
- stars (`rating`) for an answer that stands in the task: a judged answer, wanted from four up, not wanted to two.

Where one annotation holds several of these, the first in this order counts. Of several annotations one marked as
ground truth decides; otherwise they must come to the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nacre.data.formats.fields import Unusable, kind_of
from nacre.data.formats.layout import RESPONSES, Reading, is_annotated
from nacre.records import Example, Message

WANTED, UNWANTED = 4, 2  # stars
_QUESTIONS = ("instruction", "prompt", "question", "text", "input")
_SIDES = (("left", "right"), ("answer_a", "answer_b"), ("response_a", "response_b"), ("chosen", "rejected"))
_EXPORT = "export it as JSON: GET /api/projects/ID/export?exportType=JSON"


class LabelStudio(Reading):
    """``{"id": …, "data": {…}, "annotations": [{"result": […]}, …]}``."""

    @staticmethod
    def looks_like(record: Mapping[str, Any]) -> bool:
        """A task with its annotations, or a row of the flat export, which is explained."""
        return is_annotated(record)

    def used(self, record: Mapping[str, Any]) -> frozenset[str]:
        """All: what is beside data and annotations is Label Studio's own."""
        return frozenset(record)

    def read(self, record: Mapping[str, Any]) -> Example:
        """The example that the annotations make of the task."""
        if "annotations" not in record:
            reason = "a row of Label Studio's JSON_MIN (or CSV) export, which does not say what was asked"
            raise Unusable(reason, _EXPORT)
        data, annotations = record["data"], record["annotations"]
        if not isinstance(data, dict) or not isinstance(annotations, list):
            wrong = "data" if not isinstance(data, dict) else "annotations"
            raise Unusable(f"'{wrong}' of the task is {kind_of(record[wrong])}", _EXPORT)
        valid = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
        if not valid:
            skipped = "every annotation of the task was skipped" if annotations else "the task has no annotation yet"
            raise Unusable(skipped, "annotate it, or delete the row")
        truth = [one for one in valid if one.get("ground_truth")]
        made = [_example(data, one.get("result")) for one in truth or valid]
        if any(one.content_id != made[0].content_id for one in made):
            said = ", ".join(_said(one) for one in made[:4])
            fix = "decide which one holds, and mark it as ground truth"
            raise Unusable(f"{len(made)} annotations of the task differ: {said}", fix)
        return made[0]


def _example(data: Mapping[str, Any], result: Any) -> Example:
    if not isinstance(result, list) or not all(isinstance(one, dict) for one in result):
        raise Unusable(f"'result' of an annotation is {kind_of(result)}, not a list of answers", _EXPORT)
    by_type: dict[str, list[Mapping[str, Any]]] = {}
    for one in result:
        by_type.setdefault(str(one.get("type")), []).append(one)
    for kind, make in _MAKERS.items():
        if kind in by_type:
            asked = {str(one.get("from_name")) for one in by_type[kind]}
            if len(asked) > 1:
                reason = f"the annotation answers several questions of one kind: {', '.join(sorted(asked))}"
                raise Unusable(reason, "export one question at a time")
            return make(data, by_type[kind][0])
    found = ", ".join(sorted(by_type)) or "nothing"
    raise Unusable(f"the annotation holds {found}", f"known: {', '.join(_MAKERS)}")


def _corrected(data: Mapping[str, Any], one: Mapping[str, Any]) -> Example:
    text = _value(one, "text")
    parts = text if isinstance(text, list) else [text]
    if not all(isinstance(part, str) for part in parts) or not "".join(map(str, parts)).strip():
        raise Unusable("the correction is blank or no text", "write it, or delete the row")
    return Example(prompt=_question(data), answers=(_answer("\n".join(parts)),), system=_system(data))


def _compared(data: Mapping[str, Any], one: Mapping[str, Any]) -> Example:
    selected = _value(one, "selected")
    if selected not in ("left", "right"):
        raise Unusable(f"the comparison selects {selected!r}, not left or right", "annotate it again")
    left, right = (_answer(_text(data, name)) for name in _sides(data, one.get("to_name")))
    answers = (left, right) if selected == "left" else (right, left)
    return Example(kind="preference", prompt=_question(data), answers=answers, system=_system(data))


def _classified(data: Mapping[str, Any], one: Mapping[str, Any]) -> Example:
    choices = _value(one, "choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
        raise Unusable("no class was chosen", "annotate it, or delete the row")
    return Example(prompt=_question(data), answers=(_answer(", ".join(choices)),), system=_system(data))


def _rated(data: Mapping[str, Any], one: Mapping[str, Any]) -> Example:
    stars = _value(one, "rating")
    if isinstance(stars, bool) or not isinstance(stars, int | float):
        raise Unusable(f"the rating is {kind_of(stars)}, not a number", "annotate it again")
    if UNWANTED < stars < WANTED:
        raise Unusable(f"a rating of {stars:g} says neither wanted nor unwanted", "delete the row, or rate it again")
    column = next((name for name in RESPONSES if isinstance(data.get(name), str)), None)
    if column is None:
        raise Unusable("the task has no answer to be rated", f"put it into its data as {' or '.join(RESPONSES)}")
    answer = _answer(_text(data, column))
    return Example(
        kind="kto", prompt=_question(data), answers=(answer,), system=_system(data), desirable=stars >= WANTED
    )


_MAKERS = {"textarea": _corrected, "pairwise": _compared, "choices": _classified, "rating": _rated}


def _value(one: Mapping[str, Any], key: str) -> Any:
    value = one.get("value")
    return value.get(key) if isinstance(value, dict) else None


def _question(data: Mapping[str, Any]) -> tuple[Message, ...]:
    """The first column of a question; an input stands below an instruction, as in alpaca."""
    names = [name for name in _QUESTIONS if isinstance(data.get(name), str) and data[name].strip()]
    if not names:
        found = ", ".join(map(str, data)) or "nothing"
        reason = f"the task's data has no question (it has: {found})"
        raise Unusable(reason, f"name it {', '.join(_QUESTIONS[:-1])} or {_QUESTIONS[-1]}")
    first = names[0]
    parts = [data[first], data["input"]] if first in _QUESTIONS[:2] and "input" in names else [data[first]]
    return (Message(role="user", content="\n".join(parts)),)


def _system(data: Mapping[str, Any]) -> str:
    system = data.get("system")
    return system if isinstance(system, str) else ""


def _sides(data: Mapping[str, Any], names: Any) -> Sequence[str]:
    """The columns of the two answers: those that were compared, or the customary ones, or the only two there are."""
    if isinstance(names, list) and len(names) == 2 and all(name in data for name in names):
        return [str(name) for name in names]
    for sides in _SIDES:
        if all(side in data for side in sides):
            return sides
    rest = [name for name in data if isinstance(data[name], str) and name not in (*_QUESTIONS, "system", "id")]
    if len(rest) == 2:
        return rest
    raise Unusable("it is not clear which columns of the task were compared", "call them left and right")


def _text(data: Mapping[str, Any], column: str) -> str:
    value = data[column]
    if not isinstance(value, str) or not value.strip():
        raise Unusable(f"'{column}' of the task's data is blank or no text", "fill it in, or delete the row")
    return value


def _answer(content: str) -> Message:
    return Message(role="assistant", content=content)


def _said(example: Example) -> str:
    if example.kind == "kto":
        return "wanted" if example.desirable else "not wanted"
    return repr(example.answer[:40])
