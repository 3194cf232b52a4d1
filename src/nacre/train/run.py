"""One training run: from a starting version and rows to a folder in Hugging Face layout."""

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig

from nacre.base.config import parse
from nacre.base.errors import InputError, NacreError, unknown
from nacre.base.files import staged_folder
from nacre.base.hashing import content_hash, sha256_file
from nacre.base.progress import progress
from nacre.model.load import load_model, load_tokenizer, parameter_count, pick_device, positions, stored_dtype
from nacre.model.tuners import Tuned, apply
from nacre.records import Example, Recipe, Train, Weights
from nacre.train.auto import settle
from nacre.train.checkpoints import MarkWhole, claim, disk_errors_of_weights, newest_valid, remove_torn
from nacre.train.generic import generic_texts
from nacre.train.protect import PROTECTIONS
from nacre.train.protect.base import Context, Protection, Teacher, TrainingRows
from nacre.train.rows import Prepared, prepare
from nacre.train.teacher import FrozenCopy, SameBase
from nacre.train.trainer import Collator, ProtectedSFT

AUTO_FIRST = ({"name": "distill"},)
AUTO_LATER = ({"name": "replay"}, {"name": "distill"})

SCHEDULERS = (  # those that need nothing but the number of steps
    "constant",
    "constant_with_warmup",
    "cosine",
    "cosine_with_restarts",
    "inverse_sqrt",
    "linear",
    "polynomial",
)


@dataclass(frozen=True)
class Job:
    """What to train.

    Attributes:
        start: the weights that training starts from.
        previous: the version whose abilities are to be kept (usually the same).
        recipe: tuner, optimiser and protections.
        new: the increment's rows.
        memory: rows of each past task, oldest first.
        work: folder for checkpoints and the result; a run that was killed goes on from here.
        shared: folder for files that outlive the run (importance, generic text).
        general: the user's own generic text, if there is any.
    """

    start: Weights
    recipe: Recipe
    new: Sequence[Example]
    work: Path
    shared: Path
    memory: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    previous: Weights | None = None
    general: Path | None = None


@dataclass(frozen=True)
class Trained:
    """What came out. `folder` holds weights, tokenizer, log and loss curve, ready to be published."""

    folder: Path
    kind: str
    recipe: Recipe
    steps: int
    seconds: float
    peak_rss_bytes: int
    final_loss: float
    notes: tuple[str, ...]


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
    torch.manual_seed(settings.seed)
    mixed = any(_precision(settings.precision, pick_device().type == "cuda")[:2])
    tuned = apply(load_model(job.start, train=True, dtype=None if mixed else torch.float32), recipe.tune)
    tuned.model.to(pick_device())
    with _training_precision(settings.precision):
        active = build_protections(job, recipe, tuned, tokenizer, notes)
    rows = TrainingRows(job.new)
    for protection in active:
        rows = protection.rows(rows)
    prepared = prepare(rows, tokenizer, settings)
    arguments, said = training_arguments(recipe, prepared.steps, job.work)
    model = tuned.model
    with _training_precision(settings.precision):
        for protection in active:
            model = protection.model(model)
    checkpoint, found = _resume_from(job, recipe, prepared)
    history = _fit(arguments, model, tokenizer, prepared, active, checkpoint)
    _check_finite(model, settings)
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
    previous = job.previous or job.start
    general = sha256_file(job.general) if job.general else ""
    start = [job.start.identity, previous.identity, general]
    key = content_hash([*start, prepared.rows_hash, recipe.model_dump(mode="json")])
    notes = claim(job.work, key)
    checkpoint, torn = newest_valid(job.work)
    remove_torn(job.work)
    return checkpoint, [*notes, *torn, *([f"resumed from {checkpoint.name}"] if checkpoint else [])]


def build_protections(job: Job, recipe: Recipe, tuned: Tuned, tokenizer: Any, notes: list[str]) -> list[Protection]:
    """The protections of the recipe, ready to act. `auto` is replay and a little distillation on generic text.

    What cannot be used of the generic text goes into `notes`.

    Raises:
        InputError: unknown protection or option, with the nearest known name.
    """
    chosen = (AUTO_LATER if job.memory else AUTO_FIRST) if recipe.protect == "auto" else recipe.protect
    previous = job.previous or job.start

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
        seed=recipe.train.seed,
    )
    names = [str(entry.get("name")) for entry in chosen]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"protection '{twice}' stands in the list twice", where="protect", fix="keep one of them")
    built = []
    for place, entry in enumerate(chosen):
        where = f"protect[{place}]"
        if "name" not in entry:
            raise InputError("an entry has no name", where=where, fix=f"Known: {', '.join(PROTECTIONS.names())}")
        kind = PROTECTIONS.load(entry["name"], where=where)
        options = {key: value for key, value in entry.items() if key != "name"}
        built.append(kind(parse(kind.Config, options, where=f"{where} ({entry['name']})"), context))
    return built


