import gzip
import random

import pytest
from cleaner_kit import step
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.base.errors import InputError
from nacre.data.clean.dialogue import mean_sentence
from nacre.data.clean.duplicates import Seen
from nacre.data.clean.near import NearIndex
from nacre.data.clean.repetition import repeated_share


def sets_jaccard(first, second):
    sets = [{text[place : place + 5] for place in range(len(text) - 4)} for text in (first, second)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_short_sentences_make_a_bad_dialogue():
    made = step("dialogue")
    assert made.refuse(["Hi. Yo. Ok.", "Fine. Bye."], {})
    assert not made.refuse(["What is the capital of France?", "The capital of France is Paris."], {})
    assert made.refuse(["你好。", "嗯。好的。"], {})
    assert not made.refuse(["请介绍一下中国的首都。", "中国的首都是北京，它有悠久的历史。"], {})
    assert step("dialogue", min_words=2).refuse(["Hi. Yo."], {})
    assert made.refuse(["..."], {})


@pytest.mark.parametrize(
    "texts",
    [
        ["日本の首都はどこですか。", "日本の首都は東京です。"],
        ["おすすめのすしやさんをおしえてください。", "えきのそばのみせがとてもおいしいです。"],
        ["今日はとても天気がいいですね。散歩に行きませんか。"],
        ["대한민국의 수도는 어디입니까?", "대한민국의 수도는 서울입니다."],
        ["오늘 날씨가 정말 좋네요. 같이 공원에 산책하러 갈까요?"],
        ["すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。"],
        ["모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다."],
    ],
)
def test_sentences_without_spaces_or_of_long_words_are_sentences(texts):
    assert not step("dialogue").refuse(texts, {})


@pytest.mark.parametrize(
    "texts", [["はい。", "ありがとう。"], ["네.", "안녕하세요."], ["カメラ", "ビデオ"], ["좋아요!", "네!"]]
)
def test_greetings_are_short_in_any_script(texts):
    assert step("dialogue").refuse(texts, {})


@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.sampled_from(["word", " ", "  ", "\n", ". ", "!", "中文字", "。", "…", "3.5", "\t", "です", "학교에", "저"]),
        max_size=40,
    ).map("".join)
)
def test_the_quick_look_at_a_dialogue_never_lets_a_bad_one_pass(text):
    assert bool(step("dialogue").refuse([text], {})) == (mean_sentence(text) < 5)


def test_texts_that_repeat_themselves():
    made = step("repetition")
    assert made.refuse(["I do not know what to say. " * 20], {})
    assert made.refuse(["我不知道该说什么才好。" * 20], {})
    words = random.Random(1).choices([f"word{n}" for n in range(300)], k=400)
    assert not made.refuse([" ".join(words)], {})
    assert not made.refuse(["no no no no"], {})
    assert repeated_share(["a", "b", "c", "a", "b", "c"], 3) == pytest.approx(0.25)


def test_exact_duplicates_keep_the_first_and_mind_the_verdict():
    made = step("duplicates")
    assert not made.refuse(["q", "a"], {})
    assert made.refuse(["q ", "", "a"], {})
    assert not made.refuse(["qa"], {})
    assert not made.refuse(["q", "a"], {"label": True})
    assert not made.refuse(["q", "a"], {"label": False})
    assert made.refuse(["q", "a"], {"label": False})


def test_a_large_set_of_numbers_forgets_none():
    draw = random.Random(3)
    numbers = [draw.getrandbits(64) for _ in range(60_000)]
    seen = Seen()
    assert all(seen.add(number) for number in numbers)
    assert not any(seen.add(number) for number in numbers)
    assert 5 not in seen


def _text(draw, count=60):
    return " ".join("".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 8))) for _ in range(count))


def _edited(draw, text, edits):
    for _ in range(edits):
        place = draw.randrange(len(text))
        text = text[:place] + draw.choice("xyz") + text[place + 1 :]
    return text


