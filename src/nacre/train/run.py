"""One training run: from a starting version and rows to a folder in Hugging Face layout."""

import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from nacre.base.errors import InputError, unknown
from nacre.base.files import staged_folder
from nacre.base.hashing import content_hash, sha256_file
from nacre.model.load import load_model, load_tokenizer, parameter_count, pick_device, positions, stored_dtype
from nacre.model.tuners import apply
from nacre.records import Recipe
from nacre.train.arguments import SCHEDULERS, autocast_of, precision_of, training_arguments
from nacre.train.auto import settle
from nacre.train.checkpoints import claim, disk_errors_of_weights, newest_valid, remove_torn
from nacre.train.fit import Run, check_finite, fit
from nacre.train.job import Job, Trained
from nacre.train.protect.base import TrainingRows
from nacre.train.protect.build import build_protections
from nacre.train.rows import Prepared
from nacre.train.stages import STAGES

__all__ = ["Job", "Trained", "train"]


def train(job: Job) -> Trained:
    """Train `job` and return the finished folder.

    Raises:
        InputError: a protection or tuner option is wrong, or there is nothing to train on.
        NacreError: the disk is full; what was trained so far is kept as a checkpoint.
    """
    started = time.perf_counter()
    tokenizer = load_tokenizer(job.start)
    recipe, notes = _settled(job)
    settings = recipe.train
    stage = STAGES.load(settings.stage, where="train.stage")()
    torch.manual_seed(settings.seed)
    mixed = any(precision_of(settings.precision, pick_device().type == "cuda")[:2])
    tuned = apply(load_model(job.start, train=True, dtype=None if mixed else torch.float32), recipe.tune)
    tuned.model.to(pick_device())
    with autocast_of(settings.precision):
        active = build_protections(job, recipe, tuned, tokenizer, notes)
    rows = TrainingRows(job.new)
    for protection in active:
        rows = protection.rows(rows)
    prepared = stage.prepare(rows, tokenizer, settings)
    arguments, said = training_arguments(recipe, stage, prepared.steps, job.work)
    model = tuned.model
    with autocast_of(settings.precision):
        for protection in active:
            model = protection.model(model)
    checkpoint, found = _resume_from(job, recipe, prepared)
    history = fit(Run(stage, arguments, model, tokenizer, prepared, active), checkpoint)
    check_finite(model, settings)
    for protection in active:
        model = protection.finish(model)
    if tuned.kind == "full":
        model.to(stored_dtype(job.start))
    folder = _save(job.work / "result", model, tokenizer, history)
    notes += [tuned.summary, *found, *prepared.notes, *(note for one in active for note in one.notes), *said]
    return Trained(
        folder=folder,
        kind=tuned.kind,
        recipe=recipe,
        steps=prepared.steps,
        seconds=time.perf_counter() - started,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        final_loss=next(entry["loss"] for entry in reversed(history) if "loss" in entry),
        notes=tuple(notes),
    )


def _settled(job: Job) -> tuple[Recipe, list[str]]:
    """The recipe with every `auto` decided and what does not fit the model cut; and what was decided.

    Raises:
        InputError: unknown scheduler, a batch that cannot be cut evenly, or several processes.
    """
    asked = job.recipe.train
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "this version of nacre trains in one process", where="WORLD_SIZE", fix="start it without torchrun"
        )
    if asked.scheduler not in SCHEDULERS:
        raise unknown("scheduler", asked.scheduler, SCHEDULERS, where="train.scheduler")
    if asked.batch_size % asked.accumulation:
        raise InputError(
            f"a batch of {asked.batch_size} rows cannot be cut into {asked.accumulation} equal micro-batches",
            where="train.accumulation",
            fix="make batch_size a multiple of accumulation",
        )
    settings, notes = settle(asked, job.recipe.tune, parameter_count(job.start), len(job.new))
    known = positions(job.start)
    if known is not None and known < settings.max_length:
        notes.append(f"max_length {known} instead of {settings.max_length}: the model knows no more positions")
        settings = settings.model_copy(update={"max_length": known})
    return job.recipe.model_copy(update={"train": settings}), notes


def _resume_from(job: Job, recipe: Recipe, prepared: Prepared) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of this very run, and what was found that cannot be gone on from."""
    general = sha256_file(job.general) if job.general else ""
    start = [job.start.identity, job.keeps.identity, general]
    key = content_hash([*start, prepared.rows_hash, recipe.model_dump(mode="json")])
    notes = claim(job.work, key)
    checkpoint, torn = newest_valid(job.work)
    remove_torn(job.work)
    return checkpoint, [*notes, *torn, *([f"resumed from {checkpoint.name}"] if checkpoint else [])]


def _save(folder: Path, model: Any, tokenizer: Any, history: list[dict[str, Any]]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    with disk_errors_of_weights(folder), staged_folder(folder) as staging:
        only = {"selected_adapters": ["default"]} if isinstance(model, PeftModel) else {}
        model.save_pretrained(str(staging), **only)
        tokenizer.save_pretrained(str(staging))
        steps = [entry for entry in history if "loss" in entry]
        (staging / "trainer_log.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in steps))
    return folder
