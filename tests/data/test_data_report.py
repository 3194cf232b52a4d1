import gc
import json
from collections.abc import Iterator

import numpy as np
import pytest
from report_kit import TODAY, cooking, report, row, travel
from sklearn.metrics import roc_auc_score

from nacre.base.errors import InputError
from nacre.base.hashing import sha256_text
from nacre.data.report import duplicates
from nacre.data.report.build import Earlier
from nacre.data.report.coverage import read_domains
from nacre.data.report.diversity import distinct
from nacre.data.report.drift import delong, jensen_shannon
from nacre.data.report.language import language_of
from nacre.data.report.page import to_html
from nacre.data.report.sample import SAMPLE_ROWS
from nacre.data.report.timeliness import Times
from nacre.records import Example


def held() -> int:
    """Rows in memory."""
    gc.collect()
    return sum(isinstance(each, Example) for each in gc.get_objects())


def classes(**sizes: int) -> list[Example]:
    return [row(f"case {name} {n}", name) for name, size in sizes.items() for n in range(size)]


def test_classes_are_read_off_short_answers_and_flagged_above_three_to_one() -> None:
    found = report(classes(yes=30, no=10, maybe=9))
    assert found.balance.by == "answer"
    assert [(one.name, one.rows, one.ratio) for one in found.balance.classes] == [
        ("yes", 30, 1.0),
        ("no", 10, 3.0),
        ("maybe", 9, 3.33),
    ]
    assert "balance" in found.flagged
    assert "balance" not in report(classes(yes=30, no=10)).flagged  # three to one is still well


def test_a_class_of_two_rows_is_seen_among_few_answers_and_not_among_many() -> None:
    found = report(classes(yes=98, no=2)).balance
    assert [(one.name, one.rows, one.ratio) for one in found.classes] == [("yes", 98, 1.0), ("no", 2, 49.0)]
    many = [row(f"how much is {n}", str(n)) for n in range(40)]
    assert report([*classes(yes=90, no=80), *many]).balance.outside == 40


def test_a_column_names_the_class_and_an_unknown_one_is_refused_with_the_nearest() -> None:
    rows = [row(f"a question of kind {n}", f"an answer of its own {n}", kind="a" if n < 8 else "b") for n in range(10)]
    assert report(rows).balance.by == ""
    named = report(rows, label="kind").balance
    assert (named.by, named.ratio) == ("kind", 4.0)
    with pytest.raises(InputError, match="no row has a column 'kimd'") as refused:
        report(rows, label="kimd")
    assert "'kind'" in refused.value.fix


def test_domains_count_rows_by_whole_words_in_both_languages(tmp_path) -> None:
    path = tmp_path / "domains.txt"
    path.write_text("# what we serve\nbilling: invoice, 发票\nart\n物流：快递、包裹\n", encoding="utf-8")
    domains = read_domains(path)
    assert domains == {"billing": ("billing", "invoice", "发票"), "art": ("art",), "物流": ("物流", "快递", "包裹")}
    rows = [row("my Invoice is wrong"), row("我的发票和快递都没到"), row("start the party"), row("发票 invoice")]
    found = report(rows, domains=domains).coverage
    assert {field.name: field.rows for field in found.fields} == {"billing": 3, "art": 0, "物流": 1}
    assert (found.share, found.outside) == (pytest.approx(2 / 3), 1)


def test_rows_like_the_earlier_ones_reach_their_clusters_and_others_do_not() -> None:
    earlier = [Earlier("base", travel(300, 1))]
    same, other = report(travel(300, 2), earlier).coverage, report(cooking(300, 3), earlier).coverage
    assert (same.of, other.of) == ("clusters", "clusters")
    assert same.share is not None
    assert same.share > 0.9
    assert same.outside < 0.2 * same.looked
    assert other.share == 0
    assert other.outside == other.looked


