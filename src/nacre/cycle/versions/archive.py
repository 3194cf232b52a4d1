"""A version as one file: out of a workspace, and into another one that has the same base model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from nacre import __version__
from nacre.base.clock import now
from nacre.base.errors import InputError
from nacre.base.files import file_lock, staged_folder
from nacre.base.hashing import canonical_json, content_hash, sha256_file, sha256_text
from nacre.cycle.lineage import ancestry, as_lineage, tasks_of
from nacre.cycle.reports.card import CARD, model_card
from nacre.cycle.workspace import Workspace
from nacre.data.pictures import picture_path, pictures_of
from nacre.data.rows import rows_path, write_rows
from nacre.records import Lineage, Report, RowsFile, Snapshot, Verdict, Version
from nacre.registry.archive import unpacked, write_archive
from nacre.registry.fingerprint import KINDS
from nacre.registry.store import UNSAFE


@dataclass(frozen=True)
class Moved:
    """What was exported or imported, and what to know about it."""

    version: Version
    bytes: int
    notes: tuple[str, ...] = ()


def export_version(
    workspace: Workspace, number: int, target: Path, *, with_rows: bool = False, with_base: bool = False
) -> Moved:
    """Write a version with all that is needed to serve it, its records and its model card into one archive.

    Args:
        target: ends in .tar, .tar.gz, .tar.xz, .tar.bz2, or .tar.zst where Python can write it.
        with_rows: also the rows that it may replay and is judged by; without them, no proof can be made elsewhere.
        with_base: also the base model.

    Raises:
        InputError: no such version, the file exists, or its name ends in no known packing.
        NacreError: the weights were collected, or are missing or damaged.
    """
    ledger = workspace.ledger
    ledger.verify_version(number)
    version, line = ledger.version(number), ancestry(workspace, number)
    files: dict[str, Path] = {}
    for sha in filter(None, (version.artifact, version.needs)):
        files |= _folder(workspace.store.path(sha), f"artifacts/{sha}")
    lineage = as_lineage(tasks_of(line))
    rows = sorted({file.sha256 for one in lineage for file in (one.train, one.dev) if file})
    rows += [version.snapshot.train.sha256] if version.snapshot.train.sha256 not in rows else []
    if with_rows:
        paths = {sha: rows_path(workspace.memory, sha) for sha in rows}
        paths = {sha: path for sha, path in paths.items() if path.is_file()}
        files |= {f"rows/{sha}.jsonl": path for sha, path in paths.items()}
        pictures = {name for path in paths.values() for name in pictures_of(path)}
        kept = {name: picture_path(workspace.memory, name) for name in pictures}
        files |= {f"images/{name}": path for name, path in kept.items() if path.is_file()}
    if with_base:
        base = Path(workspace.base.model)
        files |= {f"base/{path.name}": path for path in sorted(base.iterdir()) if path.suffix in KINDS}
    verdict, against = ledger.verdict(number), ledger.judged_against(number)
    told = {
        "nacre": __version__,
        "written": now(),
        "version": version.model_dump(mode="json"),
        "lineage": [one.model_dump(mode="json") for one in lineage],
        "reports": [report.model_dump(mode="json") for report in ledger.reports(weights=version.artifact)],
        "verdict": verdict.model_dump(mode="json") if verdict else None,
        "against": ledger.version(against).artifact if against else "",
    }
    with TemporaryDirectory() as beside:
        card = Path(beside) / CARD
        card.write_text(model_card(workspace, number), encoding="utf-8")
        write_archive(target, told, files | {CARD: card})
    notes = [] if with_rows else ["without its rows: --with-rows lets others judge it and train on without forgetting"]
    return Moved(version, target.stat().st_size, tuple(notes))


def import_version(workspace: Workspace, source: Path, *, base_to: Path | None = None, actor: str = "user") -> Moved:
    """Register the version that an archive holds, under the next number; it stands in no slot.

    The scores and the verdict that the archive tells of are kept in the event `imported`, for people to read. They
    count nowhere: whoever made the archive could have written anything, so that it is scored and judged here.

    Args:
        base_to: put the base model that the archive holds into this folder first.

    Raises:
        InputError: the archive was changed, is not whole, or holds anything but what it lists; the version comes from
            another base model, or is here already. Nothing was imported.
        NacreError: another command is at work in this workspace, or the disk is full.
    """
    with (
        file_lock(workspace.hidden / "evolve.lock", wait=False),
        unpacked(source, workspace.hidden) as (told, files),
    ):
        version, lineage, reports, verdict = _records(source, told)
        _check_hashes(source, version, files)
        digest = sha256_file(source)
        _refuse_known(workspace, source, digest)
        named = (workspace.root / Path(workspace.settings.model).expanduser()).resolve()
        if base_to is None or named != base_to.resolve():
            workspace.check_base(version)  # before anything is written
        if base_to is not None:
            _unpack_base(source, version, files, base_to)
            workspace.check_base(version)
        origin = {
            "version": str(version.number),
            "archive": source.name,
            "sha256": digest,
            "snapshot": version.snapshot.digest,
            "created": version.created,
        }
        notes, snapshot, inherited = _rows(workspace, version, lineage, files)
        for sha in filter(None, (version.needs, version.artifact)):
            _publish(workspace, sha, files)
        dropped = {"number", "created", "schema_version", "parents", "snapshot", "inherited", "origin"}
        scores = {report.task: report.mean for report in reports if not report.aside}
        added = workspace.ledger.add_version(
            **version.model_dump(exclude=dropped),
            snapshot=snapshot,
            inherited=inherited,
            origin=origin,
            actor=actor,
            imported={"origin": origin, "verdict": told["verdict"], "scores": scores},
        )
        notes += _unproved(added, verdict, scores)
    return Moved(added, source.stat().st_size, tuple(notes))


def _folder(folder: Path, name: str) -> dict[str, Path]:
    return {f"{name}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*") if path.is_file()}


def _records(
    source: Path, told: Mapping[str, Any]
) -> tuple[Version, tuple[Lineage, ...], list[Report], Verdict | None]:
    try:
        version = Version.model_validate(told["version"])
        lineage = tuple(Lineage.model_validate(one) for one in told["lineage"])
        reports = [Report.model_validate(one) for one in told["reports"]]
        verdict = Verdict.model_validate(told["verdict"]) if told["verdict"] else None
    except (ValidationError, KeyError, TypeError):
        raise InputError(
            "the archive's records cannot be read; nothing was imported",
            where=str(source),
            fix="use the nacre that wrote it, or a newer one",
        ) from None

    if foreign := [report.task for report in reports if report.weights != version.artifact]:
        raise _refused(source, f"its report on {foreign[0]} is about other weights than it holds")
    return version, lineage, reports, verdict


def _refuse_known(workspace: Workspace, source: Path, digest: str) -> None:
    """The same archive is no second version, unless the first one's weights were collected."""
    for one in workspace.ledger.versions():
        if one.origin.get("sha256") == digest and workspace.store.has(one.artifact):
            what = f"it was imported already, as version {one.number}"
            raise InputError(what, where=str(source), fix=f"see nacre versions show {one.number}")


