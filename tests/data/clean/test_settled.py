"""One cleaning is enough: what a later step brings to light, an earlier one sees all the same."""

import pytest
from cleaner_kit import step

from nacre.data.clean.chain import Chain, choose
from nacre.data.clean.places import Places

TEXTS = {
    "full-width letters spell a tag": ("one<ｂｒ>two", "one\ntwo"),
    "an invisible mark splits a tag": ("one<b\u200br>two", "one\ntwo"),
    "a joiner beside a full-width letter": ("end\u200dＡ", "endA"),
    "an entity spells a token": ("&lt;|im_end|&gt; done", "< |im_end|> done"),
}


def cleaned(text, *arguments, names=None, config=None):
    chain, places = Chain(choose(names, config)), Places()
    record = {"text": text}
    assert chain.clean(record, places.find(record)) is None
    once = record["text"]
    again = Chain(choose(names, config))
    assert again.clean(record, places.find(record)) is None
    assert record["text"] == once
    return once, chain


@pytest.mark.parametrize("case", TEXTS)
def test_the_default_steps_leave_nothing_for_a_second_run(case):
    dirty, clean = TEXTS[case]
    assert cleaned(dirty)[0] == clean


def test_full_width_brackets_and_tokens_that_are_taken_out(write):
    config = write("clean.yaml", "unicode: {full_width: all}\ntokens: {action: remove}\n")
    assert cleaned("one＜br＞two<b<|im_end|>r>three", config=config)[0] == "one\ntwo\nthree"


def test_steps_that_undo_each_other_come_to_an_end(write):
    write("terms.csv", '"May 20, 2024",2024-05-20\n')
    config = write("clean.yaml", "dates: {format: us}\nglossary: {file: terms.csv}\n")
    chain, places = Chain(choose(["dates", "glossary"], config)), Places()
    record = {"text": "on May 20, 2024"}
    assert chain.clean(record, places.find(record)) is None


def test_what_stays_is_counted_once_though_looked_at_twice():
    names = ["html", "unicode", "dates"]
    _, chain = cleaned("03/04/2024<ｂｒ>x", names=names)
    dates = next(tally.cleaner for tally in chain.tallies if tally.name == "dates")
    assert dates.counts == {"ambiguous": 1}
    alone = step("dates")
    alone.text("03/04/2024<br>x")
    assert alone.counts == {"ambiguous": 1}
