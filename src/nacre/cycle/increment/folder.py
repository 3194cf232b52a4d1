"""Training and scoring plain folders, without a ledger: what the articles' scripts and `nacre train` do.

A folder made here carries its lineage in `nacre.json`; the rows themselves lie beside it, in
`.nacre/memory` of the folder's parent, so that a model can be shared without its training data.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nacre import __version__
from nacre.base.errors import InputError
from nacre.base.files import disk_errors, file_lock, staged_folder
from nacre.base.hashing import content_hash
from nacre.cycle.increment.dev_all import DEV_ALL, extend_dev_all
from nacre.cycle.reports.card import CARD, folder_card
from nacre.cycle.workspace import fingerprint_anew, local_folder
from nacre.data.all_dev import read_dev_all, write_dev_all
from nacre.data.rows import read_rows, rows_path, write_rows
from nacre.data.snapshot import take_snapshot
from nacre.evaluate.score import score
from nacre.model.environment import environment
from nacre.model.load import load_model, load_tokenizer, positions
from nacre.records import Example, Lineage, Manifest, Recipe, Report, TaskSettings, Weights
from nacre.records.manifest import MANIFEST
from nacre.records.weights import ENSEMBLE, ROUTER
from nacre.registry.fingerprint import fingerprint
from nacre.train.diagnose import in_arguments
from nacre.train.log import write_results
from nacre.train.plot import plot_losses
from nacre.train.run import Job, Trained, train


@dataclass(frozen=True)
class FolderJob:
    """One training run from folder to folder.

    Attributes:
        model: where training starts: model folder, adapter folder or hub name.
        previous: the version to keep the abilities of; its lineage says which rows may be replayed.
        max_samples: train on at most this many rows.
        drop_budget: the largest share of rows, from 0 to 1, that may be unusable.
        held_out: share or number of rows that are not trained on, where the dataset brings no dev rows, or the name
            of datasets that are held out instead; None: a tenth.
        watch: whether the loss on held-out rows is looked at while training.
        overwrite: replace what `output` holds.
    """

    model: str
    dataset: str
    dataset_dir: Path
    output: Path
    recipe: Recipe
    previous: str | None = None
    max_samples: int | None = None
    drop_budget: float = 0.01
    held_out: float | str | None = None
    watch: bool = False
    plot: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class FolderResult:
    """What was written where, in sentences in `notes`; `trained` is False when it was there already."""

    output: Path
    trained: Trained | None
    notes: tuple[str, ...]


def folder_weights(model: str) -> Weights:
    """Weights of a model folder or an adapter folder (then with the base that its configuration names).

    Raises:
        InputError: no such folder, or the adapter's base is gone.
    """
    folder = local_folder(model, Path.cwd())
    adapter = folder / "adapter_config.json"
    if (folder / ROUTER).exists() or (folder / ENSEMBLE).exists():
        adapter = min(folder.glob("*/adapter_config.json"), default=adapter)  # they all sit on the same base
    if not adapter.exists():
        return Weights(identity=_identity(folder), model=str(folder))
    try:
        base = str(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError):
        fix = "restore the adapter folder: base_model_name_or_path must name its base"
        raise InputError("the adapter's configuration cannot be read", where=str(adapter), fix=fix) from None
    below = local_folder(base, folder)
    return Weights(identity=content_hash([_identity(folder), _identity(below)]), model=str(below), adapter=folder)


def _identity(folder: Path) -> str:
    """The folder's fingerprint, remembered only where nacre keeps files already: a model's place may be read-only."""
    kept = folder.parent / ".nacre"
    return fingerprint(folder, kept / "fingerprints.json") if kept.is_dir() else fingerprint_anew(folder)


def read_manifest(folder: str | Path) -> Manifest | None:
    """The lineage record of a folder, if nacre made it."""
    path = Path(folder) / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        reason = str(error).splitlines()[0]
        fix = "restore it, or delete it: the folder then counts as one without lineage"
        raise InputError(f"the lineage record cannot be read: {reason}", where=str(path), fix=fix) from None


def train_folder(job: FolderJob) -> FolderResult:
    """Train one increment and write a Hugging Face folder with its lineage, and `dev_all.json`.

    Raises:
        InputError: data, model or settings are wrong, or `output` holds something else; nothing was trained.
        NacreError: the same run is under way, or the disk is full; what `output` held before is still there.
    """
    start = folder_weights(job.model)
    before = folder_weights(job.previous) if job.previous else None
    memory = job.output.resolve().parent / ".nacre" / "memory"
    notes: list[str] = []
    lineage = _inherit((before or start).folder, memory, notes)
    snapshot = take_snapshot(
        job.dataset,
        job.dataset_dir,
        memory,
        max_samples=job.max_samples,
        drop_budget=job.drop_budget,
        dev_share=0.1 if job.held_out is None else job.held_out,
        history=tuple(entry.dev for entry in lineage if entry.dev),
        stage=job.recipe.train.stage,
    )
    recipe = job.recipe.alone.model_dump(mode="json")
    key = content_hash([snapshot.data_hash, start.identity, before.identity if before else "", recipe])
    if _already_there(job, key):
        note = f"nothing to do: {job.output} was trained on exactly this; --overwrite_output_dir trains it anew"
        return FolderResult(job.output, None, (note,))
    notes += _unprotected(job, lineage)
    run = memory.parent / "runs" / key[:16]
    lock = run.with_suffix(".lock")
    with file_lock(lock, wait=False):
        trained = train(
            Job(
                start=start,
                previous=before,
                recipe=job.recipe,
                new=read_rows(memory, snapshot.train),
                dev=read_rows(memory, snapshot.dev) if job.watch and snapshot.dev else (),
                task=snapshot.task,
                work=run,
                shared=memory,
                memory=_rows_by_task(lineage, memory) if before is not None else {},
                learned=bool(lineage),
            )
        )
        new = Lineage(task=snapshot.task, train=snapshot.train, dev=snapshot.dev)
        manifest = _manifest(job, start, before, trained).changed(lineage=(*lineage, new), key=key)
        _write_output(job, trained, manifest, memory)
        shutil.rmtree(run, ignore_errors=True)
        lock.unlink(missing_ok=True)
    notes += [f"finding: {in_arguments(one, job.recipe.tune.name)}" for one in trained.findings]
    notes += filter(None, [extend_dev_all(job.dataset_dir, _devs(manifest.lineage, memory))])
    return FolderResult(job.output, trained, (*snapshot.notes, *notes, *trained.notes))


def _manifest(job: FolderJob, start: Weights, before: Weights | None, trained: Trained) -> Manifest:
    """How the output came to be, its rows still left out."""
    inherited = read_manifest((before or start).folder)
    return Manifest(
        kind="adapter" if trained.kind == "adapter" else "full",
        base=inherited.base if inherited else job.model,
        base_sha256=inherited.base_sha256 if inherited else start.identity,
        parent=str((before or start).folder),
        needs=start.model if trained.kind == "adapter" else "",
        recipe=trained.recipe,
        environment=environment(),
        memory="../.nacre/memory",
        nacre=__version__,
    )


def evaluate_folder(model: str, eval_dataset: str, dataset_dir: Path) -> dict[str, Report]:
    """Score a folder on every task of `eval_dataset`; tasks come in the file's order.

    `dev_all.json` is looked for as given, then in `dataset_dir`; one that is not there yet is made from the
    model's lineage.

    Raises:
        InputError: the file is nowhere, or the model is none.
    """
    weights = folder_weights(model)
    tasks = read_dev_all(_find_dev(eval_dataset, dataset_dir, weights))
    tokenizer, loaded = load_tokenizer(weights), load_model(weights)
    max_length = min(1024, positions(weights) or 1024)
    return {
        task: score(
            weights,
            task,
            content_hash([row.content_id for row in rows]),
            rows,
            TaskSettings(),
            model=loaded,
            tokenizer=tokenizer,
            max_length=max_length,
        )
        for task, rows in tasks.items()
    }


def learned_tasks(model: str) -> list[str]:
    """The tasks that a folder has learned, the newest last; empty when its lineage is not known."""
    manifest = read_manifest(folder_weights(model).folder)
    tasks = [entry.task for entry in manifest.lineage] if manifest else []
    return list(dict.fromkeys(reversed(tasks)))[::-1]


def _find_dev(eval_dataset: str, dataset_dir: Path, weights: Weights) -> Path:
    for path in (Path(eval_dataset), dataset_dir / eval_dataset, dataset_dir / eval_dataset / "dev.json"):
        if path.is_file():
            return path
    manifest = read_manifest(weights.folder)
    if Path(eval_dataset).name == DEV_ALL and manifest and manifest.lineage:
        path = dataset_dir / DEV_ALL
        write_dev_all(path, _devs(manifest.lineage, Path(weights.folder) / (manifest.memory or "../../memory")))
        return path
    raise InputError(
        "the evaluation file does not exist",
        where=f"{eval_dataset}, {dataset_dir / eval_dataset}",
        fix="name a file with dev rows; dev_all.json is made by training with nacre",
    )


def _inherit(folder: str, memory: Path, notes: list[str]) -> tuple[Lineage, ...]:
    """The earlier increments, with their rows copied into this output's memory when they lie elsewhere."""
    manifest = read_manifest(folder)
    if manifest is None or not manifest.lineage:
        return ()
    # an artifact of a workspace says nothing, and lies in .nacre/artifacts beside .nacre/memory
    theirs = (Path(folder) / (manifest.memory or "../../memory")).resolve()
    files = [file for entry in manifest.lineage for file in (entry.train, entry.dev) if file]
    if not all(rows_path(theirs, file.sha256).is_file() for file in files):
        tasks = ", ".join(dict.fromkeys(entry.task for entry in manifest.lineage))
        notes.append(f"the rows of {tasks} are not in {theirs}: they can be neither replayed nor scored")
        return ()
    if theirs != memory.resolve():
        for file in files:
            write_rows(memory, read_rows(theirs, file))
        notes.append(f"rows of earlier increments were copied from {theirs}")
    return manifest.lineage


