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
from nacre.base.files import staged_folder
from nacre.base.hashing import content_hash
from nacre.cycle.workspace import local_folder
from nacre.data.all_dev import read_dev_all, write_dev_all
from nacre.data.rows import read_rows, write_rows
from nacre.data.snapshot import take_snapshot
from nacre.evaluate.score import score
from nacre.model.environment import environment
from nacre.model.load import load_model, load_tokenizer, positions
from nacre.records import Example, Lineage, Manifest, Recipe, Report, TaskSettings, Weights
from nacre.records.manifest import MANIFEST
from nacre.registry.fingerprint import fingerprint
from nacre.train.plot import plot_loss
from nacre.train.run import Job, Trained, train

DEV_ALL = "dev_all.json"


@dataclass(frozen=True)
class FolderJob:
    """One training run from folder to folder.

    Attributes:
        model: where training starts: model folder, adapter folder or hub name.
        previous: the version to keep the abilities of; its lineage says which rows may be replayed.
        max_samples: train on at most this many rows.
        overwrite: replace what `output` holds.
    """

    model: str
    dataset: str
    dataset_dir: Path
    output: Path
    recipe: Recipe
    previous: str | None = None
    max_samples: int | None = None
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
    cache = folder.parent / ".nacre" / "fingerprints.json"
    adapter = folder / "adapter_config.json"
    if not adapter.exists():
        return Weights(identity=fingerprint(folder, cache), model=str(folder))
    base = str(json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path", ""))
    below = local_folder(base, folder)
    identity = content_hash([fingerprint(folder, cache), fingerprint(below, cache)])
    return Weights(identity=identity, model=str(below), adapter=folder)


def read_manifest(folder: str | Path) -> Manifest | None:
    """The lineage record of a folder, if nacre made it."""
    path = Path(folder) / MANIFEST
    return Manifest.from_json(path.read_text(encoding="utf-8")) if path.exists() else None


def train_folder(job: FolderJob) -> FolderResult:
    """Train one increment and write a Hugging Face folder with its lineage, and `dev_all.json`.

    Raises:
        InputError: data, model or settings are wrong, or `output` holds something else; nothing was trained.
    """
    start = folder_weights(job.model)
    before = folder_weights(job.previous) if job.previous else None
    memory = job.output.resolve().parent / ".nacre" / "memory"
    inherited = read_manifest((before or start).folder)
    notes: list[str] = []
    lineage = _inherit(inherited, Path((before or start).folder), memory, notes)
    snapshot = take_snapshot(
        job.dataset,
        job.dataset_dir,
        memory,
        max_samples=job.max_samples,
        history=tuple(entry.dev for entry in lineage if entry.dev),
        stage=job.recipe.train.stage,
    )
    key = content_hash(
        [snapshot.data_hash, start.identity, before.identity if before else "", job.recipe.model_dump(mode="json")]
    )
    if _already_there(job, key):
        return FolderResult(job.output, None, (f"nothing to do: {job.output} was trained on exactly this",))
    if lineage and before is None:
        learned = ", ".join(dict.fromkeys(entry.task for entry in lineage))
        notes.append(f"{job.model} has learned {learned}: --prev_model {job.model} would protect that")
    if before is not None and not lineage:
        notes.append(f"{job.previous} has no lineage record: there are no earlier rows to replay")
    trained = train(
        Job(
            start=start,
            previous=before,
            recipe=job.recipe,
            new=read_rows(memory, snapshot.train),
            work=memory.parent / "runs" / key[:16],
            shared=memory,
            memory=_rows_by_task(lineage, memory) if before is not None else {},
        )
    )
    new = Lineage(task=snapshot.task, train=snapshot.train, dev=snapshot.dev)
    manifest = Manifest(
        kind="adapter" if trained.kind == "adapter" else "full",
        base=inherited.base if inherited else job.model,
        base_sha256=inherited.base_sha256 if inherited else start.identity,
        parent=str((before or start).folder),
        needs=start.model if trained.kind == "adapter" else "",
        recipe=trained.recipe,
        environment=environment(),
        lineage=(*lineage, new),
        memory="../.nacre/memory",
        nacre=__version__,
        key=key,
    )
    _write_output(job, trained, manifest)
    shutil.rmtree(trained.folder.parent, ignore_errors=True)
    write_dev_all(job.dataset_dir / DEV_ALL, _devs(manifest.lineage, memory))
    notes.append(
        f"the dev rows of {len({entry.task for entry in manifest.lineage})} task(s) are in {job.dataset_dir / DEV_ALL}"
    )
    return FolderResult(job.output, trained, (*snapshot.notes, *notes, *trained.notes))


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


def newest_task(model: str) -> str | None:
    """The task that a folder learned last, if its lineage is known."""
    manifest = read_manifest(folder_weights(model).folder)
    return manifest.lineage[-1].task if manifest and manifest.lineage else None


def _find_dev(eval_dataset: str, dataset_dir: Path, weights: Weights) -> Path:
    for path in (Path(eval_dataset), dataset_dir / eval_dataset, dataset_dir / eval_dataset / "dev.json"):
        if path.is_file():
            return path
    manifest = read_manifest(weights.folder)
    if Path(eval_dataset).name == DEV_ALL and manifest and manifest.lineage:
        path = dataset_dir / DEV_ALL
        write_dev_all(path, _devs(manifest.lineage, Path(weights.folder) / manifest.memory))
        return path
    raise InputError(
        "the evaluation file does not exist",
        where=f"{eval_dataset}, {dataset_dir / eval_dataset}",
        fix="name a file with dev rows; dev_all.json is made by training with nacre",
    )


def _inherit(manifest: Manifest | None, folder: Path, memory: Path, notes: list[str]) -> tuple[Lineage, ...]:
    """The earlier increments, with their rows copied into this output's memory when they lie elsewhere."""
    if manifest is None:
        return ()
    theirs = (folder / manifest.memory).resolve()
    if theirs != memory.resolve():
        for entry in manifest.lineage:
            for file in filter(None, (entry.train, entry.dev)):
                write_rows(memory, read_rows(theirs, file))
        notes.append(f"rows of earlier increments were copied from {theirs}")
    return manifest.lineage


def _rows_by_task(lineage: tuple[Lineage, ...], memory: Path) -> dict[str, list[Example]]:
    rows: dict[str, dict[str, Example]] = {}
    for entry in lineage:
        rows.setdefault(entry.task, {}).update({row.content_id: row for row in read_rows(memory, entry.train)})
    return {task: list(found.values()) for task, found in rows.items()}


def _devs(lineage: tuple[Lineage, ...], memory: Path) -> Mapping[str, list[Example]]:
    newest = {entry.task: entry.dev for entry in lineage if entry.dev is not None}
    return {task: read_rows(memory, file) for task, file in newest.items()}


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


def _write_output(job: FolderJob, trained: Trained, manifest: Manifest) -> None:
    if job.output.exists() and job.overwrite:
        shutil.rmtree(job.output)
    with staged_folder(job.output) as staging:
        shutil.copytree(trained.folder, staging, dirs_exist_ok=True)
        (staging / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        results = {"train_loss": trained.final_loss, "train_runtime": trained.seconds, "steps": trained.steps}
        (staging / "all_results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        if job.plot:
            plot_loss(staging / "trainer_log.jsonl", staging / "training_loss.png")
