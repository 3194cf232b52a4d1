"""Refuse a training that cannot fit before anything is loaded, and say which change makes it fit and what it saves."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from nacre.base.errors import InputError, NacreError
from nacre.data.schedule import plan_steps
from nacre.model.chat import IGNORED, encode
from nacre.model.load import load_tokenizer
from nacre.records import Example, Recipe, Weights
from nacre.records.tune import Full, Lora, QLora
from nacre.train import processes
from nacre.train.estimate import Device, Estimate, Rows, device_now, estimate, size
from nacre.train.job import Job
from nacre.train.launch import group_of
from nacre.train.protect.build import chosen_of, tuned_for
from nacre.train.shape import Dimensions

LONGEST, SAMPLE = 8, 64  # rows that are tokenised for the estimate: the longest by characters, and some of all
MARGIN = 1.1  # an estimate must be beyond the memory by so much before a training is refused


@dataclass(frozen=True)
class Change:
    """A change of settings, what it saves by itself, and whether it makes the training fit by itself."""

    words: str
    recipe: Recipe
    saves_bytes: float
    fits: bool

    def __str__(self) -> str:
        return f"{self.words} saves {size(self.saves_bytes)}"


def foreseen(job: Job, recipe: Recipe, tokenizer: Any) -> tuple[Recipe, list[str]]:
    """The recipe, with gradient checkpointing if it leaves that open and needs it; and what is foreseen, in words.

    Raises:
        InputError: it cannot fit on this machine, see `check_memory`.
    """
    named = _named(job, recipe)
    rows, device = rows_of(job, named, tokenizer), _here(named)
    needs = processes.on_main(lambda: needs_checkpointing(named, job.start, rows, device))  # else they might differ
    if not needs:
        return recipe, [f"estimate: {check_memory(named, job.start, rows, device)}"]
    told = f"gradient checkpointing is on: {size(device.memory_bytes)} of memory would not suffice without it"
    found = check_memory(_checkpointed(named), job.start, rows, device)
    return _checkpointed(recipe), [told, f"estimate: {found}"]


def needs_checkpointing(recipe: Recipe, start: Weights | Dimensions, rows: Rows, device: Device) -> bool:
    """Whether the recipe leaves gradient checkpointing open, and fits into memory with it alone."""
    if recipe.train.gradient_checkpointing is not None or recipe.tune.name == "prefix":
        return False
    if estimate(recipe, start, rows, device).memory_bytes <= device.memory_bytes:
        return False
    return estimate(_checkpointed(recipe), start, rows, device).memory_bytes <= device.memory_bytes


def _checkpointed(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"gradient_checkpointing": True})})


def told_what_to_change(job: Job) -> str:
    """`advice` for a job whose estimate fitted, yet which ran out of memory: for half of what it was to need."""
    job = tuned_for(job)
    recipe, tokenizer = _named(job, job.recipe), load_tokenizer(job.start)
    device = _here(recipe)
    needed = estimate(recipe, job.start, rows := rows_of(job, recipe, tokenizer), device).memory_bytes
    return advice(recipe, job.start, rows, replace(device, memory_bytes=min(needed, device.memory_bytes) / 2))


def relief(job: Job, recipe: Recipe, tokenizer: Any, too_much: float) -> list[Change]:
    """`changes` of a run that has ended and nearly filled the memory; one that saves `too_much` bytes alone fits.

    Args:
        recipe: what was trained by, with everything settled.
    """
    named = _named(job, recipe)
    rows, device = rows_of(job, named, tokenizer), _here(named)
    needed = estimate(named, job.start, rows, device).memory_bytes
    return changes(named, job.start, rows, replace(device, memory_bytes=needed - too_much))


def rows_of(job: Job, recipe: Recipe, tokenizer: Any) -> Rows:
    """Steps and lengths of what the job trains, from a few of its rows."""
    settings = recipe.train
    new = list(job.new)
    every = [*new, *(row for kept in job.memory.values() for row in kept)]
    longest = [length_of(row, tokenizer)[0] for row in sorted(every, key=_characters)[-LONGEST:]]
    sample = [length_of(row, tokenizer) for row in new[:: max(1, len(new) // SAMPLE)]]
    tokens = sum(length for length, _ in sample)
    passes = settings.epochs if isinstance(settings.epochs, float) else 1.0
    steps = plan_steps(max(1, len(new)), 0.0, settings.batch_size, passes, settings.min_steps)
    return Rows(
        steps=min(steps, settings.max_steps or steps),
        longest=settings.max_length if settings.stage == "pt" else max([1, *longest]),
        mean=settings.max_length if settings.stage == "pt" else max(1.0, tokens / max(1, len(sample))),
        labelled=sum(labelled for _, labelled in sample) / max(1, tokens),
        texts=2 if settings.stage in ("dpo", "rm", "kto") else 1,
        distinct=len(every),
    )


def _named(job: Job, recipe: Recipe) -> Recipe:
    """The recipe with the protections that will act, where it leaves them to `auto`."""
    return recipe.model_copy(update={"protect": tuple(chosen_of(job)[0])})


def _here(recipe: Recipe) -> Device:
    device = device_now()
    _, here = group_of(recipe.train)
    each = device.memory_bytes / (here if device.kind == "cpu" else 1)  # they share main memory
    return replace(device, memory_bytes=each)


def _characters(row: Example) -> int:
    return sum(len(turn.content) for turn in (*row.prompt, *row.answers))


def length_of(row: Example, tokenizer: Any) -> tuple[int, int]:
    """Tokens of a row, and how many have a label; a row that the template refuses is refused later, in words."""
    if row.kind == "text":
        count = len(tokenizer(row.prompt[0].content, add_special_tokens=False)["input_ids"])
        return count, count
    try:
        encoded = encode(row, tokenizer, 10**6)
    except InputError:
        return 0, 0
    return len(encoded.input_ids), sum(label != IGNORED for label in encoded.labels)


def changes(recipe: Recipe, start: Weights | Dimensions, rows: Rows, device: Device) -> list[Change]:
    """What would save memory, cheapest first: each is estimated anew, and what saves next to nothing is left out."""
    whole = estimate(recipe, start, rows, device)
    needed, found = whole.memory_bytes, []
    least = 0.01 * (needed - whole.parts["program"])  # of what settings can change at all
    for words, changed in _candidates(recipe, rows, device):
        new = estimate(changed, start, rows, device).memory_bytes
        if needed - new > least:
            found.append(Change(words, changed, needed - new, new <= device.memory_bytes))
    return _cheapest_cut(found)


def check_memory(recipe: Recipe, start: Weights | Dimensions, rows: Rows, device: Device) -> Estimate:
    """The estimate, if what is asked for can fit.

    Raises:
        InputError: it cannot; names the cheapest change, or the fewest changes together, that make it fit.
    """
    found = estimate(recipe, start, rows, device)
    if not recipe.train.check_memory or found.memory_bytes <= MARGIN * device.memory_bytes:
        return found
    where = f"{'GPU' if device.kind == 'cuda' else 'main memory'}, {size(device.memory_bytes)}"
    raise InputError(
        f"this training needs {found}, which does not fit",
        where=where,
        fix=f"{advice(recipe, start, rows, device)}; or set train.check_memory to false if you know better",
    )


def advice(recipe: Recipe, start: Weights | Dimensions, rows: Rows, device: Device) -> str:
    """The cheapest change that makes it fit, and what every other one saves."""
    found = changes(recipe, start, rows, device)
    if not found:
        return "no change of settings saves memory: take a smaller model or a larger machine"
    alone = next((change for change in found if change.fits), None)
    if alone is not None:
        others = [str(change) for change in found if change is not alone]
        return f"{alone} and makes it fit" + (f" (beside it: {', '.join(others)})" if others else "")
    together, needed = _together(recipe, start, rows, device)
    told = ", ".join(str(change) for change in found)
    if needed <= device.memory_bytes:
        return f"together these make it fit, with {size(needed)}: {' and '.join(together)} (alone: {told})"
    return f"nothing makes it fit: {' and '.join(together)} still need {size(needed)} (alone: {told})"


@contextmanager
def memory_errors(advise: Callable[[], str]) -> Iterator[None]:
    """Turn a lack of memory inside the block into an error that says what to change.

    Raises:
        NacreError: memory ran out.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(error, advise) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error) and "out of memory" not in str(error):
            raise
        raise _out_of_memory(error, advise) from error