def _generic(job: Job, model: Any, tokenizer: Any, seed: int, notes: list[str]) -> Callable[[], Sequence[str]]:
    previous = job.previous or job.start
    cache_file = job.shared / "generic" / f"{previous.identity[:16]}-{seed}.jsonl"

    def texts() -> list[str]:
        sampled = job.general is None and not cache_file.exists()
        speaker = load_model(previous) if sampled and previous != job.start else model
        return generic_texts(job.general, cache_file, speaker, tokenizer, seed=seed, notes=notes)

    return texts


def training_arguments(recipe: Recipe, steps: int, work: Path) -> tuple[SFTConfig, list[str]]:
    """The recipe in the trainer's words, and what had to be decided on the way."""
    settings = recipe.train
    on_gpu = pick_device().type == "cuda"
    bf16, fp16, said = _precision(settings.precision, on_gpu)
    warmup = settings.warmup if settings.warmup >= 1 else round(settings.warmup * steps)
    arguments = SFTConfig(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size // settings.accumulation,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler,
        warmup_steps=int(warmup),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        activation_checkpointing=settings.gradient_checkpointing,
        bf16=bf16,
        fp16=fp16,
        use_cpu=not on_gpu,
        seed=settings.seed,
        data_seed=settings.seed,
        logging_steps=min(settings.logging_steps, steps),
        save_steps=settings.save_steps,
        save_total_limit=2,
        train_sampling_strategy="sequential",  # the rows are already in their order
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        max_length=settings.max_length,
        report_to="none",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # the first GPU: torch's DataParallel is no way to use several
    return arguments, said


def _training_precision(wanted: str) -> torch.autocast:
    """The trainer's autocast, for what protections compute before it starts: trained weights are kept in float32,
    frozen ones as stored, and only autocast lets the two meet.
    """
    device = pick_device().type
    bf16, fp16, _ = _precision(wanted, device == "cuda")
    return torch.autocast(device, dtype=torch.float16 if fp16 else torch.bfloat16, enabled=bf16 or fp16)


def _precision(wanted: str, on_gpu: bool) -> tuple[bool, bool, list[str]]:
    """(bf16, fp16, what was said) for what was asked and what the machine has."""
    if on_gpu:
        bf16 = wanted == "bf16" or (wanted == "auto" and torch.cuda.is_bf16_supported())
        return bf16, wanted == "fp16" or (wanted == "auto" and not bf16), []
    if wanted == "fp16":
        fast = _cpu_has_bf16(torch.cpu.get_capabilities())
        return fast, False, [f"fp16 does not train on a CPU: {'bf16' if fast else 'fp32'} was used instead"]
    return wanted == "bf16", False, []


def _cpu_has_bf16(capabilities: Mapping[str, Any]) -> bool:
    """Whether the CPU multiplies bf16 by itself; where it must convert, fp32 is faster."""
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "avx10_2", "bf16"))


class _Show(TrainerCallback):
    """Advances the bar."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(1)


def _fit(
    arguments: SFTConfig,
    model: Any,
    tokenizer: Any,
    prepared: Prepared,
    active: Sequence[Protection],
    checkpoint: Path | None,
) -> list[dict[str, Any]]:
    """Run the trainer; returns its log, one entry for each logged step."""
    done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    work = Path(arguments.output_dir)
    with progress("training", prepared.steps) as advance:
        advance(done)
        trainer = ProtectedSFT(
            model=model,
            args=arguments,
            train_dataset=prepared.dataset,
            data_collator=Collator(tokenizer.pad_token_id),
            processing_class=tokenizer,
            callbacks=[_Show(advance), MarkWhole()],
            protections=active,
        )
        trainer.remove_callback(PrinterCallback)  # the log goes to a file, the bar to the terminal
        try:
            with disk_errors_of_weights(work):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except NacreError:
            remove_torn(work)  # a full disk needs the space
            raise
    return list(trainer.state.log_history)


def _check_finite(model: Any, settings: Train) -> None:
    if all(bool(weight.isfinite().all()) for weight in model.parameters() if weight.requires_grad):
        return
    raise NacreError(
        "training diverged: some weights are no finite numbers",
        where=f"learning_rate {settings.learning_rate:g}",
        fix="lower the learning rate",
    )


def _save(folder: Path, model: Any, tokenizer: Any, history: list[dict[str, Any]]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    with disk_errors_of_weights(folder), staged_folder(folder) as staging:
        only = {"selected_adapters": ["default"]} if isinstance(model, PeftModel) else {}
        model.save_pretrained(str(staging), **only)
        tokenizer.save_pretrained(str(staging))
        steps = [entry for entry in history if "loss" in entry]
        (staging / "trainer_log.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in steps))
    return folder
