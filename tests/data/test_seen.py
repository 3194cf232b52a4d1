import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.data import seen as seen_module
from nacre.data.seen import Seen
from nacre.data.suspects import garbled


def content_id(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


@settings(max_examples=60, deadline=None)
@given(
    train=st.lists(st.integers(0, 30), max_size=40), dev=st.lists(st.integers(0, 30), max_size=20),
    held=st.sampled_from([1, 7, 1 << 16]),
)  # fmt: skip
def test_repeats_and_shared_rows_are_those_a_dictionary_finds(train, dev, held):
    with pytest.MonkeyPatch.context() as patch, Seen() as seen:
        patch.setattr(seen_module, "_HELD", held)
        for line, number in enumerate(train, 1):
            seen.add("train", content_id(number), (0, line))
        for line, number in enumerate(dev, 1):
            seen.add("dev", content_id(number), (1, line))
        repeats = [(0, n) for n, number in enumerate(train, 1) if number in train[: n - 1]]
        shared = [(1, n) for n, number in enumerate(dev, 1) if number in train]
        assert seen.repeats("train", 5) == (len(repeats), repeats[:5])
        assert seen.shared("dev", "train", 5) == (len(shared), shared[:5])


@pytest.mark.parametrize(
    "text",
    [
        "cafÃ© crÃ¨me",
        "donâ€™t",
        "ä½\xa0å¥½ä¸–ç•Œ",
        "浣犲ソ锛屼笘鐣岋紒",
        "锟斤拷烫烫",
        "lost \ufffd here",
        "ï»¿start",
        "Ð¿Ñ€Ð¸Ð²ÐµÑ‚",
    ],
)
def test_wrongly_decoded_text_is_told(text):
    assert garbled(text)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "café crème, à côté « là-bas » où ça naît",
        "Größe, Übung, weiß",
        "不，谢谢。今天天气怎么样？",
        "谢谢医生，血压也高，一直没什么症状",
        "Привет, мир",
        "20 °C ± 5 µm, 3 × 4 = 12 €",
        "naïve façade – “quoted” … ™",
        "ÄÖÜ ÀÉÈ ÇÃO NÃO SÃO",
        "한국어와 日本語のテキスト",
        "😀 ½ ¼ Ω",
        "à\u00a0» et Â ni",
        "MÜNCHEN–KÖLN",
        "乾隆龘靐齉爩",
        "¿Qué? ¡Sí! Señor Núñez",
    ],
)
def test_honest_text_is_not(text):
    assert not garbled(text)
