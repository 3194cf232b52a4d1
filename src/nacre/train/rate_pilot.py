"""The learning rate by trial: short trainings at several rates, and the lowest of those that do about as well.

A low rate forgets less than a high one that learns as much, so among rates whose validation loss is within one per
cent of the best the lowest is taken. The rates lie half a decade apart around the one that `auto` would choose; where
the best lies at an end, the row goes on beyond it. Every trial is a training of its own, from the same start, on the
same tenth of the rows, with the same tuner and without protections, in a folder that is deleted: nothing of it stays.
"""

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from nacre.base.errors import InputError, NacreError
from nacre.base.files import atomic_write
from nacre.base.hashing import content_hash
from nacre.data.schedule import MAX_REPEATS
from nacre.model.load import load_model, load_tokenizer, parameter_count
from nacre.model.losses import answer_losses, text_losses
from nacre.records import Example, Weights
from nacre.train.auto import learning_rate
from nacre.train.job import Job, Trained
from nacre.train.protect.build import start_of

SHARE, LEAST_ROWS, STEPS, HELD_OUT = 0.1, 64, 40, 64
AROUND = (-2, -1, 0, 1, 2)  # in half decades
FURTHEST = 4
TOLERANCE = 0.01
STAGES = ("sft", "pt")
# what a trial does not inherit
PLAIN: Mapping[str, object] = {"report_to": (), "early_stopping": None, "mix": {}, "curriculum": "none"}


def piloted(job: Job, train: Callable[[Job], Trained]) -> tuple[Job, list[str]]:
    """The job with a learning rate instead of `pilot`, and a sentence with what was tried.

    Args:
        job: what is to be trained.
        train: trains a job; called once for each rate.

    Raises:
        InputError: the stage has no answers whose loss could be compared, or there are too few rows.
        NacreError: every rate diverged.
    """
    if job.recipe.train.stage not in STAGES:
        what = f"pilot compares answers' losses, which stage {job.recipe.train.stage} has not"
        raise InputError(what, where="train.learning_rate", fix="give a rate, or auto")
    training, held_out = split(job.new, job.recipe.train.seed)
    key = content_hash(
        [job.start.identity, job.recipe.model_dump(mode="json"), [row.content_id for row in (*training, *held_out)]]
    )
    losses, steps = _remembered(job, key)
    if not losses:
        losses, steps = _try_rates(job, train, training, held_out)
        told = {"key": key, "losses": [[rate, loss] for rate, loss in losses.items()], "steps": steps}
        atomic_write(job.work / "rate-pilot.json", json.dumps(told))
    rate = choose(losses)
    table = ", ".join(f"{tried:.2g}: {loss:.3f}" for tried, loss in sorted(losses.items()))
    note = (
        f"learning rate {rate:g}: the lowest within {TOLERANCE:.0%} of the best validation loss on {len(held_out)} "
        f"rows after {steps} steps on {len(training)} ({table})"
    )
    settings = job.recipe.train.model_copy(update={"learning_rate": rate})
    return replace(job, recipe=job.recipe.model_copy(update={"train": settings})), [note]


def choose(losses: Mapping[float, float]) -> float:
    """The lowest rate whose loss is within 1 % of the best."""
    best = min(losses.values())
    return min(rate for rate, loss in losses.items() if loss <= best * (1 + TOLERANCE))


