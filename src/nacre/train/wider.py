"""A run that begins with a wider vocabulary: the recipe's terms become tokens before anything is loaded for training.

The wider model is what training starts from and what protections hold the result to, so that both have the same
tokens: how likely a teacher of fewer tokens finds a text says nothing about single tokens of another one.
"""

from dataclasses import replace

from nacre.base.errors import InputError
from nacre.model.load import load_tokenizer
from nacre.model.wider import widen
from nacre.train.job import Job

WIDER = "wider"  # folder in the work folder


def with_terms(job: Job) -> Job:
    """The job with the wider model as its start, if the recipe has terms that the start has no tokens for.

    Raises:
        InputError: the start cannot be made wider; or another version is to be kept, whose tokens are others.
        NacreError: the disk is full or cannot be written.
    """
    terms = job.recipe.terms
    if terms and job.previous not in (None, job.start):
        raise InputError(
            "with new tokens, what is kept is the version that training starts from, made wider",
            where=job.keeps.folder,
            fix="train from the version that is to be kept",
        )
    wide = replace(job, start=widen(job.start, terms, job.work / WIDER), previous=None) if terms else job
    _same_tokens(wide)
    return wide


def _same_tokens(job: Job) -> None:
    """Refuse to hold a model to one that cuts text into other tokens.

    Raises:
        InputError: the version that is to be kept has another vocabulary than the start.
    """
    if job.previous is None or job.previous.model == job.start.model:
        return
    ours, theirs = (load_tokenizer(weights).get_vocab() for weights in (job.start, job.previous))
    if ours != theirs:
        raise InputError(
            f"the version to be kept has {len(theirs)} tokens and the one that trains {len(ours)}, or others: what one "
            "says of its tokens is no measure for the other",
            where=job.previous.folder,
            fix="keep a version with the same tokenizer, e.g. the one that training starts from",
        )
