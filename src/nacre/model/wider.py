"""A wider vocabulary: terms that the tokenizer cuts into many pieces become tokens of their own, where that pays.

A new token costs a row of the embedding, and another one of the output's matrix where that is not the same. What it
saves is counted in the domain's text with the wider tokenizer itself, because terms overlap. Each new row is the mean
of the rows of its old pieces (Gee et al. 2022, "Fast Vocabulary Transfer for Language Model Compression", EMNLP), so
that the model begins with nearly what it knew. Text without such terms is cut as before.

A Chinese term becomes a token wherever it stands. One of letters only as a whole word, and without the space before
it, so that what is decoded is what was encoded; of "a term" the space is then a token by itself.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM

from nacre.base.errors import InputError
from nacre.base.files import staged_folder
from nacre.base.hashing import folder_hash
from nacre.model.building import BUILDING
from nacre.model.load import configuration, load_tokenizer
from nacre.model.smaller.base import whole_model
from nacre.records import Weights
from nacre.records.lexicon import Lexicon, Term, is_chinese

PAYS = 20  # tokens that a new row must save in the domain's text; one that is met less often learns little, too
_AROUND = {True: "，", False: " "}  # what a Chinese term, or one of letters, is put between to see what it saves


def lexicon_for(
    weights: Weights, terms: Sequence[Term], domain: Sequence[str], general: Sequence[str], pays: int = PAYS
) -> Lexicon:
    """Which of the terms are worth a token of their own, and what they make of both texts.

    Args:
        weights: whose tokenizer is asked.
        terms: the candidates.
        domain: text that the model will learn.
        general: text that shows what becomes of everything else.
        pays: tokens of the domain's text that a new row must save.
    """
    old = load_tokenizer(weights)
    whole = {term.text: _cut(old, term.text) for term in terms}
    why = {term.text: _useless(term, whole[term.text], old) for term in terms}
    left = [term.text for term in terms if not why[term.text]]
    saved: dict[str, int] = {}
    while left:
        counted = _saved(weights, old, left, domain)
        saved |= counted
        poor = {text for text in left if counted[text] < pays}
        why |= {text: f"it saves {counted[text]} tokens, fewer than {pays}" for text in poor}
        if not poor:
            break
        left = [text for text in left if text not in poor]  # what overlapped with them counts more often now
    new = _wider(weights, left)
    told = tuple(
        term.changed(pieces=len(whole[term.text]), saved=saved.get(term.text, 0), why=why[term.text]) for term in terms
    )
    rates = [(tokens_per_character(old, texts), tokens_per_character(new, texts)) for texts in (domain, general)]
    return Lexicon(terms=told, pays=pays, domain=rates[0], general=rates[1])


def sentences(lexicon: Lexicon) -> list[str]:
    """What was added and what was not, and what it changed."""
    reasons = Counter(_reason(term.why) for term in lexicon.terms if term.why)
    left = "".join(f"; {count} {reason}" for reason, count in reasons.most_common())
    added, count = lexicon.added, len(lexicon.terms)
    said = [f"vocabulary: {len(added)} of {count} terms became tokens, as each saves at least {lexicon.pays}{left}"]
    named = (("domain", lexicon.domain), ("general", lexicon.general))
    said += [f"tokens per character of the {name} text {old:.4f} → {new:.4f}" for name, (old, new) in named]
    return said


def widen(weights: Weights, terms: Sequence[str], folder: Path) -> Weights:
    """Write the model with a token for each term, its adapter merged; the weights as they are where it has them all.

    Args:
        weights: what to begin with.
        terms: texts that become tokens.
        folder: where the wider model goes; what is there is replaced.

    Raises:
        InputError: the weights cannot be made one model, or are held in few bits.
        NacreError: the disk is full or cannot be written.
    """
    old = load_tokenizer(weights)
    added = old.get_added_vocab()
    fresh = [term for term in terms if term not in added]
    if not fresh:
        return weights
    pieces = {term: _cut(old, term) for term in fresh}
    tokenizer = _wider(weights, fresh)
    rows = {tokenizer.convert_tokens_to_ids(term): ids for term, ids in pieces.items()}
    try:
        model = whole_model(weights)
    except InputError as error:
        fix = "start from a version that is one set of whole weights, or add no terms"
        raise InputError(error.what, where=error.where, fix=fix) from None
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    _fill(model, rows)
    shutil.rmtree(folder, ignore_errors=True)
    with staged_folder(folder) as staging:
        model.save_pretrained(str(staging))
        tokenizer.save_pretrained(str(staging))
    return Weights(identity=folder_hash(folder), model=str(folder))


def tokens_per_character(tokenizer: Any, texts: Sequence[str]) -> float:
    """Of all texts together; 0 where there is no text."""
    characters = sum(map(len, texts))
    return sum(map(len, _encoded(tokenizer, texts))) / characters if characters else 0.0


@torch.no_grad()
def _fill(model: Any, rows: Mapping[int, Sequence[int]]) -> None:
    """Make each new row the mean of its pieces' rows, in the input embedding, the output's matrix and its bias."""
    head = model.get_output_embeddings()
    tensors = [model.get_input_embeddings().weight]
    if head is not None:
        tensors += [] if head.weight is tensors[0] else [head.weight]
        tensors += [head.bias] if getattr(head, "bias", None) is not None else []
    for tensor in tensors:
        for place, pieces in rows.items():
            tensor[place] = tensor[list(pieces)].float().mean(0).to(tensor.dtype)


def _wider(weights: Weights, terms: Sequence[str]) -> Any:
    """The tokenizer with the terms as tokens."""
    tokenizer = load_tokenizer(weights)
    tokens = [AddedToken(term, single_word=not is_chinese(term), normalized=False, special=False) for term in terms]
    tokenizer.add_tokens(tokens)
    return tokenizer


def _saved(weights: Weights, old: Any, terms: Sequence[str], texts: Sequence[str]) -> dict[str, int]:
    """Tokens of the texts that each term saves when all of them are tokens: its occurrences times what one saves."""
    new = _wider(weights, terms)
    ids = {term: new.convert_tokens_to_ids(term) for term in terms}
    used = Counter(token for row in _encoded(new, texts) for token in row)
    framed = [_AROUND[is_chinese(term)].join(("", term, "")) for term in terms]
    gains = [len(a) - len(b) for a, b in zip(_encoded(old, framed), _encoded(new, framed), strict=True)]
    return {term: used[ids[term]] * gain for term, gain in zip(terms, gains, strict=True)}


def _useless(term: Term, pieces: Sequence[int], tokenizer: Any) -> str:
    """Why a term needs no look at the text."""
    if len(pieces) < 2:
        return "it is one token already"
    if not term.count:
        return "it does not stand in the text"
    back = tokenizer.decode(pieces).strip()
    return "" if back == term.text else "the tokenizer cannot say it"


def _cut(tokenizer: Any, term: str) -> list[int]:
    ids: list[int] = tokenizer.encode(term, add_special_tokens=False)
    return ids


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return found


def _reason(why: str) -> str:
    return (
        "save less"
        if why.startswith("it saves")
        else {
            "it is one token already": "are one token already",
            "it does not stand in the text": "do not stand in the text",
        }.get(why, "cannot be said by the tokenizer")
    )


def embedding_names(weights: Weights) -> tuple[str, ...]:
    """The last part of the names of the input embedding and, where its matrix is another one, of the output's.

    From the configuration alone: nothing is loaded.
    """
    config = configuration(weights)
    with BUILDING, torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    wanted = [model.get_input_embeddings()]
    if not getattr(config.get_text_config(), "tie_word_embeddings", False):
        wanted.append(model.get_output_embeddings())
    return tuple(
        path.rsplit(".", 1)[-1] for path, module in model.named_modules() if any(module is one for one in wanted)
    )