def _out_of_memory(error: BaseException, advise: Callable[[], str]) -> NacreError:
    reason = (str(error).strip().splitlines() or ["no memory left"])[0]
    return NacreError("memory ran out while training", where=reason, fix=advise())


def _candidates(recipe: Recipe, rows: Rows, device: Device) -> list[tuple[str, Recipe]]:
    """Changes in the order of what they cost: nothing, time, text, digits, freedom."""
    settings = recipe.train
    world, _ = group_of(settings)

    def trained(words: str, **update: object) -> tuple[str, Recipe]:
        return words, recipe.model_copy(update={"train": settings.model_copy(update=update)})

    found = [
        trained(f"accumulation {parts}", accumulation=parts)
        for parts in range(settings.accumulation + 1, settings.batch_size // world + 1)
        if (settings.batch_size // world) % parts == 0
    ]
    if not settings.gradient_checkpointing and recipe.tune.name != "prefix":
        found.append(trained("gradient_checkpointing", gradient_checkpointing=True))
    half = min(settings.max_length, rows.longest) // 2
    if half >= 64:
        found.append(trained(f"max_length {half}, which cuts long rows,", max_length=half))
    if settings.precision == "fp32" or (settings.precision == "auto" and device.kind == "cpu"):
        found.append(trained("precision bf16", precision="bf16"))
    if isinstance(recipe.tune, Full):
        found.append(("tune lora", recipe.model_copy(update={"tune": Lora()})))
    if isinstance(recipe.tune, Full | Lora):
        found.append(("tune qlora, with 4 bits,", recipe.model_copy(update={"tune": QLora()})))
    return found


def _cheapest_cut(found: Sequence[Change]) -> list[Change]:
    """Of several accumulations only one: the smallest that makes it fit, or the largest."""
    cuts = [change for change in found if change.words.startswith("accumulation")]
    chosen = next((change for change in cuts if change.fits), cuts[-1] if cuts else None)
    return [change for change in found if change not in cuts or change is chosen]


def _together(recipe: Recipe, start: Weights | Dimensions, rows: Rows, device: Device) -> tuple[list[str], float]:
    """Take changes one after the other, cheapest first, until it fits; their words, and the bytes then needed."""
    words: list[str] = []
    while True:
        found = changes(recipe, start, rows, device)
        needed = estimate(recipe, start, rows, device).memory_bytes
        if needed <= device.memory_bytes or not found:
            return words, needed
        chosen = next((change for change in found if change.fits), found[0])
        words.append(chosen.words.rstrip(","))
        recipe = chosen.recipe
