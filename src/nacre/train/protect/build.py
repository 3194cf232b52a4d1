"""From the recipe's list of protections to objects ready to act, or a refusal that says why not."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from nacre.base.config import parse
from nacre.base.errors import InputError
from nacre.model.align import aligns
from nacre.model.load import load_model, model_type, pick_device
from nacre.model.pictures import sees
from nacre.model.prompts import has_prompts
from nacre.model.tuners import Tuned, goes_beside
from nacre.records import Recipe, Weights
from nacre.train import processes
from nacre.train.auto import epochs
from nacre.train.generic import generic_texts
from nacre.train.job import Job
from nacre.train.protect import PROTECTIONS
from nacre.train.protect.auto import Past, Rung, ladder
from nacre.train.protect.base import Context, Protection, Teacher
from nacre.train.sharding import CUTS_WEIGHTS, sharding_of
from nacre.train.teacher import FrozenCopy, SameBase


def build_protections(job: Job, recipe: Recipe, tuned: Tuned, tokenizer: Any, notes: list[str]) -> list[Protection]:
    """The protections of the recipe, ready to act. `auto` is the first rung of its ladder.

    What cannot be used of the generic text goes into `notes`.

    Raises:
        InputError: unknown protection or option, with the nearest known name.
    """
    chosen, why = chosen_of(job)
    notes += [f"protect auto: {why}"] if why else []
    previous = job.keeps

    @cache
    def teacher() -> Teacher:
        same_base = tuned.kind == "adapter" and previous.model == job.start.model and not previous.several
        if same_base and goes_beside(tuned, previous) and sharding_of(recipe.train) not in CUTS_WEIGHTS:
            return SameBase(tuned.model, previous)
        with processes.whole_models():
            return FrozenCopy(previous, pick_device())

    context = Context(
        start=job.start,
        previous=previous,
        memory=job.memory,
        generic=_generic(job, tuned.model, tokenizer, recipe.train.seed, notes),
        teacher=teacher,
        tokenizer=tokenizer,
        max_length=recipe.train.max_length,
        folder=job.shared,
        tune=recipe.tune,
        train=recipe.train,
        stage=recipe.train.stage,
        weak=job.weak,
        general=job.general,
        task=job.task,
        learned=job.past,
        seed=recipe.train.seed,
    )
    check_protections(recipe)
    built: list[Protection] = []
    for place, entry in enumerate(chosen):
        kind, config = _read(entry, f"protect[{place}]")
        built.append(kind(config, context))
    return sorted(built, key=lambda one: not one.reshapes)


def rung_of(job: Job) -> Rung | None:
    """The first rung of `auto` for this job; None where the recipe names its protections itself."""
    past = Past(learned=job.past, rows=job.has_rows, share=job.share, routed=job.start.routed)
    return next(iter(fitting(ladder(job.recipe, past), job.recipe)), None)


def chosen_of(job: Job) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The entries that the recipe names, or those of the first rung of `auto` and the reason for them."""
    rung = rung_of(job)
    return (rung.protect, rung.why) if rung else (() if job.recipe.protect == "auto" else job.recipe.protect, "")


def tuned_for(job: Job) -> Job:
    """The job with the tuner and the passes that the rung of `auto` needs, where the user chose neither."""
    rung, recipe = rung_of(job), job.recipe
    if rung is None:
        return job
    if rung.tune is not None and recipe.tune.name != rung.tune.name:
        recipe = recipe.model_copy(update={"tune": rung.tune})
    if rung.longer > 1 and recipe.train.epochs == "auto":
        passes = float(math.ceil(rung.longer * epochs(len(job.new), recipe.train.batch_size)))
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": passes})})
    return job if recipe is job.recipe else replace(job, recipe=recipe)


def fitting(rungs: Sequence[Rung], recipe: Recipe) -> tuple[Rung, ...]:
    """The rungs of `auto` without what cannot act under the recipe's tuner, stage or sharding; their reasons say so."""
    found: list[Rung] = []
    for rung in rungs:
        asked = recipe.model_copy(update={"tune": rung.tune or recipe.tune})
        out = [entry["name"] for entry in rung.protect if not _fits(entry["name"], asked)]
        kept = tuple(entry for entry in rung.protect if entry["name"] not in out)
        why = f"; left out, because they cannot act in this run: {', '.join(out)}" if out else ""
        if all(kept != other.protect for other in found):
            found.append(replace(rung, protect=kept, why=rung.why + why))
    return tuple(found)


