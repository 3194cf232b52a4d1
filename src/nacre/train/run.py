"""One training run: from a starting version and rows to a folder in Hugging Face layout."""

import os
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from nacre.base.errors import unknown
from nacre.base.files import staged_folder
from nacre.base.hashing import content_hash, sha256_file
from nacre.model.load import load_tokenizer, parameter_count, pick_device, positions, stored_dtype
from nacre.model.quantised import refuse_rounded
from nacre.model.templates import adopt
from nacre.model.tuners import Tuned, save
from nacre.records import Recipe, Train
from nacre.train import processes
from nacre.train.arguments import (
    autocast_of,
    precision_of,
    settled_precision,
    training_arguments,
)
from nacre.train.auto import settle
from nacre.train.checkpoints import check_writers, claim, disk_errors_of_weights, newest_valid, remove_torn
from nacre.train.curriculum import arrange
from nacre.train.fit import Fitted, Run, check_finite, fit
from nacre.train.freed import give_back_freed
from nacre.train.group import train_in_processes
from nacre.train.job import Job, Trained
from nacre.train.launch import check_batch, check_one_training, launch_of
from nacre.train.log import DRIFT, write_log
from nacre.train.losses import row_losses
from nacre.train.memory import foreseen, memory_errors, told_what_to_change
from nacre.train.observe import Observers, watch
from nacre.train.optimizers import SCHEDULERS, check_optimizer
from nacre.train.protect.base import Protection, TrainingRows
from nacre.train.protect.build import build_protections, check_pictures, check_protections, start_of, tuned_for
from nacre.train.rate_pilot import piloted
from nacre.train.report import check_reports
from nacre.train.rows import Prepared
from nacre.train.sharding import CUTS_WEIGHTS, sharding_of
from nacre.train.sparse import hold_zeros
from nacre.train.stages import STAGES
from nacre.train.stages.base import Stage
from nacre.train.tuner import INITIAL, tuned_model
from nacre.train.validation import hold_out
from nacre.train.wider import with_terms

__all__ = ["Job", "Trained", "train"]


def train(job: Job) -> Trained:
    """Train `job` and return the finished folder; in several processes where its settings or the environment say so.

    Raises:
        InputError: a protection or tuner option is wrong, or there is nothing to train on.
        NacreError: the disk is full; what was trained so far is kept as a checkpoint.
    """
    refuse_rounded(job.start)
    wide = with_terms(job)
    trained = _train(wide)
    return trained if wide.start == job.start else replace(trained, below=wide.start)


def _train(job: Job) -> Trained:
    launch = launch_of(job.recipe.train)
    if job.recipe.train.learning_rate == "pilot":
        check_one_training(job.recipe.train, launch)
        settled, tried = piloted(job, train)
        trained = train(settled)
        return replace(trained, notes=(*tried, *trained.notes))
    if launch is not None:
        check_protections(job.recipe)  # what is wrong at once need not wait for the processes to start
        check_optimizer(job.recipe.train.optimizer)
        return train_in_processes(job, launch)
    if "LOCAL_RANK" in os.environ:  # torchrun started the command itself: the others wait for what is to be done
        processes.join()
        processes.from_main(TypeAdapter(Job).dump_json(job))
        trained = train_here(job)
        return replace(trained, peak_rss_bytes=processes.total(trained.peak_rss_bytes))
    return train_here(job)


def train_here(job: Job) -> Trained:
    """Train `job` in this process, together with the others of its group if it is one of several."""
    processes.forget_sharding()
    with memory_errors(partial(told_what_to_change, job)):
        return _train_here(job)


def _train_here(job: Job) -> Trained:
    started = time.perf_counter()
    job, watched = watch(tuned_for(job))
    job, validation = hold_out(job)
    tokenizer = load_tokenizer(job.start)
    recipe, notes = _settled(job)
    stage = STAGES.load(recipe.train.stage, where="train.stage")(recipe.train)
    recipe, told = _fitting(job, recipe, stage, tokenizer)
    settings, notes = recipe.train, notes + told
    torch.manual_seed(settings.seed)
    mixed = any(precision_of(settings.precision, pick_device().type == "cuda")[:2])
    tuned = tuned_model(start_of(job), recipe.tune, job.work, None if mixed else torch.float32, rewards=stage.rewards)
    if sharding_of(settings) not in CUTS_WEIGHTS:
        notes += hold_zeros(tuned.model.to(pick_device()))  # else no device may have room for all of it
    observers = Observers(job, settings, tuned.model, tokenizer, watched)
    rows = TrainingRows(job.new)
    with processes.main_first(), autocast_of(settings.precision):
        active = build_protections(job, recipe, tuned, tokenizer, notes)
        for protection in active:
            rows = protection.rows(rows)
        rows, ordered = arrange(rows, settings, partial(row_losses, job.start, tokenizer, settings.max_length))
    prepared = stage.prepare(rows, tokenizer, settings)
    with autocast_of(settings.precision):
        prepared = validation.encode(stage, tokenizer, prepared, tuned.model, start_of(job).adapter is None)
    model = tuned.model
    with processes.main_first(), autocast_of(settings.precision):
        for protection in active:
            model = protection.model(model)
    arguments, said = training_arguments(recipe, stage, prepared.steps, job.work)
    checkpoint, found = processes.on_main(lambda: _resume_from(job, recipe, prepared))
    observers.steer(active)
    looking_on = (observers.callbacks, recipe.tune, validation, observers.reporters, settings, job.shared)
    fitted = fit(Run(stage, arguments, model, tokenizer, prepared, active, *looking_on), checkpoint)
    fitted, drift = _concluded(fitted, recipe, active, observers)
    folder = _keep(job, tuned, fitted, tokenizer, settings, active)
    told = [*fitted.notes, *(note for one in active for note in one.notes)]
    notes += [tuned.summary, *observers.notes, *found, *ordered, *prepared.notes, *validation.notes, *told, *said]
    return Trained(
        folder=folder,
        kind=tuned.kind,
        recipe=recipe,
        steps=fitted.history[-1]["step"],
        seconds=time.perf_counter() - started,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        final_loss=next(entry["loss"] for entry in reversed(fitted.history) if "loss" in entry),
        notes=tuple(notes),
        drift=drift,
        findings=tuple(observers.findings),
    )


