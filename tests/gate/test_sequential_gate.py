"""The gate as it is by default: sequential, with automatic margins, over several tasks, in an order of chance."""

import numpy as np
import pytest

from nacre.gate import TaskPair, decide, judge
from nacre.gate.pair import reading_order
from nacre.records import Keep, Verdict
from nacre.records.gating import Gate
from nacre.stats.paired import paired
from nacre.stats.sequential import lower_bound, upper_bound


def scores(random: np.random.Generator, rows: int, psi: float, drop: float) -> tuple[list[float], list[float]]:
    """Right/wrong answers before and after: a share `psi` changes, and `drop` more of them for the worse."""
    draws = random.random(rows)
    lost, gained = draws < (psi + drop) / 2, (draws >= (psi + drop) / 2) & (draws < psi)
    before = np.where(lost, 1, np.where(gained, 0, random.random(rows) < 0.7))
    return before.tolist(), np.where(lost, 0, np.where(gained, 1, before)).tolist()


def task(random: np.random.Generator, rows: int, psi: float, drop: float = 0.0, name: str = "skill") -> TaskPair:
    return TaskPair(name, "exact_match", *scores(random, rows, psi, drop))


@pytest.mark.parametrize(("rows", "psi"), [(80, 0.05), (150, 0.1)])
def test_an_unchanged_model_passes_about_four_times_in_five_under_an_automatic_margin(rows: int, psi: float) -> None:
    random = np.random.default_rng(rows)
    found = [decide(task(random, rows, psi), Keep()) for _ in range(200)]
    passed = sum(one.outcome == "pass" for one in found) / len(found)
    assert passed >= 0.8 - 0.057, "two standard errors"
    assert sum(one.outcome == "fail" for one in found) / len(found) <= 0.05
    assert all(0.02 <= one.margin <= 0.10 for one in found)


@pytest.mark.parametrize("tasks", [4, 10])
@pytest.mark.slow
def test_an_unchanged_model_passes_all_its_tasks_four_times_in_five(tasks: int) -> None:
    random = np.random.default_rng(tasks)
    pairs = [[task(random, 150, 0.03, name=f"skill {one}") for one in range(tasks)] for _ in range(150)]
    found = [judge(every, Keep()) for every in pairs]
    passed = sum(one.outcome == "pass" for one in found) / len(found)
    assert passed >= 0.8 - 0.065, "two standard errors"
    alone = decide(pairs[0][0], Keep())
    assert found[0].tasks[0].margin > alone.margin


@pytest.mark.parametrize(("psi", "drop"), [(0.05, 0.05), (0.1, 0.06)])
def test_an_automatic_margin_does_not_let_a_drop_of_its_own_size_pass(psi: float, drop: float) -> None:
    """The margin is read off the same rows; blind to the direction, it must not raise the error."""
    random = np.random.default_rng(5)
    found = [decide(task(random, 150, psi, drop), Keep()) for _ in range(200)]
    wrong = sum(one.outcome == "pass" and one.margin <= drop for one in found) / len(found)
    assert wrong <= 0.20 + 0.057, "two standard errors"


def test_many_kept_tasks_do_not_raise_false_refusals() -> None:
    random = np.random.default_rng(7)
    refused = {"holm": 0, "none": 0}
    for _ in range(60):
        pairs = [task(random, 200, 0.2, name=str(i)) for i in range(10)]
        for correction in refused:
            found = judge(pairs, Keep(max_drop=0.005), Gate(correction=correction))
            refused[correction] += found.outcome == "fail"
    assert refused["holm"] / 60 <= 0.05 + 0.056, "two standard errors"
    assert refused["none"] > refused["holm"]