def test_near_duplicates_are_found_at_08_and_nothing_below_is_merged():
    draw = random.Random(5)
    found = wanted = 0
    for _ in range(300):
        index = NearIndex(0.8)
        text = _text(draw)
        index.add(text)
        other = _edited(draw, text, draw.choice((1, 3, 5, 20, 60)))
        exact, similar = sets_jaccard(text, other), index.match(other)
        if exact >= 0.8:
            wanted += 1
            found += similar > 0
        else:
            assert similar == 0
        assert similar == 0 or similar == pytest.approx(exact)
    assert wanted > 100
    assert found >= 0.99 * wanted


def test_near_keeps_the_first_of_many_and_what_was_judged_differently():
    draw = random.Random(6)
    text = _text(draw)
    made = step("near")
    assert not made.refuse([text], {})
    assert "like an earlier record" in made.refuse([_edited(draw, text, 2)], {})
    assert not made.refuse([_edited(draw, text, 2)], {"label": True})
    assert not made.refuse([_text(draw)], {})
    assert not made.refuse(["abc"], {})
    assert not made.refuse(["abc"], {})


def test_rows_of_a_dev_set_leak_equal_edited_or_dirty(write):
    draw = random.Random(7)
    texts = [_text(draw) for _ in range(40)]
    dev = write("set/increment_1/dev.json", [{"instruction": f"<p>{text}</p>", "output": "yes"} for text in texts])
    made = step("leaks", dev=(dev.parents[1],))
    made.prepare(lambda text: text.replace("<p>", "").replace("</p>", ""))
    assert all(made.refuse([text, "yes"], {}) == "equals a dev row" for text in texts)
    assert all(made.refuse([f"<p>{text}</p>", "yes"], {}) == "equals a dev row" for text in texts)
    assert all("like a dev row" in made.refuse([_edited(draw, text, 3), "yes"], {}) for text in texts)
    assert not made.refuse([_text(draw), "yes"], {})
    assert "40 dev rows" in made.notes()[0]


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.95])
def test_rows_that_are_just_like_a_dev_row_leak(threshold):
    draw = random.Random(8)
    made = step("leaks", threshold=threshold)
    texts = [_text(draw, draw.choice((8, 20, 60, 120))) for _ in range(60)]
    for text in texts:
        made.learn([text])
    found = wanted = 0
    edits = (1 - threshold) / (1 + threshold) / 5
    for text in texts * 2:
        other = _edited(draw, text, int(len(text) * edits * draw.uniform(0.3, 1)))
        if sets_jaccard(text, other) >= threshold:
            wanted += 1
            found += made.refuse([other], {}) != ""
    assert wanted > 80
    assert found >= 0.98 * wanted
    assert not any(made.refuse([_text(draw)], {}) for _ in range(100))
    made.close()


def test_leaks_without_dev_rows_is_a_mistake(tmp_path):
    with pytest.raises(InputError):
        step("leaks").prepare(str)
    with pytest.raises(InputError):
        step("leaks", dev=(tmp_path,)).prepare(str)


def test_leaks_takes_rows_from_anywhere():
    made = step("leaks")
    made.learn(["question", "answer"])
    made.prepare(str)
    assert made.refuse(["question", "answer"], {}) == "equals a dev row"


def test_dev_rows_leak_whatever_file_or_columns_they_stand_in(write, tmp_path):
    write("set/one/dev.csv", "instruction,output\nwhat is one,yes it is\n")
    write("set/two/dev.jsonl.gz", gzip.compress(b'{"output": "no", "instruction": "what is two"}\n'))
    write("set/three/dev.json", [{"question": "what is three", "answer": "maybe"}, {"messages": []}])
    write(
        "set/four/dev.jsonl",
        [{"messages": [{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c"}]}],
    )
    made = step("leaks", dev=(tmp_path / "set",))
    made.prepare(str)
    for texts in (["what is one", "yes it is"], ["what is two", "no"], ["maybe", "what is three"], ["a", "b", "c"]):
        assert made.refuse(texts, {}) == "equals a dev row", texts
    assert not made.refuse(["what is one", "no"], {})
    assert "1 dev rows" in " ".join(made.notes()[1:])
