"""From the recipe's list of protections to objects ready to act, or a refusal that says why not."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from nacre.base.config import parse
from nacre.base.errors import InputError
from nacre.model.load import load_model, pick_device
from nacre.model.tuners import Tuned
from nacre.records import Recipe
from nacre.train.generic import generic_texts
from nacre.train.job import Job
from nacre.train.protect import PROTECTIONS
from nacre.train.protect.base import Context, Protection, Teacher
from nacre.train.teacher import FrozenCopy, SameBase

AUTO_FIRST = ({"name": "distill"},)
AUTO_LATER = ({"name": "replay"}, {"name": "distill"})


def build_protections(job: Job, recipe: Recipe, tuned: Tuned, tokenizer: Any, notes: list[str]) -> list[Protection]:
    """The protections of the recipe, ready to act. `auto` is replay and a little distillation on generic text.

    What cannot be used of the generic text goes into `notes`.

    Raises:
        InputError: unknown protection or option, with the nearest known name.
    """
    chosen = (AUTO_LATER if job.memory else AUTO_FIRST) if recipe.protect == "auto" else recipe.protect
    previous = job.keeps

    @cache
    def teacher() -> Teacher:
        same_base = tuned.kind == "adapter" and previous.model == job.start.model
        return SameBase(tuned.model, previous) if same_base else FrozenCopy(previous, pick_device())

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
        stage=recipe.train.stage,
        weak=job.weak,
        seed=recipe.train.seed,
    )
    names = [str(entry.get("name")) for entry in chosen]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"protection '{twice}' stands in the list twice", where="protect", fix="keep one of them")
    built: list[Protection] = []
    for place, entry in enumerate(chosen):
        where = f"protect[{place}]"
        if "name" not in entry:
            raise InputError("an entry has no name", where=where, fix=f"Known: {', '.join(PROTECTIONS.names())}")
        kind = PROTECTIONS.load(entry["name"], where=where)
        _check_fits(kind, recipe.tune.name, names, where)
        options = {key: value for key, value in entry.items() if key != "name"}
        built.append(kind(parse(kind.Config, options, where=f"{where} ({entry['name']})"), context))
    return built


def _check_fits(kind: type[Protection], tuner: str, names: Sequence[str], where: str) -> None:
    """Refuse what cannot work together, before anything is loaded for it."""
    if kind.tuners and tuner not in kind.tuners:
        fix = f"tune with {' or '.join(kind.tuners)}, or leave {kind.name} out"
        raise InputError(f"protection '{kind.name}' does not work with the tuner '{tuner}'", where=where, fix=fix)
    for other, reason in kind.contradicts.items():
        if other in names:
            what = f"protections '{kind.name}' and '{other}' contradict each other: {reason}"
            raise InputError(what, where=where, fix="keep one of them")


def _generic(job: Job, model: Any, tokenizer: Any, seed: int, notes: list[str]) -> Callable[[], Sequence[str]]:
    previous = job.keeps
    cache_file = job.shared / "generic" / f"{previous.identity[:16]}-{seed}.jsonl"

    def texts() -> list[str]:
        sampled = job.general is None and not cache_file.exists()
        speaker = load_model(previous) if sampled and previous != job.start else model
        return generic_texts(job.general, cache_file, speaker, tokenizer, seed=seed, notes=notes)

    return texts
