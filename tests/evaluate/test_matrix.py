import pytest
from pydantic import ValidationError

from nacre.evaluate.history import GeneralScores, History
from nacre.evaluate.matrix import (
    General,
    Matrix,
    asked_figures,
    average_accuracy,
    bwt,
    bwt_of_all,
    figures,
    forgetting,
    fwt,
    gap_closed,
    gap_to_joint,
    general_delta,
    general_perplexity,
    learning_accuracy,
)


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
        (bwt_of_all, ((0.5 - 0.8) + (0.6 - 0.7) + 0) / 3),
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
        {"joint": (0.1,)},
        {"parents": ((), (1,))},
        {"parents": ((),)},
    ],
)
def test_shapes_that_do_not_fit_are_refused(wrong):
    good = {"versions": ("v1", "v2"), "tasks": ("a", "b"), "cells": ((0.1, None), (0.2, 0.3)), "learned_at": (0, 1)}
    assert Matrix.model_validate(good)
    with pytest.raises(ValidationError):
        Matrix.model_validate(good | wrong)


def test_gem_and_trace_differ_by_the_share_of_old_tasks_and_say_so():
    """With one task a version, TRACE's BWT is GEM's times (T - 1) / T."""
    gem, trace = bwt(FULL), bwt_of_all(FULL)
    assert gem.value == pytest.approx(-0.2)
    assert trace.value == pytest.approx(gem.value * 2 / 3)
    assert "GEM" in gem.source
    assert "TRACE" in trace.source
    assert gem.definition != trace.definition
    assert bwt_of_all(matrix([[0.8]], (0,))).value is None


def test_general_ability_is_the_mean_difference_to_the_base_model():
    """TRACE's definition by hand: MMLU 0.46 to 0.44, GSM 0.26 to 0.03, BoolQ 0.70 to 0.73."""
    rows = [("mmlu", 0.46, 0.44), ("gsm", 0.26, 0.03), ("boolq", 0.70, 0.73)]
    general = tuple(General(name=name, measure="score", base=old, version=new) for name, old, new in rows)
    found = general_delta(FULL.changed(general=general))
    assert found.value == pytest.approx((-0.02 - 0.23 + 0.03) / 3)
    assert "TRACE" in found.source
    unscored = General(name="piqa", measure="score", base=0.5, version=None)
    assert general_delta(FULL.changed(general=(*general, unscored))).reason == "not scored: v3 on piqa"
    assert general_delta(FULL).reason == "evaluate.general names no general tasks"
    assert general_perplexity(FULL.changed(general=general)).value is None


def test_general_text_is_held_against_the_base_model_by_the_ratio_of_perplexities():
    texts = (("en", 100.0, 200.0), ("zh", 50.0, 25.0), ("code", 10.0, 80.0))
    general = tuple(General(name=name, measure="perplexity", base=old, version=new) for name, old, new in texts)
    assert general_perplexity(FULL.changed(general=general[:1])).value == pytest.approx(2.0)
    assert general_perplexity(FULL.changed(general=general)).value == pytest.approx((2 * 0.5 * 8) ** (1 / 3))


def test_the_two_brackets():
    """a[L] is 0.5, 0.6, 0.9: mean 2/3; joint 0.8, 0.8, 0.95: 0.85; plain 0.1, 0.2, 0.9: 0.4."""
    held = FULL.changed(joint=(0.8, 0.8, 0.95), plain=(0.1, 0.2, 0.9))
    assert gap_to_joint(held).value == pytest.approx(0.85 - 2 / 3)
    assert gap_closed(held).value == pytest.approx((2 / 3 - 0.4) / (0.85 - 0.4))
    assert gap_to_joint(FULL).reason == "no joint version is known"
    assert gap_closed(FULL.changed(joint=(0.8, 0.8, 0.95))).reason == "no plain version is known"
    assert "no better than plain" in gap_closed(FULL.changed(joint=(0.1, 0.1, 0.1), plain=(0.1, 0.2, 0.9))).reason
    assert gap_to_joint(FULL.changed(joint=(0.8, None, 0.95))).reason == "not scored: the joint version on b"