@pytest.mark.parametrize("place", [0, 9])
def test_five_points_lost_in_one_of_ten_tasks_are_found_and_nothing_else_is(place: int) -> None:
    random = np.random.default_rng(11)
    pairs = [task(random, 1500, 0.08, 0.05 * (i == place), name=str(i)) for i in range(10)]
    found = judge(pairs, Keep())
    assert found.outcome == "fail"
    assert [one.task for one in found.tasks if one.outcome == "fail"] == [str(place)]
    assert all(0 < (one.rows_used or 0) <= 1500 for one in found.tasks)
    same = judge([TaskPair(str(i), "exact_match", pair.before, pair.before) for i, pair in enumerate(pairs)], Keep())
    assert same.outcome == "pass"
    assert all(one.rows_used == same.tasks[0].rows_used < 150 for one in same.tasks)


def test_a_sorted_dev_file_is_read_in_an_order_of_chance() -> None:
    """All losses stand at the end; a reader from the top would pass it long before it saw one."""
    rows = 600
    pair = TaskPair("skill", "exact_match", [1] * rows, [1] * 480 + [0] * 120)
    found = decide(pair, Keep(max_drop=0.05))
    assert found.outcome == "fail"
    assert (found.rows_used or 0) < 200
    order = reading_order([str(place) for place in range(rows)])
    assert sorted(order) == list(range(rows))
    assert order == reading_order([str(place) for place in range(rows)])
    assert sum(place >= 480 for place in order[:100]) in range(8, 35)


def test_the_order_follows_the_names_of_the_rows_not_their_places() -> None:
    names = [f"question {place}" for place in range(50)]
    back = [names[::-1][place] for place in reading_order(names[::-1])]
    assert back == [names[place] for place in reading_order(names)]


def test_a_margin_of_one_lets_anything_pass() -> None:
    assert decide(TaskPair("skill", "exact_match", [1.0] * 80, [0.0] * 80), Keep(max_drop=1.0)).outcome == "pass"


def test_what_is_reported() -> None:
    random = np.random.default_rng(3)
    found = judge([task(random, 400, 0.1), task(random, 400, 0.1, 0.3, name="lost")], Keep())
    kept, lost = found.tasks
    assert (kept.rows, kept.rows_of) == (400, 400)
    assert kept.e_margin is not None
    assert kept.e_margin >= 5
    assert lost.e_value is not None
    assert lost.e_value >= 40  # two tasks share a twentieth
    assert lost.p_value == pytest.approx(1 / lost.e_value)
    assert (lost.rows_used or 0) < 150
    assert lost.interval[0] < lost.drop < lost.interval[1]
    assert found.power == 0.8
    assert Verdict.from_json(found.to_json()) == found


def test_rows_behind_an_early_pass_that_show_a_loss_take_it_back() -> None:
    order = reading_order([str(place) for place in range(1000)])
    after = [1.0] * 1000
    for place in order[300:450]:
        after[place] = 0.0
    found = judge([TaskPair("skill", "exact_match", [1.0] * 1000, after)], Keep(max_drop=0.05))
    assert (found.outcome, found.tasks[0].rows_used) == ("fail", 1000)
    assert "rows were enough to pass, but over all 1000 the drop is 0.150" in found.notes[0]


def test_rows_behind_an_early_refusal_that_show_no_loss_take_it_back() -> None:
    order = reading_order([str(place) for place in range(1000)])
    before, after = [1.0] * 1000, [1.0] * 1000
    for place in order[:20]:
        after[place] = 0.0
    for place in order[400:440]:
        before[place] = 0.0
    found = judge([TaskPair("skill", "exact_match", before, after)], Keep(max_drop=0.001))
    assert found.outcome == "undecided"
    assert "over all 1000 nothing is lost" in found.notes[0]
    wider = judge([TaskPair("skill", "exact_match", before, after)], Keep(max_drop=0.01))
    assert wider.outcome == "pass", "all rows even show that the margin is not lost"
    assert (wider.tasks[0].e_margin or 0) >= 5


