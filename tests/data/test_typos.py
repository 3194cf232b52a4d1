"""Typing mistakes: as many as asked for, where they may be, and the same every time."""

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.data.typos import mistyped, with_typos
from nacre.records import Example, Message

ALPHABET = list("天地人你我他")
texts = st.text(st.sampled_from("abcXYZ 天地人0189.,<>{}"), max_size=40)


def row(question: str, answer: str = "ok", **fields) -> Example:
    return Example(
        prompt=(Message(role="user", content=question),), answers=(Message(role="assistant", content=answer),), **fields
    )


@settings(deadline=None, max_examples=300)
@given(text=texts, letters=st.floats(0, 0.5), seed=st.integers(0, 50))
def test_digits_signs_and_placeholders_stay_and_the_same_seed_mistypes_the_same(text, letters, seed):
    said = mistyped(text, letters, random.Random(seed), ALPHABET)
    assert said == mistyped(text, letters, random.Random(seed), ALPHABET)
    kept = re.compile(r"[^A-Za-z\u4e00-\u9fff]")
    assert kept.findall(said) == kept.findall(text)
    for placeholder in re.findall(r"<[^<>]*>|\{[^{}]*\}", text):
        assert placeholder in said
    count = len(re.findall(r"[A-Za-z\u4e00-\u9fff]", text))
    assert abs(len(said) - len(text)) <= max(1, round(letters * count))


@settings(deadline=None)
@given(st.integers(0, 100))
def test_a_tenth_of_the_letters_is_mistyped_in_english_and_chinese(seed):
    english = "the weather will be rather cold tomorrow morning in the northern hills" * 3
    chinese = "明天早上北方山区的天气会比较冷请大家注意保暖不要在户外停留太久" * 3
    for text in (english, chinese):
        said = mistyped(text, 0.1, random.Random(seed), sorted(set(chinese)))
        assert said != text
        assert _distance(text, said) <= 2 * round(0.1 * len(text.replace(" ", "")))
        assert _distance(text, said) >= 0.05 * len(text)


def test_the_answer_in_the_question_addresses_and_tags_are_left_alone():
    text = "Is it Sports or World? See www.news.example/sports [1] <image> {name} now"
    for seed in range(60):
        said = mistyped(text, 0.5, random.Random(seed), [], keep=("Sports",))
        assert all(part in said for part in ("Sports", "www.news.example/sports", "<image>", "{name}"))


def test_chinese_characters_are_exchanged_for_others_of_the_data():
    said = {mistyped("天", 0.1, random.Random(seed), ["天", "地"]) for seed in range(60)}
    assert said == {"天天", "地", ""}


def test_twins_follow_the_rows_with_questions_changed_and_answers_not():
    rows = [row(f"what is the colour of the house number {n}", f"red {n}") for n in range(400)]
    rows += [row("12345 ??"), row("plain text alone", kind="text")]
    found, said = with_typos(rows, letters=0.1, share=0.5, seed=3)
    twins = found[len(rows) :]
    assert found[: len(rows)] == rows
    assert 160 < len(twins) < 240
    assert f"{len(twins)} of {len(rows)} rows are learned once more with 10%" in said
    by_answer = {one.answer: one for one in rows[:400]}
    assert all(twin.prompt != by_answer[twin.answer].prompt for twin in twins)
    assert all(twin.prompt[0].content.endswith(twin.answer.split()[1]) for twin in twins), "digits stay"
    # one row's twin does not depend on the other rows
    assert with_typos(rows[100:200], letters=0.1, share=0.5, seed=3)[0][100:] == [
        twin for twin in twins if 100 <= int(twin.answer.split()[1]) < 200
    ]
    assert with_typos(rows, letters=0.1, share=0.5, seed=4)[0] != found


def test_no_option_is_told_by_its_spelling():
    options = ("sports", "world", "business", "财经新闻")
    rows = [row(f"story {n}, choose one: {', '.join(options)}", options[n % 4]) for n in range(40)]
    found, _ = with_typos(rows, letters=0.5, share=1.0, seed=0)
    assert len(found) == 80
    for twin in found[40:]:
        assert all(option in twin.prompt[0].content for option in options)


def test_only_what_the_user_says_is_mistyped():
    turns = (
        Message(role="user", content="first question"),
        Message(role="assistant", content="first answer"),
        Message(role="user", content="second question"),
    )
    one = Example(prompt=turns, answers=(Message(role="assistant", content="done"),), system="system text")
    (_, twin), _ = with_typos([one], letters=0.3, share=1.0, seed=0)
    assert twin.prompt[0] != turns[0]
    assert twin.prompt[1] == turns[1]
    assert twin.prompt[2] != turns[2]
    assert (twin.system, twin.answers, twin.origin) == (one.system, one.answers, one.origin)


def _distance(one: str, other: str) -> int:
    """Levenshtein's."""
    before = list(range(len(other) + 1))
    for place, letter in enumerate(one, 1):
        now = [place]
        for k, letter2 in enumerate(other, 1):
            now.append(min(before[k] + 1, now[-1] + 1, before[k - 1] + (letter != letter2)))
        before = now
    return before[-1]