def test_fields_are_named_by_what_tells_them_apart() -> None:
    asked = "Choose the right option for the following sentence please"
    kinds = ("river boat harbour", "violin concert opera", "rocket planet orbit", "pepper garlic butter")
    earlier = [row(f"{asked}: {kind} {n} {kind.split()[n % 3]}", "yes") for kind in kinds for n in range(60)]
    found = report(travel(40, 1), [Earlier("base", earlier)]).coverage
    names = [field.name for field in found.fields]
    assert len(names) == len(set(names)) > 3
    assert not any(word in name for name in names for word in ("choose", "option", "sentence"))


def test_distinct_n_by_hand() -> None:
    # a b a b: two of four words, two pairs (a b, b a) of three; Chinese character by character
    assert distinct(["a b a b"]) == ((0.5, pytest.approx(2 / 3)), 4)
    assert distinct(["天天"])[0] == (0.5, 1.0)
    assert distinct(["one", "two"])[0] is None  # no pair within a text
    assert distinct(["a a a a"], limit=2) == ((0.5, 1.0), 2)


def test_repeated_prompts_are_flagged() -> None:
    rows = [row(f"question {n % 8}", f"answer number {n}") for n in range(10)]
    found = report(rows)
    assert found.diversity.distinct_prompts == pytest.approx(0.8)
    assert "diversity" in found.flagged


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("signed 2024-05-20, changed 2025/1/2", ["2024-05-20", "2025-01-02"]),
        ("on May 20, 2024 and in June 2023", ["2023-06-30", "2024-05-20"]),
        ("我在2024年5月20日，以及2023年2月", ["2023-02-28", "2024-05-20"]),
        ("二〇二四年五月二十日", ["2024-05-20"]),
        ("始于2022年", ["2022-12-31"]),
        ("今年是2026年", ["2026-11-21"]),  # the year that is running is no future
        ("at 2024-05-20T10:00:00Z", ["2024-05-20"]),
        ("call 2024-555-1234 or 20240520 times, part 2023-2024", []),
        ("no such day: 2024-02-31", []),
    ],
)
def test_dates_in_text(text: str, dates: list[str]) -> None:
    assert sorted({date.isoformat() for date in Times(TODAY).dates(text)}) == dates


@pytest.mark.parametrize(
    ("value", "year"),
    [
        ("2025-03-04 10:00", "2025"),
        (1716163200, "2024"),
        ("1716163200000", "2024"),
        (2023, "2023"),
        ("2022", "2022"),
        (20240520, "2024"),
        ("20240520", "2024"),
    ],
)
def test_dates_in_a_column(value: str | int, year: str) -> None:
    found = report([row("asked in 1999-01-01", created_at=value)]).timeliness
    assert found.years == {year: 1}
    assert found.from_column == 1