def _fits(name: str, recipe: Recipe) -> bool:
    """Whether a protection works with the tuner, in the stage and under the sharding of the recipe."""
    try:
        _check_fits(PROTECTIONS.load(name, where="auto"), recipe, (), "auto")
    except InputError:
        return False
    return True


def kinds_of(job: Job) -> list[type[Protection]]:
    """The classes of the protections that will act, those of `auto` included.

    Raises:
        InputError: unknown protection or option, with the nearest known name.
    """
    return [_read(entry, f"protect[{place}]")[0] for place, entry in enumerate(chosen_of(job)[0])]


def start_of(job: Job) -> Weights:
    """What the model that trains is loaded from: the start, or its base where a protection adds a new adapter to it.

    Raises:
        InputError: the start is several adapters, and no protection adds one to them.
    """
    if job.start.ensemble:
        what = f"what training starts from is {job.start.several}, which cannot be trained as one"
        fix = "start from one of its members, or from what nacre combine --by merge makes of them"
        raise InputError(what, where=str(job.start.adapter), fix=fix)
    if any(kind.afresh for kind in kinds_of(job)):
        return job.start.changed(adapter=None)
    if job.start.routed:
        raise InputError(
            "the version that training starts from is several adapters behind a router, which cannot be trained as one",
            where=str(job.start.adapter),
            fix="protect with separate and tune with lora, or start from a version without a router",
        )
    return job.start


def check_protections(recipe: Recipe) -> None:
    """Refuse a list of protections that cannot be acted on, before anything is loaded or measured for it.

    Raises:
        InputError: unknown protection or option, with the nearest known name; one that does not work with the
            tuner; two that contradict each other, with the reason.
    """
    chosen = () if recipe.protect == "auto" else recipe.protect
    names = [str(entry.get("name")) for entry in chosen]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"protection '{twice}' stands in the list twice", where="protect", fix="keep one of them")
    for place, entry in enumerate(chosen):
        where = f"protect[{place}]"
        kind, config = _read(entry, where)
        _check_fits(kind, recipe, names, where, config)
        if late := [name for name in names[place + 1 :] if name in kind.after]:
            what = f"protection '{kind.name}' must know the rows that {' and '.join(late)} mixes in"
            raise InputError(what, where=where, fix=f"put {' and '.join(late)} before {kind.name} in the list")


def check_pictures(job: Job) -> None:
    """Refuse what cannot be done with pictures, before anything is loaded.

    Raises:
        InputError: the stage clip on a model that is not of two encoders, or another stage on one that is; rows have
            pictures, and the model reads none, or a protection or the sharding does not bear them.
    """
    kind, train = model_type(job.start.model), job.recipe.train
    if (train.stage == "clip") != aligns(kind):
        kinds = f"the model is of the kind {kind}"
        fix = "the stage clip is for models of two encoders (clip, vision-text-dual-encoder), and they have no other"
        raise InputError(f"{kinds}, which the stage {train.stage} does not train", where=job.start.model, fix=fix)
    if train.stage == "clip":
        _check_aligned(job)
        return
    if not any(row.images for rows in (job.new, job.dev, *job.memory.values()) for row in rows):
        return
    if not sees(kind):
        fix = "name a model that reads pictures (image-text-to-text, of the LLaVA kind), or leave out the column images"
        raise InputError("rows have pictures, and the model reads texts only", where=job.start.model, fix=fix)
    sharding = sharding_of(train)
    if sharding in CUTS_WEIGHTS:
        what = f"pictures are not learned under {sharding}: no process has the whole vision tower"
        raise InputError(what, where="train.sharding", fix="train with sharding none or zero2")
    for one in kinds_of(job):
        if not one.pictures:
            known = [name for name in PROTECTIONS.names() if PROTECTIONS.load(name).pictures]
            what = f"protection '{one.name}' was never tried on rows with pictures"
            raise InputError(what, where="protect", fix=f"protect with {', '.join(known)}")