def test_a_refusal_gives_way_where_all_rows_show_that_the_drop_can_be_borne() -> None:
    """Twenty rows lost at the start and none of the 4,980 behind them: a drop of 0.004 where 0.02 can be borne."""
    order = reading_order([str(place) for place in range(5000)])
    after = [1.0] * 5000
    for place in order[:20]:
        after[place] = 0.0
    found = judge([TaskPair("skill", "exact_match", [1.0] * 5000, after)], Keep(max_drop=0.02))
    assert (found.outcome, found.tasks[0].rows_used) == ("pass", 5000)
    assert "20 of" not in found.notes[0]
    assert "over all 5000 the drop of 0.004 is shown to be below the margin: pass" in found.notes[0]


def test_no_task_is_refused_whose_rows_show_that_the_drop_can_be_borne() -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        found = decide(task(random, 6000, 0.1, 0.01), Keep(max_drop=0.02))
        shown = (found.e_margin or 0) >= 5 and found.drop <= 0.02
        assert found.outcome != "fail" or not (shown or found.interval[1] < found.margin)


@pytest.mark.parametrize(("rows", "psi", "margin"), [(1500, 0.05, 0.02), (800, 0.3, 0.05), (400, 0.1, 0.05)])
def test_a_drop_of_the_margin_passes_once_in_five_at_most(rows: int, psi: float, margin: float) -> None:
    """Through `judge`, with rows in plenty. A gate that asked for less than it says would pass here."""
    random = np.random.default_rng(21)
    found = [decide(task(random, rows, psi, margin), Keep(max_drop=margin)).outcome for _ in range(500)]
    assert found.count("pass") / 500 <= 0.20 + 0.036, "two standard errors"


def test_the_limit_of_a_pass_is_what_power_says() -> None:
    """The capital of unchanged rows grows steadily: a pass comes at the first row where it has reached 1 / 0.2."""
    same = TaskPair("skill", "exact_match", [1.0] * 300, [1.0] * 300)
    for power in (0.6, 0.8, 0.95):
        found = decide(same, Keep(max_drop=0.05), Gate(power=power))
        used = found.rows_used or 0
        capital = []
        for rows in (used - 1, used):
            part = TaskPair("skill", "exact_match", [1.0] * rows, [1.0] * rows)
            capital.append(decide(part, Keep(max_drop=0.05), Gate(power=power)).e_margin or 0.0)
        assert capital[0] < 1 / (1 - power) <= capital[1]


@pytest.mark.slow
def test_an_automatic_margin_holds_in_the_hardest_case() -> None:
    random = np.random.default_rng(22)
    found = [decide(task(random, 150, 0.3, 0.1), Keep()) for _ in range(500)]
    wrong = sum(one.outcome == "pass" and one.margin <= 0.1 for one in found) / 500
    assert wrong <= 0.20 + 0.036, "two standard errors"


def test_the_interval_of_a_verdict_has_the_level_it_states() -> None:
    """Two-sided at the confidence: each side is left once in forty, so the bounds are those of 0.975."""
    random = np.random.default_rng(23)
    found = [decide(task(random, 300, 0.3, 0.05), Keep()) for _ in range(300)]
    outside = sum(not one.interval[0] <= 0.05 <= one.interval[1] for one in found) / 300
    assert outside <= 0.05 + 0.025, "two standard errors"
    pair = task(random, 300, 0.3, 0.05)
    for confidence in (0.9, 0.95):
        side = (1 + confidence) / 2
        for test in ("sequential", "score"):
            low, high = decide(pair, Keep(confidence=confidence), Gate(test=test)).interval
            if test == "sequential":
                wanted = [bound(pair.differences(), side) for bound in (lower_bound, upper_bound)]
            else:
                scores = paired(pair.before, pair.after)
                wanted = [scores.lower(side), scores.upper(side)]
            assert [low, high] == pytest.approx(wanted)


def test_missing_rows_are_counted_by_the_sharing_that_the_settings_ask_for() -> None:
    lost = [TaskPair(str(i), "m", [1.0] * 100, [0.0] * 3 + [1.0] * 97) for i in range(20)]
    shared, alone = (judge(lost, Keep(max_drop=0.0), Gate(correction=kind)).tasks[0] for kind in ("holm", "none"))
    single = judge(lost[:1], Keep(max_drop=0.0), Gate(correction="none")).tasks[0]
    assert 0 < alone.more_rows == single.more_rows < shared.more_rows


