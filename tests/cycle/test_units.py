"""Losses of versions with different vocabularies, in one unit."""

import math

import pytest

from nacre.cycle.scores.units import Reader, bits_per_character, in_same_units
from nacre.model.load import load_tokenizer
from nacre.model.wider import widen
from nacre.records import Decoding, Example, Message, Report, Weights
from nacre.records.report import Said
from recipe_kit import encoded, make_base

TEXT = "the arrhythmia is open"


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reader, Reader]:
    folder = tmp_path_factory.mktemp("units")
    base = Weights(identity="base", model=str(make_base(folder / "base")))
    wide = widen(base, ["arrhythmia"], folder / "wide")
    return Reader(load_tokenizer(base), 64), Reader(load_tokenizer(wide), 64)


def report(nll: float, tokens: int) -> Report:
    rate = nll / tokens
    return Report(
        weights="w",
        task="ills",
        dev="d",
        rows=1,
        metric="likelihood",
        why="",
        decoding=Decoding(max_new_tokens=1),
        scores={"likelihood": (math.exp(-rate),), "perplexity": (math.exp(rate),)},
        totals={"perplexity": math.exp(rate)},
        answers=(),
        said=(Said("", nll, tokens, 0),),
    )


def text() -> Example:
    return Example(kind="text", prompt=(Message(role="user", content=TEXT),))


def test_the_same_loss_in_fewer_tokens_is_the_same_loss(readers: tuple[Reader, Reader]) -> None:
    many, few = (len(encoded(reader.tokenizer, TEXT)) for reader in readers)
    assert few < many
    old, new = report(20.0, many), report(20.0, few)
    assert new.mean < old.mean
    found, note = in_same_units(old, new, [text()], readers)
    assert found.mean == pytest.approx(old.mean)
    assert found.scores["perplexity"] == pytest.approx(old.scores["perplexity"])
    assert "different vocabularies" in note
    worse, _ = in_same_units(old, report(25.0, few), [text()], readers)
    assert worse.mean < old.mean


def test_where_the_tokens_are_the_same_nothing_changes(readers: tuple[Reader, Reader]) -> None:
    old, new = report(20.0, 9), report(18.0, 9)
    assert in_same_units(old, new, [text()], readers) == (new, "")


def test_the_first_token_is_not_scored_and_does_not_count(readers: tuple[Reader, Reader]) -> None:
    reader = readers[0]
    first = len(reader.tokenizer.decode(encoded(reader.tokenizer, TEXT)[:1]))
    bits = bits_per_character(report(10.0, 9), [text()], reader)
    assert bits == pytest.approx(10.0 / math.log(2) / (len(TEXT) - first))