def split(new: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Rows to try on and rows to judge by: a tenth of the new ones, but at least 64; up to 64 others.

    Never dev rows: the gate judges by them, so nothing is chosen by them.

    Raises:
        InputError: fewer than four distinct rows.
    """
    distinct = list({row.content_id: row for row in new}.values())
    if len(distinct) < 4:
        what = "there are too few rows to try rates on"
        raise InputError(what, where="train.learning_rate", fix="give a rate, or auto")
    order = random.Random(seed).sample(distinct, len(distinct))
    cut = min(HELD_OUT, max(1, len(order) // 4))
    return order[cut:][: max(LEAST_ROWS, round(SHARE * len(order)))], order[:cut]


def _try_rates(
    job: Job, train: Callable[[Job], Trained], training: Sequence[Example], held_out: Sequence[Example]
) -> tuple[dict[float, float], int]:
    """(loss by rate, how many steps a trial has)."""
    centre = learning_rate(job.recipe.tune, parameter_count(job.start))
    tokenizer = load_tokenizer(job.start)
    losses: dict[float, float] = {}
    steps = 0

    def attempt(place: int) -> float:
        nonlocal steps
        rate = float(f"{centre * 10 ** (place / 2):.1e}")
        if rate not in losses:
            losses[rate], made = _loss_after(job, train, training, held_out, rate, tokenizer)
            steps = max(steps, made)
        return losses[rate]

    tried = {place: attempt(place) for place in AROUND}
    low, high = AROUND[0], AROUND[-1]
    while min(tried, key=tried.__getitem__) == low > -FURTHEST:
        low -= 1
        tried[low] = attempt(low)
    while min(tried, key=tried.__getitem__) == high < FURTHEST:
        high += 1
        tried[high] = attempt(high)
    if min(losses.values()) == float("inf"):
        what = "training diverged at every rate that was tried"
        raise NacreError(what, where="train.learning_rate", fix="give a rate, or look at the data")
    return losses, steps


def _loss_after(
    job: Job,
    train: Callable[[Job], Trained],
    training: Sequence[Example],
    held_out: Sequence[Example],
    rate: float,
    tokenizer: object,
) -> tuple[float, int]:
    """(validation loss in nats per token, steps) of a short training at `rate`; infinite and 0 where it diverged."""
    asked = job.recipe.train
    longest = min(STEPS, asked.max_steps or STEPS)
    settings = asked.model_copy(
        update={
            "learning_rate": rate,
            "max_steps": longest,
            "min_steps": min(longest, -(-MAX_REPEATS * len(training) // asked.batch_size)),  # few rows: a shorter trial
            **PLAIN,
        }
    )
    recipe = job.recipe.model_copy(update={"train": settings, "protect": ()})
    work = job.work / "rate-pilot"
    shutil.rmtree(work, ignore_errors=True)
    trial = replace(job, start=start_of(job), recipe=recipe, new=training, dev=(), memory={}, max_drop={}, work=work)
    try:
        trained = train(trial)
        found = Weights(identity=str(trained.folder), model=str(trained.folder))
        if trained.kind == "adapter":
            found = Weights(identity=str(trained.folder), model=job.start.model, adapter=trained.folder)
        return _mean_loss(found, tokenizer, held_out, settings.max_length), trained.steps
    except NacreError as error:
        if "diverged" not in error.what:
            raise
        return float("inf"), 0
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _mean_loss(weights: Weights, tokenizer: object, rows: Sequence[Example], max_length: int) -> float:
    model = load_model(weights)
    length = min(max_length, getattr(model.config.get_text_config(), "max_position_embeddings", max_length))
    texts = [row.prompt[0].content for row in rows if row.kind == "text"]
    answered = [row for row in rows if row.kind != "text"]
    losses = answer_losses(model, tokenizer, answered, length) + text_losses(model, tokenizer, texts, length)
    found = sum(one.nll for one in losses) / max(1, sum(one.tokens for one in losses))
    return found if torch.isfinite(torch.tensor(found)) else float("inf")


def _remembered(job: Job, key: str) -> tuple[dict[float, float], int]:
    """What was tried before a run was cut off: loss by rate, and steps; empty where nothing was."""
    path = job.work / "rate-pilot.json"
    if not path.exists():
        return {}, 0
    told = json.loads(path.read_text(encoding="utf-8"))
    return (dict(told["losses"]), int(told["steps"])) if told["key"] == key and "steps" in told else ({}, 0)