def test_what_nobody_asked_for_is_not_shown_unasked():
    usual = ["average accuracy", "BWT", "forgetting", "learning accuracy", "FWT"]
    assert [figure.name for figure in asked_figures(FULL)] == usual
    assert "gap to joint" in [figure.name for figure in asked_figures(FULL.changed(joint=(0.8, 0.8, 0.95)))]
    assert len({figure.name for figure in figures(FULL)}) == len(figures(FULL)) == 10
    assert all(figure.definition and figure.source for figure in figures(FULL))


def test_a_merge_knows_what_its_parents_know_and_a_side_branch_forgets_nothing_it_never_knew():
    """v1 learns a; v2 learns b and v3 learns c, both from v1; v4 is merged from v2 and v3."""
    cells = [[0.9, 0.1, 0.1], [0.7, 0.8, 0.3], [0.95, 0.99, 0.9], [0.85, 0.75, 0.8]]
    merged = matrix(cells, (0, 1, 2)).changed(parents=((), (0,), (0,), (1, 2)))
    assert merged.since(1) == [1, 3], "v3 does not come from v2: its 0.99 on b is no score to fall from"
    expected = ((0.95 - 0.85) + (0.8 - 0.75) + (0.9 - 0.8)) / 3
    assert forgetting(merged).value == pytest.approx(expected)
    assert bwt(merged).value == pytest.approx(((0.85 - 0.9) + (0.75 - 0.8) + (0.8 - 0.9)) / 3)
    based = merged.changed(base=(0.0, 0.05, 0.05))
    assert fwt(based).value == pytest.approx(((0.1 - 0.05) + (0.1 - 0.05)) / 2), "c was learned from v1, not from v2"
    assert [merged.state(2, task) for task in range(3)] == ["known", "before", "learned"]


HISTORY = History(
    versions=("v1 +a", "v2 +b", "v3 +b (from v1)", "v4 +c", "v5 +all (from base)"),
    numbers=(1, 2, 3, 4, 5),
    parents=((), (0,), (0,), (2,), ()),
    taught=((0,), (1,), (1,), (2,), (0, 1, 2)),
    tasks=("a", "b", "c"),
    cells=((0.9, 0.1, 0.0), (0.2, 0.8, 0.0), (0.85, 0.7, 0.1), (0.8, 0.6, 0.9), (0.9, 0.9, 0.9)),
    base=(0.0, 0.1, 0.0),
    joint=4,
    general=(GeneralScores(name="text", measure="perplexity", base=10.0, versions=(11.0, 30.0, 12.0, 15.0, None)),),
)


def test_each_version_of_a_branching_history_is_read_along_its_own_line():
    line = HISTORY.line(3)
    assert line.versions == ("v1 +a", "v3 +b (from v1)", "v4 +c")
    assert line.learned_at == (0, 1, 2)
    assert bwt(line).value == pytest.approx(((0.8 - 0.9) + (0.6 - 0.7)) / 2)
    assert gap_to_joint(line).value == pytest.approx(0.9 - (0.8 + 0.6 + 0.9) / 3)
    assert general_perplexity(line).value == pytest.approx(1.5)
    other = HISTORY.line(1)
    assert other.tasks == ("a", "b")
    assert bwt(other).value == pytest.approx(0.2 - 0.9)
    assert gap_to_joint(other).reason == "no joint version is known", "the joint one was taught more than a and b"
    assert [HISTORY.state(row, 1) for row in range(5)] == ["before", "learned", "learned", "known", "learned"]


def test_a_line_without_dev_rows_has_no_matrix():
    assert HISTORY.changed(taught=((), (1,), (1,), (2,), ()), joint=None).line(0) is None
