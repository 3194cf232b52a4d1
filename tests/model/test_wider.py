"""A wider vocabulary: which terms pay, where their rows begin, and that nothing else changes."""

from pathlib import Path

import pytest
import torch

from nacre.base.errors import InputError
from nacre.data.lexicon import find_terms
from nacre.model.load import load_model, load_tokenizer
from nacre.model.tuners.apply import apply, save
from nacre.model.wider import embedding_names, lexicon_for, sentences, tokens_per_character, widen
from nacre.records import Weights
from nacre.records.lexicon import Term
from nacre.records.tune import Lora
from recipe_kit import CHINESE, ILLS, domain_texts, encoded, general_texts, make_base

TERMS = (*ILLS, *CHINESE)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return Weights(identity="base", model=str(make_base(tmp_path_factory.mktemp("wider") / "base")))


@pytest.fixture(scope="module")
def wide(base: Weights, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return widen(base, TERMS, tmp_path_factory.mktemp("wide") / "model")


def test_terms_that_pay_become_tokens_and_the_others_are_named(base: Weights) -> None:
    found = find_terms(domain_texts(), general_texts())
    rare = Term(text="zygomaticotemporal", count=2, given=True)
    known = Term(text="the", count=200, given=True)
    absent = Term(text="splenomegaly", count=0, given=True)
    lexicon = lexicon_for(base, (*found.terms, rare, known, absent), domain_texts(), general_texts())
    assert set(TERMS) <= set(lexicon.added)
    why = {term.text: term.why for term in lexicon.terms}
    assert why["zygomaticotemporal"] == "it saves 0 tokens, fewer than 20"
    assert why["splenomegaly"] == "it does not stand in the text"
    assert why["the"]
    assert all(term.saved >= 20 for term in lexicon.terms if not term.why)
    assert lexicon.domain[1] < 0.7 * lexicon.domain[0]
    assert lexicon.general[1] == lexicon.general[0]
    told = sentences(lexicon)
    assert told[0].startswith(f"vocabulary: {len(lexicon.added)} of {len(lexicon.terms)} terms became tokens")
    assert f"{lexicon.domain[0]:.4f} → {lexicon.domain[1]:.4f}" in told[1]


def test_what_is_said_to_be_saved_is_saved(base: Weights, tmp_path: Path) -> None:
    texts = [f"we walk with {ill} and {other} to {chinese}，" for ill in ILLS for other in ILLS for chinese in CHINESE]
    terms = [Term(text=text, count=40) for text in TERMS]
    lexicon = lexicon_for(base, terms, texts, general_texts())
    wide = widen(base, lexicon.added, tmp_path / "wide")
    before, after = (load_tokenizer(one) for one in (base, wide))
    fewer = sum(len(encoded(before, text)) - len(encoded(after, text)) for text in texts)
    assert fewer == pytest.approx(sum(term.saved for term in lexicon.terms), rel=0.05)
    assert tokens_per_character(after, texts) == lexicon.domain[1]


def test_a_higher_price_adds_fewer_tokens(base: Weights) -> None:
    terms = [Term(text=text, count=40) for text in TERMS]
    added = [lexicon_for(base, terms, domain_texts(), general_texts(), pays).added for pays in (1, 150, 10**6)]
    assert len(added[0]) == len(TERMS)
    assert len(added[0]) >= len(added[1]) > len(added[2]) == 0


def test_a_new_row_is_the_mean_of_its_pieces(base: Weights, wide: Weights) -> None:
    before, after = load_model(base), load_model(wide)
    old, new = load_tokenizer(base), load_tokenizer(wide)
    assert len(new) == len(old) + len(TERMS) == after.get_input_embeddings().weight.shape[0]
    assert after.config.vocab_size == len(new)
    assert after.get_output_embeddings().weight is after.get_input_embeddings().weight
    rows = after.get_input_embeddings().weight
    assert torch.equal(rows[: len(old)], before.get_input_embeddings().weight)
    for term in TERMS:
        (place,) = encoded(new, term)
        pieces = before.get_input_embeddings().weight[encoded(old, term)]
        torch.testing.assert_close(rows[place], pieces.mean(0))


def test_text_comes_back_as_it_was_and_other_text_is_cut_as_before(base: Weights, wide: Weights) -> None:
    old, new = load_tokenizer(base), load_tokenizer(wide)
    for text in (*domain_texts(), "an arrhythmia, arrhythmias and 高血压病人"):
        assert new.decode(encoded(new, text)) == text
    assert encoded(new, "arrhythmias") == encoded(old, "arrhythmias")  # another word
    for text in general_texts():
        assert encoded(new, text) == encoded(old, text)


@pytest.mark.parametrize("spare", [0, 64])
def test_an_output_of_its_own_gets_rows_too_and_spare_rows_are_used(tmp_path: Path, spare: int) -> None:
    base = Weights(identity="base", model=str(make_base(tmp_path / "base", tied=False, spare=spare)))
    before, old = load_model(base), load_tokenizer(base)
    wide = widen(base, TERMS, tmp_path / "wide")
    after, new = load_model(wide), load_tokenizer(wide)
    assert after.get_input_embeddings().weight.shape[0] == max(len(new), len(old) + spare)
    for matrix in ("get_input_embeddings", "get_output_embeddings"):
        rows = getattr(before, matrix)().weight
        (place,) = encoded(new, "高血压")
        torch.testing.assert_close(getattr(after, matrix)().weight[place], rows[encoded(old, "高血压")].mean(0))
    assert embedding_names(base) == ("embed_tokens", "lm_head")


def test_what_has_the_tokens_already_stays_as_it_is(wide: Weights, tmp_path: Path) -> None:
    assert widen(wide, TERMS, tmp_path / "again") == wide
    assert not (tmp_path / "again").exists()


def test_an_adapter_is_merged_first_and_rounded_weights_are_refused(base: Weights, tmp_path: Path) -> None:
    torch.manual_seed(1)
    tuned = apply(load_model(base, train=True), Lora(rank=4))
    with torch.no_grad():
        for name, weight in tuned.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    save(tuned.model, tmp_path / "adapter", tmp_path / "none")
    load_tokenizer(base).save_pretrained(tmp_path / "adapter")
    adapted = Weights(identity="adapted", model=base.model, adapter=tmp_path / "adapter")
    wide = widen(adapted, TERMS, tmp_path / "wide")
    assert wide.adapter is None
    ids = torch.tensor([encoded(load_tokenizer(base), "the door is open")])
    size = len(load_tokenizer(base))
    with torch.no_grad():
        ours, theirs = (load_model(one)(ids).logits[..., :size] for one in (wide, adapted))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    rounded = tmp_path / "rounded"
    load_model(base).save_pretrained(rounded)
    load_tokenizer(base).save_pretrained(rounded)
    config = rounded / "config.json"
    config.write_text(config.read_text().replace("{", '{"quantization_config": {"quant_method": "torchao"},', 1))
    with pytest.raises(InputError, match="few bits") as refused:
        widen(Weights(identity="rounded", model=str(rounded)), TERMS, tmp_path / "never")
    assert "add no terms" in refused.value.fix


def test_an_adapter_that_trains_the_embedding_keeps_the_head_tied(wide: Weights, tmp_path: Path) -> None:
    assert embedding_names(wide) == ("embed_tokens",)
    tuned = apply(load_model(wide, train=True), Lora(rank=4, modules_to_save=("embed_tokens",)))
    ids = torch.tensor([encoded(load_tokenizer(wide), "arrhythmia and thrombosis")])
    optimizer = torch.optim.SGD([weight for weight in tuned.model.parameters() if weight.requires_grad], lr=1.0)
    tuned.model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    tuned.model.eval()
    save(tuned.model, tmp_path / "adapter", tmp_path / "none")
    load_tokenizer(wide).save_pretrained(tmp_path / "adapter")
    again = Weights(identity="again", model=wide.model, adapter=tmp_path / "adapter")
    with torch.no_grad():
        told = tuned.model(input_ids=ids).logits
        read = load_model(again)(input_ids=ids).logits
        merged = load_model(again).merge_and_unload()
    torch.testing.assert_close(read, told, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merged(input_ids=ids).logits, told, atol=1e-4, rtol=1e-4)
    head, embedding = merged.get_output_embeddings().weight, merged.get_input_embeddings().weight
    assert torch.equal(head, embedding)
    assert not torch.equal(embedding, load_model(wide).get_input_embeddings().weight)