def _rows_by_task(lineage: tuple[Lineage, ...], memory: Path) -> dict[str, list[Example]]:
    rows: dict[str, dict[str, Example]] = {}
    held_out = {row.content_id for dev in _devs(lineage, memory).values() for row in dev}
    for entry in lineage:
        kept = (row for row in read_rows(memory, entry.train) if row.content_id not in held_out)
        rows.setdefault(entry.task, {}).update({row.content_id: row for row in kept})
    return {task: list(found.values()) for task, found in rows.items()}


def _devs(lineage: tuple[Lineage, ...], memory: Path) -> Mapping[str, list[Example]]:
    newest = {entry.task: entry.dev for entry in lineage if entry.dev is not None}
    return {task: read_rows(memory, file) for task, file in newest.items()}


def _unprotected(job: FolderJob, lineage: tuple[Lineage, ...]) -> list[str]:
    """What the user should know about old abilities before they are trained over."""
    if lineage and job.previous is None:
        learned = ", ".join(dict.fromkeys(entry.task for entry in lineage))
        return [f"{job.model} has learned {learned}: --prev_model {job.model} would protect that"]
    if job.previous is not None and not lineage:
        return [f"{job.previous} has no lineage record: there are no earlier rows to replay"]
    return []


def _already_there(job: FolderJob, key: str) -> bool:
    """Whether the output is this very run's; anything else in it is only replaced on request."""
    if not job.output.exists() or not any(job.output.iterdir()) or job.overwrite:
        return False
    manifest = read_manifest(job.output)
    if manifest is not None and manifest.key == key:
        return True
    raise InputError(
        "the output folder holds something else: other data, another starting point or other settings",
        where=str(job.output),
        fix="choose another --output_dir, or replace it with --overwrite_output_dir",
    )


def _write_output(job: FolderJob, trained: Trained, manifest: Manifest, memory: Path) -> None:
    """Write the folder beside its place, then move it there: what was there before is whole until then."""
    fresh, old = (job.output.with_name(f".{job.output.name}.{state}") for state in ("fresh", "old"))
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    with staged_folder(fresh) as staging:
        shutil.copytree(trained.folder, staging, dirs_exist_ok=True)
        (staging / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        card = folder_card(job.output.resolve().name, manifest, memory, _facts(trained))
        (staging / CARD).write_text(card, encoding="utf-8")
        write_results(staging, trained.steps, trained.seconds, trained.final_loss)
        if job.plot:
            plot_losses(staging)
    with disk_errors(job.output):
        if job.output.exists():
            job.output.rename(old)
        fresh.rename(job.output)
        shutil.rmtree(old, ignore_errors=True)


def _facts(trained: Trained) -> dict[str, str]:
    """What the card says of a training."""
    drift = {} if trained.drift is None else {"drift": f"{trained.drift:.3g} nats per token from where it started"}
    return {
        "training": f"{trained.seconds:.0f} s, {trained.steps:,} optimizer steps",
        "last training loss": f"{trained.final_loss:.4g}",
        **drift,
    }
