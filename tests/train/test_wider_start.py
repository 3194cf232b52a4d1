"""A run whose recipe has terms, and versions to keep whose tokens are others."""

from pathlib import Path

import pytest

from nacre.base.errors import InputError
from nacre.model.load import load_tokenizer
from nacre.records import Recipe, Weights
from nacre.train.job import Job
from nacre.train.wider import with_terms
from recipe_kit import encoded, make_base
from toy_kit import ask


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return Weights(identity="base", model=str(make_base(tmp_path_factory.mktemp("start") / "base")))


def job(start: Weights, folder: Path, terms: tuple[str, ...] = (), previous: Weights | None = None) -> Job:
    recipe = Recipe(terms=terms)
    return Job(start=start, recipe=recipe, new=[ask("a", "b")], work=folder, shared=folder, previous=previous)


def test_the_wider_start_is_what_is_kept(base: Weights, tmp_path: Path) -> None:
    made = with_terms(job(base, tmp_path, ("arrhythmia",)))
    assert made.keeps == made.start != base
    assert len(encoded(load_tokenizer(made.start), "arrhythmia")) == 1
    again = with_terms(job(base, tmp_path, ("arrhythmia",)))
    assert again.start == made.start  # the same bytes, so that a run that was killed is found again
    beyond = with_terms(job(made.start, tmp_path / "other", ("arrhythmia",)))
    assert beyond.start == made.start
    assert with_terms(plain := job(base, tmp_path)) == plain


def test_a_version_to_keep_with_other_tokens_is_refused(base: Weights, tmp_path: Path) -> None:
    wide = with_terms(job(base, tmp_path, ("arrhythmia",))).start
    with pytest.raises(InputError, match="has 340 tokens and the one that trains 341"):
        with_terms(job(wide, tmp_path, previous=base))
    with pytest.raises(InputError, match="made wider"):
        with_terms(job(base, tmp_path, ("thrombosis",), previous=wide))
    with_terms(job(wide, tmp_path, previous=wide))