def _concluded(
    fitted: Fitted, recipe: Recipe, active: Sequence[Protection], observers: Observers
) -> tuple[Fitted, float | None]:
    """The model as the protections leave it, and how far it has moved."""
    if any(one.afresh for one in active):  # its adapter is compared before it is put behind a router
        drift = observers.conclude(fitted, recipe)
        finished = _finished(fitted, recipe.train, active)
    else:
        finished = _finished(fitted, recipe.train, active)
        drift = observers.conclude(finished, recipe)
    if drift is not None:
        finished.history[-1][DRIFT] = drift
    return finished, drift


def _settled(job: Job) -> tuple[Recipe, list[str]]:
    """The recipe with every `auto` decided and what does not fit the model cut; and what was decided.

    Raises:
        InputError: unknown scheduler, an optimizer that is not there, or a batch that cannot be cut evenly.
    """
    asked = job.recipe.train
    check_protections(job.recipe)
    check_pictures(job)
    check_reports(asked.report_to)
    if asked.scheduler not in SCHEDULERS:
        raise unknown("scheduler", asked.scheduler, SCHEDULERS, where="train.scheduler")
    check_optimizer(asked.optimizer)
    check_batch(asked, processes.world())
    parameters = parameter_count(job.start)
    settings, notes = settle(asked, job.recipe.tune, parameters, len(job.new))
    settings, said = settled_precision(settings, parameters)
    notes += said
    known, virtual = positions(job.start), getattr(job.recipe.tune, "tokens", 0)
    if known is not None and known - virtual < settings.max_length:
        known -= virtual
        notes.append(f"max_length {known} instead of {settings.max_length}: the model knows no more positions")
        settings = settings.model_copy(update={"max_length": known})
    return job.recipe.model_copy(update={"train": settings}), notes


def _fitting(job: Job, recipe: Recipe, stage: Stage, tokenizer: Any) -> tuple[Recipe, list[str]]:
    """The recipe as memory allows it; the tokenizer gets the template. Of what says nothing neither is known."""
    if not stage.speaks:
        return recipe, []
    recipe, told = foreseen(job, recipe, tokenizer)
    if recipe.train.gradient_checkpointing and pick_device().type == "cpu":
        give_back_freed()
    return recipe, [*told, *adopt(tokenizer, recipe.train.template)]


def _resume_from(job: Job, recipe: Recipe, prepared: Prepared) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of this very run, and what was found that cannot be gone on from."""
    general = sha256_file(job.general) if job.general else ""
    start = [job.start.identity, job.keeps.identity, general, dict(job.max_drop), job.task]
    key = content_hash([*start, prepared.rows_hash, recipe.alone.model_dump(mode="json")])
    notes = claim(job.work, key)
    checkpoint, torn = newest_valid(job.work)
    remove_torn(job.work)
    if checkpoint is None:
        return None, [*notes, *torn]
    others = check_writers(checkpoint, sharding_of(recipe.train))
    return checkpoint, [*notes, *torn, f"resumed from {checkpoint.name}", *others]


def _finished(fitted: Fitted, settings: Train, active: Sequence[Protection]) -> Fitted:
    """After training: merge or average, in every process alike."""
    model, weights = fitted.model, fitted.weights
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    check_finite(trained if weights is None else weights, settings)
    for protection in active:
        model = protection.finish(model)
    return replace(fitted, model=model)


def _keep(
    job: Job, tuned: Tuned, fitted: Fitted, tokenizer: Any, settings: Train, active: Sequence[Protection]
) -> Path:
    """Process 0 writes the folder, and what the protections keep beside it."""
    model, weights = fitted.model, fitted.weights
    folder = job.work / "result"
    if tuned.kind == "full" and weights is None:
        model.to(stored_dtype(job.start))
    elif tuned.kind == "full" and weights is not None:
        weights = {name: weight.to(stored_dtype(job.start)) for name, weight in weights.items()}
    if processes.is_main():
        _save(folder, model, tokenizer, Fitted(fitted.history, model, weights))
        with autocast_of(settings.precision):
            for protection in active:
                protection.saved(model, folder)
    return folder


def _save(folder: Path, model: Any, tokenizer: Any, fitted: Fitted) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    with disk_errors_of_weights(folder), staged_folder(folder) as staging:
        save(model, staging, folder.parent / INITIAL, fitted.weights)
        tokenizer.save_pretrained(str(staging))
        if hasattr(tokenizer, "pictures"):
            tokenizer.pictures.save(staging)
        write_log(staging, fitted.history)
    return folder
