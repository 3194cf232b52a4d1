import random

import pytest
from serving_kit import ANSWERS, Shelf

from nacre.model.load import load_tokenizer
from nacre.serve.engines.text import Decoder, Opening, StopTexts


def test_no_delta_holds_half_a_character(shelf: Shelf) -> None:
    tokenizer = load_tokenizer(shelf.weights(0))
    text = "a珍珠é層🐚层 end。"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) > len(text), "the characters must be spread over tokens for this to show anything"
    decoder = Decoder(tokenizer)
    deltas = [decoder.add(token) for token in ids]
    assert "".join(deltas) == text
    assert all("\ufffd" not in delta for delta in deltas)
    assert deltas.count("") >= 10


def test_random_bytes_come_out_as_the_tokenizer_decodes_them_and_do_not_pile_up(shelf: Shelf) -> None:
    tokenizer = load_tokenizer(shelf.weights(0))
    draw = random.Random(3)
    for _ in range(50):
        ids = [draw.randrange(2, len(tokenizer)) for _ in range(60)]
        decoder = Decoder(tokenizer)
        streamed = "".join(decoder.add(token) for token in ids)
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        assert whole.rstrip("\ufffd") == streamed.rstrip("\ufffd")
    lone = tokenizer.convert_tokens_to_ids("\u0122")  # byte-level's name of byte 0x80, which begins no character
    decoder = Decoder(tokenizer)
    assert sum(len(decoder.add(lone)) for _ in range(100)) >= 60


def test_sentencepiece_spaces_and_byte_fallback_survive() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocab = [("<unk>", 0.0), ("▁hi", -1.0), ("▁you", -1.0)] + [(f"<0x{byte:02X}>", -2.0) for byte in range(256)]
    raw = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")
    ids = [1, *(3 + byte for byte in "中好🐚".encode()), 2, 1]
    decoder = Decoder(tokenizer)
    deltas = [decoder.add(token) for token in ids]
    assert "".join(deltas) == "hi中好🐚 you hi"
    assert "中" in deltas


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_stop_texts_are_found_across_pieces_and_never_shown(size: int) -> None:
    text = "one, two, STOP three"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    stops = StopTexts(("STOP", "three"))
    shown = "".join(stops.add(piece) for piece in pieces) + stops.rest()
    assert shown == "one, two, "
    assert stops.stopped


def test_the_earliest_stop_counts_and_a_false_start_is_given_back() -> None:
    stops = StopTexts(("bc", "abcd"))
    assert stops.add("xa") == "x"
    assert stops.add("bc") == "a", "'bc' is complete first, 'abcd' never comes"
    again = StopTexts(("</end>",))
    assert again.add("a</en") == "a"
    assert again.add("x") == "</enx"
    assert again.add("<") == ""
    assert again.rest() == "<"
    assert not again.stopped


def test_without_stops_everything_passes_at_once() -> None:
    stops = StopTexts(())
    assert [stops.add(piece) for piece in ANSWERS[0]] == list(ANSWERS[0])


@pytest.mark.parametrize("pieces", [["<t></t>so"], ["<", "t>", "</t>", "so"], ["<t></t>s", "o"]])
def test_an_opening_is_taken_away_however_it_is_cut(pieces: list[str]) -> None:
    opening = Opening("<t></t>")
    assert "".join(opening.add(piece) for piece in pieces) + opening.rest() == "so"


@pytest.mark.parametrize("text", ["so", "<t>so", "<", "", "so <t></t>"])
def test_an_answer_that_opens_otherwise_passes_whole(text: str) -> None:
    for taken in ("<t></t>", ""):
        opening = Opening(taken)
        assert "".join(opening.add(letter) for letter in text) + opening.rest() == text