def test_fewer_than_sixty_in_a_hundred_recent_rows_are_flagged_and_undated_ones_counted() -> None:
    def dated(recent: int, old: int) -> list[Example]:
        return [row(f"seen {n} on 2023-11-21") for n in range(recent)] + [row(f"{n} on 2023-11-20") for n in range(old)]

    found = report([*dated(59, 41), *(row(f"without {n}") for n in range(7)), row("due 2031-01-01")])
    assert found.timeliness.share == pytest.approx(0.59)
    assert (found.timeliness.since, found.timeliness.undated, found.timeliness.future) == ("2023-11-21", 8, 1)
    assert "timeliness" in found.flagged
    assert "timeliness" not in report(dated(60, 40)).flagged
    few = report([row("seen on 1999-01-01"), *(row(f"without {n}") for n in range(99))])
    assert "timeliness" not in few.flagged  # one date says nothing of a hundred rows
    assert [flag.level for flag in few.flags if flag.measure == "timeliness"] == ["note", "note"]
    assert "timeliness" in report([*dated(10, 20), *(row(f"without {n}") for n in range(900))]).flagged
    undated = report([row(f"without {n}") for n in range(7)])
    assert undated.timeliness.share is None
    assert [flag.level for flag in undated.flags if flag.measure == "timeliness"] == ["note"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How are you?", "en"),
        ("你好，今天怎么样", "zh"),
        ("请把 invoice 发给 customer support team 谢谢", "mixed"),
        ("Как дела сегодня", "other"),
        ("これはペンです", "other"),
        ("42 + 1 = 43", "none"),
    ],
)
def test_language_by_script(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_language_that_loses_ground_is_flagged() -> None:
    earlier = [Earlier("base", [*travel(50, 1), *cooking(50, 2)])]
    assert "language" in report(travel(40, 3), earlier).flagged
    assert "language" not in report([*travel(20, 3), *cooking(18, 4)], earlier).flagged


def test_lengths_by_hand() -> None:
    found = report([row("a" * n, "b") for n in (1, 2, 3, 4, 100)])
    characters = next(unit for unit in found.length.units if unit.unit == "characters")
    assert characters.quantiles == {"min": 3, "p5": 3, "median": 5, "p95": 102, "max": 102}
    assert dict(zip(characters.bins, characters.rows, strict=True)) == {4: 2, 8: 2, 16: 0, 32: 0, 64: 0, 128: 1}
    assert characters.mean == pytest.approx((3 + 4 + 5 + 6 + 102) / 5)


def test_repeats_within_and_across_increments_equal_and_similar() -> None:
    long = "The committee met on Tuesday to discuss the new timetable of the northern ferries and the fares for dogs "
    rows = [
        *travel(50, 1),
        *travel(50, 1)[:3],
        row(long + "again", "x" * 40),
        row(long + "again!", "x" * 40),
    ]
    learned, judged = travel(50, 2), travel(20, 3)
    earlier = [Earlier("base", [*learned, rows[0]]), Earlier("base", [*judged, rows[1]], "dev")]
    found = report(rows, earlier).duplicates
    assert (found.within, found.near) == (3, 1)
    assert [(one.split, one.rows) for one in found.across] == [("train", 2), ("dev", 2)]  # each stands twice in rows
    assert found.near_across == 0
    flagged = [flag.found.en for flag in report(rows, earlier).flags if flag.measure == "duplicates"]
    assert any("dev rows of earlier increments (base)" in sentence for sentence in flagged)


def test_rows_like_an_earlier_dev_row_are_a_leak_however_few_they_are() -> None:
    judged = travel(20, 3)
    one = judged[0].prompt[0].content
    rows = [*cooking(400, 1), row(f"{one} Please.", judged[0].answer)]
    found = report(rows, [Earlier("base", travel(60, 2)), Earlier("base", judged, "dev")])
    assert (found.duplicates.near_dev, found.duplicates.near_across) == (1, 0)
    said = [flag.found.en for flag in found.flags if flag.measure == "duplicates"]
    assert said == ["0 rows are dev rows of earlier increments, and 1 more are like one."]
    assert "like an earlier dev row" in to_html(found)


def test_personal_data_is_counted_and_never_shown() -> None:
    secrets = ("13812345678", "alice.winter@example.com", "4539578763621486")
    rows = [row(f"Case {n}: write to {secrets[1]} or call {secrets[0]}", secrets[0]) for n in range(20)]
    rows += [row(f"paid with {secrets[2]}", label=secrets[0]), *travel(40, 1)]
    found = report(rows, [Earlier("base", [row(f"{n} again {secrets[1]}") for n in range(60)])])
    assert found.private.found == {"PHONE": 40, "EMAIL": 20, "CARD": 1}
    assert found.private.rows == {"PHONE": 20, "EMAIL": 20, "CARD": 1}
    assert found.private.any_row == 21
    assert "private" in found.flagged
    for shown in (found.to_json(), to_html(found), to_html(report(rows, label="label"))):
        assert not [secret for secret in (*secrets, "alice", "winter") if secret in shown]


def test_delong_is_the_area_and_its_variance_is_the_bootstraps() -> None:
    draw = np.random.default_rng(0)
    positive, negative = draw.normal(1, 1, 80), draw.normal(0, 1, 120)
    area, variance = delong(positive, negative)
    assert area == pytest.approx(roc_auc_score([1] * 80 + [0] * 120, [*positive, *negative]))
    again = [delong(draw.choice(positive, 80), draw.choice(negative, 120))[0] for _ in range(2000)]
    assert variance == pytest.approx(np.var(again), rel=0.15)


def test_jensen_shannon_by_hand() -> None:
    assert jensen_shannon(np.array([3.0, 1.0]), np.array([6.0, 2.0])) == pytest.approx(0)
    assert jensen_shannon(np.array([5.0, 0.0]), np.array([0.0, 2.0])) == pytest.approx(1)
    # p = (1, 0), q = (1/2, 1/2): half of log2(4/3), and half of (log2(2/3) / 2 + log2(2) / 2)
    by_hand = 0.5 * np.log2(4 / 3) + 0.5 * (0.5 * np.log2(2 / 3) + 0.5)
    assert jensen_shannon(np.array([4.0, 0.0]), np.array([2.0, 2.0])) == pytest.approx(by_hand)


def test_drift_tells_the_same_field_from_another() -> None:
    earlier = [Earlier("base", travel(200, 1))]
    same, far = report(travel(200, 2), earlier), report(cooking(200, 3), earlier)
    assert same.drift.level == "same"
    assert same.drift.interval is not None
    assert same.drift.interval[0] < 0.5 < same.drift.interval[1]
    assert same.drift.js == pytest.approx(same.drift.js_chance, abs=0.02)
    assert [flag.level for flag in same.flags if flag.measure == "drift"] == ["note"]
    assert far.drift.level == "far"
    assert far.drift.auc == 1
    assert far.drift.interval is not None
    assert far.drift.interval[0] == pytest.approx(1 - 3 / 200)  # no mistake among 200 is not certainty
    assert far.drift.js is not None
    assert far.drift.js > 0.9
    assert "drift" in far.flagged
    assert any("book" in term for term in far.drift.earlier_terms)


def test_without_earlier_rows_it_is_said_what_is_not_known() -> None:
    found = report(travel(40, 1))
    assert found.drift.auc is None
    assert found.coverage.share is None
    assert any("--against" in note.en for note in found.notes)
    assert any("--domains" in note.en for note in found.notes)


def test_no_rows_are_an_error() -> None:
    with pytest.raises(InputError, match="no usable rows"):
        report([])


def test_every_flag_advises_in_both_languages() -> None:
    rows = [
        *classes(yes=60, no=5),
        *classes(yes=4),
        *(row(f"mail {n}@example.com 1999-01-01", "yes") for n in range(9)),
    ]
    found = report(rows, [Earlier("base", cooking(100, 1))])
    assert {"balance", "coverage", "timeliness", "language", "duplicates", "private", "drift"} <= found.flagged
    for flag in found.flags:
        assert flag.found.en.endswith(".")
        assert flag.advice.en.endswith(".")
        assert flag.found.zh.endswith("。")
        assert any("\u4e00" <= sign <= "\u9fff" for sign in flag.advice.zh)
        assert (
            not any("\u4e00" <= sign <= "\u9fff" for sign in flag.advice.en.replace("·", ""))
            or flag.measure == "coverage"
        )


def test_the_report_is_a_record_and_the_same_in_any_order() -> None:
    rows = travel(120, 1)
    earlier = [Earlier("base", cooking(80, 2))]
    found, backwards = report(rows, earlier), report(rows[::-1], earlier)
    assert type(found).from_json(found.to_json()) == found
    assert json.loads(found.to_json()) == json.loads(backwards.to_json())


@pytest.mark.slow
def test_more_rows_than_the_sample_holds_are_said_and_rows_are_read_one_at_a_time() -> None:
    before = held()
    alive = []

    def rows() -> Iterator[Example]:
        for n in range(SAMPLE_ROWS + 100):
            yield row(sha256_text(str(n)))
            if n % 700 == 0:
                alive.append(held() - before)

    found = report(rows())
    assert max(alive) < 5, alive
    assert found.rows == SAMPLE_ROWS + 100
    assert found.diversity.sampled == SAMPLE_ROWS
    assert any("sample of 2,000" in note.en for note in found.notes)


def test_likeness_is_looked_for_among_the_first_rows_only_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "COMPARED", 3)
    long = "The committee met on Tuesday to discuss the timetable of the northern ferries, item "
    found = report([row(f"{long}{n}") for n in range(6)])
    assert (found.duplicates.near, found.duplicates.compared) == (2, 3)
    assert any("first 3 distinct rows" in note.en for note in found.notes)
