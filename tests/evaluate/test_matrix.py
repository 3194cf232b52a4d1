import pytest
from pydantic import ValidationError

from nacre.evaluate.matrix import Matrix, average_accuracy, bwt, figures, forgetting, fwt, learning_accuracy


def matrix(cells, learned_at, base=()):
    rows, columns = len(cells), len(cells[0])
    return Matrix(
        versions=tuple(f"v{i + 1}" for i in range(rows)),
        tasks=tuple("abcdef"[:columns]),
        cells=tuple(map(tuple, cells)),
        learned_at=learned_at,
        base=base,
    )


FULL = matrix([[0.8, 0.3, 0.1], [0.9, 0.7, 0.2], [0.5, 0.6, 0.9]], (0, 1, 2), base=(0.2, 0.1, 0.1))


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        (average_accuracy, (0.5 + 0.6 + 0.9) / 3),
        (bwt, ((0.5 - 0.8) + (0.6 - 0.7)) / 2),
        (forgetting, ((0.9 - 0.5) + (0.7 - 0.6)) / 2),  # task a was best at version 2, after it was learned
        (learning_accuracy, (0.8 + 0.7 + 0.9) / 3),
        (fwt, ((0.3 - 0.1) + (0.2 - 0.1)) / 2),
    ],
)
def test_worked_example(figure, value):
    found = figure(FULL)
    assert found.value == pytest.approx(value)
    assert found.definition
    assert found.source
    assert not found.reason


def test_versions_that_learn_nothing_new_and_versions_that_learn_two():
    both = matrix([[0.6, 0.4], [0.5, 0.8]], (0, 0))
    assert bwt(both).value == pytest.approx(((0.5 - 0.6) + (0.8 - 0.4)) / 2)
    assert forgetting(both).value == pytest.approx(((0.6 - 0.5) + (0.4 - 0.8)) / 2)
    assert "one task learned before another" in fwt(both).reason


def test_one_version_has_no_backward_transfer_and_says_why():
    single = matrix([[0.8]], (0,))
    assert average_accuracy(single).value == pytest.approx(0.8)
    assert bwt(single).value is None
    assert forgetting(single).value is None
    assert "one task learned before another" in bwt(single).reason


def test_a_missing_cell_is_named_and_spoils_only_what_reads_it():
    holed = matrix([[0.8, None, None], [None, 0.7, None], [0.5, 0.6, 0.9]], (0, 1, 2))
    assert average_accuracy(holed).value == pytest.approx(2 / 3)
    assert bwt(holed).value == pytest.approx(-0.2)
    assert forgetting(holed).value is None
    assert forgetting(holed).reason == "not scored: v2 on a"
    assert fwt(holed).reason == "not scored: v1 on b, v2 on c, base model"
    assert "v2 on a" in str(forgetting(holed))


def test_a_base_score_of_zero_is_a_score():
    assert fwt(matrix([[0.8, 0.3], [0.7, 0.9]], (0, 1), base=(0.0, 0.0))).value == pytest.approx(0.3)
    assert "base model on b" in fwt(matrix([[0.8, 0.3], [0.7, 0.9]], (0, 1), base=(0.0, None))).reason


def test_figures_survive_the_disk():
    assert Matrix.from_json(FULL.to_json()) == FULL
    assert [figure.name for figure in figures(FULL)][:3] == ["average accuracy", "BWT", "forgetting"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cells": ((0.1, 0.2),)},
        {"learned_at": (0,)},
        {"learned_at": (0, 2)},
        {"base": (0.1,)},
        {"versions": (), "cells": ()},
    ],
)
def test_shapes_that_do_not_fit_are_refused(wrong):
    good = {"versions": ("v1", "v2"), "tasks": ("a", "b"), "cells": ((0.1, None), (0.2, 0.3)), "learned_at": (0, 1)}
    assert Matrix.model_validate(good)
    with pytest.raises(ValidationError):
        Matrix.model_validate(good | wrong)