def test_a_doubtful_pair_cannot_pass_and_can_fail() -> None:
    good, bad = [1.0] * 300, [0.0] * 100 + [1.0] * 200
    found = judge([TaskPair("skill", "m", good, good, doubt="half is missing")], Keep())
    assert (found.outcome, found.tasks[0].more_rows) == ("undecided", 0)
    assert found.notes == ("skill: the rows at hand would pass, but half is missing: undecided",)
    found = judge([TaskPair("skill", "m", good, bad, doubt="half is missing")], Keep())
    assert (found.outcome, found.notes) == ("fail", ("skill: half is missing",))


def test_undecided_says_how_many_rows_are_missing() -> None:
    even = TaskPair("skill", "exact_match", [1.0, 0.0] * 6 + [1.0] * 48, [0.0, 1.0] * 6 + [1.0] * 48)
    found = judge([even], Keep(max_drop=0.02)).tasks[0]
    assert found.outcome == "undecided"
    assert 500 < found.more_rows < 10_000
    none = judge([TaskPair("skill", "f1", [1.0], [1.0])], Keep())
    assert none.outcome == "undecided"
    assert none.tasks[0].more_rows > 10
    assert "one dev row is not enough" in none.notes[0]


@pytest.mark.parametrize("test", ["sequential", "score", "mcnemar", "bootstrap"])
@pytest.mark.parametrize("binary", [True, False])
def test_every_test_passes_what_is_unchanged_and_refuses_what_is_lost(test: str, binary: bool) -> None:
    random = np.random.default_rng(4)
    before = (random.random(400) < 0.7).astype(float) if binary else random.uniform(0.3, 0.9, 400)
    worse = before * (random.random(400) > 0.2)
    gate = Gate(test=test)
    same, lost = (
        judge([TaskPair("skill", "m", before.tolist(), after.tolist())], Keep(), gate) for after in (before, worse)
    )
    assert (same.outcome, lost.outcome) == ("pass", "fail")
    assert lost.tasks[0].p_value is not None
    assert lost.tasks[0].p_value < 0.05
    assert (lost.tasks[0].e_value is None) == (test != "sequential")
    if test == "mcnemar":
        assert any("the paired t test stood in" in note for note in lost.notes) != binary


def test_flips_are_listed_with_row_prompt_and_both_answers() -> None:
    pair = TaskPair(
        "skill",
        "exact_match",
        [1, 0, 1, 1],
        [0, 1, 1, 0],
        prompts=["a " * 300, "b", "c", "d"],
        answers_before=["yes", "no", "yes", "yes"],
        answers_after=["no", "yes", "yes", "maybe"],
    )
    found = decide(pair, Keep())
    assert (found.lost, found.gained) == (2, 1)
    assert [(flip.row, flip.lost) for flip in found.flips] == [(0, True), (3, True), (1, False)]
    assert (found.flips[1].prompt, found.flips[1].answer_before, found.flips[1].answer_after) == ("d", "yes", "maybe")
    assert len(found.flips[0].prompt) == 200


def test_a_verdict_of_an_older_nacre_is_still_read() -> None:
    old = (
        '{"confidence":0.95,"notes":[],"outcome":"pass","schema_version":1,"tasks":[{"after":1.0,"before":1.0,"drop":0.0,'
        '"interval":[-0.02,0.02],"margin":0.02,"margin_why":"auto","metric":"exact_match","more_rows":0,"outcome":"pass",'
        '"rows":150,"schema_version":1,"task":"base","test":"score"}]}'
    )
    found = Verdict.from_json(old)
    assert (found.outcome, found.rules, found.tasks[0].rows_used, found.tasks[0].flips) == ("pass", (), None, ())