def _check_aligned(job: Job) -> None:
    """Refuse settings that read what a model says, which one of two encoders does not.

    Raises:
        InputError: names the setting.
    """
    train, entries = job.recipe.train, chosen_of(job)[0]
    wrong = {
        "tune": job.recipe.tune.name != "full",
        "train.curriculum": train.curriculum == "loss",
        "train.sharding": sharding_of(train) != "none",
        "train.processes": train.processes != 1,
        "train.learning_rate": train.learning_rate == "pilot",
        "protect, replay, order": any(entry.get("order") == "surprise" for entry in entries),
    }
    for where, is_wrong in wrong.items():
        if is_wrong:
            fix = "tune with full, in one process, without curriculum loss, learning_rate pilot and the order surprise"
            raise InputError("the stage clip does not go with this setting", where=where, fix=fix)


def _read(entry: Mapping[str, Any], where: str) -> tuple[type[Protection], Any]:
    """The class that an entry of the list names, and its options."""
    if "name" not in entry:
        raise InputError("an entry has no name", where=where, fix=f"Known: {', '.join(PROTECTIONS.names())}")
    kind = PROTECTIONS.load(entry["name"], where=where)
    options = {key: value for key, value in entry.items() if key != "name"}
    return kind, parse(kind.Config, options, where=f"{where} ({entry['name']})")


def _check_fits(kind: type[Protection], recipe: Recipe, names: Sequence[str], where: str, config: Any = None) -> None:
    """Refuse what cannot work together, before anything is loaded for it."""
    tuner, stage = recipe.tune.name, recipe.train.stage
    if stage == "clip" and not kind.aligns:
        known = [name for name in PROTECTIONS.names() if PROTECTIONS.load(name).aligns]
        what = f"protection '{kind.name}' compares what a model says, and in the stage clip nothing is said"
        raise InputError(what, where=where, fix=f"protect with {', '.join(known)}")
    if kind.stages and stage not in kind.stages:
        fix = f"train in stage {' or '.join(kind.stages)}, or leave {kind.name} out"
        raise InputError(f"protection '{kind.name}' does not work in the stage '{stage}'", where=where, fix=fix)
    if kind.tuners and tuner not in kind.tuners:
        fix = f"tune with {' or '.join(kind.tuners)}, or leave {kind.name} out"
        raise InputError(f"protection '{kind.name}' does not work with the tuner '{tuner}'", where=where, fix=fix)
    sharding = sharding_of(recipe.train)
    reason = _hindered(kind, sharding, config)
    if reason:
        raise InputError(
            f"protection '{kind.name}' cannot act under {sharding}: {reason}",
            where=where,
            fix="train with sharding none, or leave it out; replay acts under every sharding",
        )
    for other, reason in kind.contradicts.items():
        if other in names:
            what = f"protections '{kind.name}' and '{other}' contradict each other: {reason}"
            raise InputError(what, where=where, fix="keep one of them")


def _hindered(kind: type[Protection], sharding: str, config: Any) -> str | None:
    """Why a way of sharing the model between processes keeps a protection from acting; None: it does not."""

    def overrides(*moments: str) -> bool:
        return any(getattr(kind, moment) is not getattr(Protection, moment) for moment in moments)

    if sharding == "none" or sharding in kind.shardings:
        return None
    if kind.shardings:
        return f"it works with {' and '.join(kind.shardings)} only"
    if kind.needs_gradients(config):
        made = "each process sees a part of each gradient only"
        return made if sharding == "fsdp2" else "DeepSpeed makes the step before anyone sees its gradients"
    if sharding in CUTS_WEIGHTS and overrides("loss"):
        return "what it asks the model beside its rows, all processes would have to ask at the same moment"
    if sharding in CUTS_WEIGHTS and overrides("finish", "saved"):
        return "after training no process has the whole model"
    return None


def _generic(job: Job, model: Any, tokenizer: Any, seed: int, notes: list[str]) -> Callable[[], Sequence[str]]:
    previous = job.keeps
    cache_file, of_base = (
        job.shared / "generic" / f"{identity[:16]}-{seed}.jsonl" for identity in (previous.identity, job.base)
    )
    if of_base.exists():  # what the base model said serves every version above it
        cache_file = of_base

    def texts() -> list[str]:
        sampled = job.general is None and not cache_file.exists()
        # a new adapter adds nothing yet, but learned prompts do: they begin at random
        begun = start_of(job)
        other = previous != begun or (begun.adapter is None and has_prompts(model))
        speaker = load_model(previous) if sampled and other else model
        return generic_texts(job.general, cache_file, speaker, tokenizer, seed=seed, notes=notes)

    return texts
