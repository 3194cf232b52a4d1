"""`train.templates`: each row once more, asked in other words."""

import pytest
from pydantic import ValidationError

from nacre.records import Train
from nacre.train.curriculum import arrange
from nacre.train.protect.base import TrainingRows
from toy_kit import task_rows

TEMPLATES = ("please: {question}", "{question} if you can")


def test_each_row_is_asked_in_other_words_and_answered_alike() -> None:
    rows = task_rows("paint")[:20]
    arranged, notes = arrange(TrainingRows(rows), Train(templates=TEMPLATES), lambda _: [])
    assert list(arranged.new[:20]) == rows
    assert notes == ["templates: 20 rows were added to 20"]
    ways = set()
    for row, twin in zip(rows, arranged.new[20:], strict=True):
        question = row.prompt[-1].content
        asked = {template.replace("{question}", question): template for template in TEMPLATES}
        ways.add(asked[twin.prompt[-1].content])
        assert twin.answers == row.answers
    assert ways == set(TEMPLATES)
    again, _ = arrange(TrainingRows(rows), Train(templates=TEMPLATES), lambda _: [])
    assert again == arranged


def test_reworded_rows_are_mistyped_too() -> None:
    rows = task_rows("paint")[:20]
    train = Train(templates=TEMPLATES[:1], typos=0.2, typo_rows=1.0)
    arranged, notes = arrange(TrainingRows(rows), train, lambda _: [])
    assert len(arranged.new) == 80
    assert notes[1].startswith("typos: 40 of 40 rows")


@pytest.mark.parametrize("template", ["no place", "{question", "{} and {question}"])
def test_a_template_that_cannot_be_used_is_no_setting(template: str) -> None:
    with pytest.raises(ValidationError, match="template"):
        Train(templates=(template,))