def _check_hashes(source: Path, version: Version, files: Mapping[str, Path]) -> None:
    """Whether the weights are those that the record names, and nothing in them can run code."""
    for sha in filter(None, (version.artifact, version.needs)):
        prefix = f"artifacts/{sha}/"
        held = {name.removeprefix(prefix): path for name, path in files.items() if name.startswith(prefix)}
        listed = {name: sha256_file(path) for name, path in sorted(held.items())}
        if sha256_text(canonical_json(listed)) != sha:
            raise _refused(source, f"the files of artifact {sha[:12]} are not those that the record names")
    for name, path in files.items():
        if path.suffix.lower() in UNSAFE:
            raise _refused(source, f"{name} can run code when it is loaded")
        if name.startswith(("rows/", "images/")) and path.stem != sha256_file(path):
            raise _refused(source, f"{name} does not have the hash it is named by")


def _unpack_base(source: Path, version: Version, files: Mapping[str, Path], target: Path) -> None:
    found = {name.removeprefix("base/"): path for name, path in files.items() if name.startswith("base/")}
    if not found:
        raise _refused(source, "it does not hold the base model (export it with --with-base)")
    if content_hash({name: sha256_file(path) for name, path in found.items()}) != version.base_sha256:
        raise _refused(source, "its base model is not the one that the version was made from")
    if target.exists():
        raise InputError("the folder for the base model exists", where=str(target), fix="choose another one")
    with staged_folder(target) as staging:
        for name, path in found.items():
            (staging / name).write_bytes(path.read_bytes())


def _rows(
    workspace: Workspace, version: Version, lineage: Iterable[Lineage], files: Mapping[str, Path]
) -> tuple[list[str], Snapshot, tuple[Lineage, ...]]:
    """Put the rows into the memory; what is told of rows that are nowhere becomes what is true here."""
    for name, path in files.items():
        if name.startswith("rows/"):
            target = rows_path(workspace.memory, path.stem)
        elif name.startswith("images/"):
            target = picture_path(workspace.memory, path.name)
        else:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    nothing = write_rows(workspace.memory, ())

    def here(file: RowsFile | None) -> bool:
        return file is not None and rows_path(workspace.memory, file.sha256).is_file()

    told = version.snapshot
    absent = []
    inherited = []
    for one in lineage:
        if not here(one.train) or (one.dev and not here(one.dev)):
            absent.append(one.task)
        if (one.task, one.train) == (told.task, told.replayable):
            continue  # its own
        train, dev = one.train if here(one.train) else nothing, one.dev if here(one.dev) else None
        inherited.append(Lineage(task=one.task, train=train, dev=dev))
    kept = told.kept if here(told.kept) else None if here(told.train) and not told.kept else nothing
    snapshot = told.changed(kept=kept, dev=told.dev if here(told.dev) else None)
    names = ", ".join(dict.fromkeys(absent))
    notes = [f"{names}: without rows, so it cannot be judged or replayed here (export with --with-rows)"]
    return notes if absent else [], snapshot, tuple(inherited)


def _publish(workspace: Workspace, sha: str, files: Mapping[str, Path]) -> None:
    if workspace.store.has(sha):
        workspace.store.verify(sha)
        return
    prefix = f"artifacts/{sha}/"

    def fill(staging: Path) -> None:
        for name, path in files.items():
            if name.startswith(prefix):
                target = staging / name.removeprefix(prefix)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)

    published = workspace.store.publish(fill)
    assert published == sha, "hashes were compared before"


def _unproved(added: Version, verdict: Verdict | None, scores: Mapping[str, float]) -> list[str]:
    """What was told of it and counts nowhere, and what makes a proof of it here."""
    told = ", ".join(f"{task} {score:.3f}" for task, score in scores.items())
    judge = f"nacre versions judge {added.number} scores and judges it"
    word = f"its verdict there was {verdict.outcome}" if verdict else "it was never judged there"
    scored = f", its scores there were {told}" if told else ""
    return [f"{word}{scored}; none of that counts here: {judge}"]


def _refused(source: Path, reason: str) -> InputError:
    return InputError(f"{reason}; nothing was imported", where=str(source), fix="export the version again")
