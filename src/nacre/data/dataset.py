"""Datasets by name: where their files lie, and their rows."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

from nacre.base.errors import InputError, unknown
from nacre.data.convert import read_examples
from nacre.data.dataset_info import DATASET_INFO, Entry, entry, read_info, resample
from nacre.records import Dropped, Example

Split = Literal["train", "dev"]

_PLAIN_ENDINGS = (".json", ".jsonl", ".txt", ".csv", ".tsv", ".parquet")
ENDINGS = (*_PLAIN_ENDINGS, *(f"{ending}.gz" for ending in _PLAIN_ENDINGS if ending != ".parquet"))


@dataclass(frozen=True)
class DatasetFiles:
    """The files of one dataset.

    Attributes:
        name: the name it was asked for by; `task` the name its skill is known by.
        train, dev: files of either split; `dev` is empty when the dataset brings none.
        entry: its description in `dataset_info.json`, if it has one.
    """

    name: str
    task: str
    train: tuple[Path, ...]
    dev: tuple[Path, ...] = ()
    entry: Entry | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Loaded:
    """Rows of one split of one or more datasets, in the order of names, files and lines."""

    examples: list[Example] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """Rows read, usable or not."""
        return sum(self.formats.values()) + len(self.dropped)

    def add(self, other: "Loaded") -> None:
        """Put the rows of `other` after these."""
        self.examples += other.examples
        self.dropped += other.dropped
        self.sources |= other.sources
        self.notes += other.notes
        self.formats += other.formats
        self.encodings += other.encodings


def split_names(name: str) -> list[str]:
    """The single names in ``"a,b"``.

    Raises:
        InputError: there is none.
    """
    names = [part.strip() for part in name.split(",") if part.strip()]
    if not names:
        raise InputError("no dataset is named", where=f"dataset {name!r}", fix="give a name, or several with commas")
    return names


def task_name(name: str, dataset_dir: Path) -> str:
    """The name of the skill in these datasets: their tasks joined by ``+``."""
    return "+".join(resolve(part, dataset_dir).task for part in split_names(name))


def resolve(name: str, dataset_dir: Path) -> DatasetFiles:
    """Find the files of one dataset.

    In this order: an entry of ``dataset_dir/dataset_info.json``; the folder ``dataset_dir/NAME`` with
    train.json and perhaps dev.json (or another of `ENDINGS`); the file ``dataset_dir/NAME.json``; a path.

    Raises:
        InputError: there is no such dataset; the message has the nearest name and all there are.
    """
    info = read_info(dataset_dir)
    if name in info:
        return _described(name, entry(info, name, dataset_dir), dataset_dir)
    folder, file = dataset_dir / name, _one(dataset_dir, name)
    if folder.is_dir() and (_has_train(folder) or file is None):
        return _folder(name, folder)
    if file is not None:
        return DatasetFiles(name, _task_of(file) if "/" in name else _plain(name), (file,))
    return at_path(Path(name)) or _refuse(name, dataset_dir, info)


def at_path(path: Path) -> DatasetFiles | None:
    """The dataset that a file, or a folder with a train file, is; None where nothing is.

    Raises:
        InputError: the folder has no train file.
    """
    if path.is_dir():
        return _folder(str(path), path)
    return DatasetFiles(str(path), _task_of(path), (path,)) if path.is_file() else None


def dev_file(folder: Path) -> Path | None:
    """The file of dev rows in a dataset's folder; None where there is none, or no such folder."""
    return _one(folder, "dev")


def load(name: str, dataset_dir: Path, split: Split, *, max_samples: int | None = None) -> Loaded:
    """Read one split of a dataset, or of several whose names are separated by commas.

    Args:
        name: see `resolve`.
        dataset_dir: the folder that datasets are looked for in.
        split: train never holds a row of dev's files; dev is empty where the dataset brings none.
        max_samples: use at most so many rows of each dataset, the first ones.

    Raises:
        InputError: a dataset is unknown, or one of its files as a whole cannot be used.
    """
    loaded = Loaded()
    for part in split_names(name):
        loaded.add(load_split(resolve(part, dataset_dir), split, max_samples=max_samples))
    return loaded


def load_split(files: DatasetFiles, split: Split, *, max_samples: int | None = None) -> Loaded:
    """Read one split of one dataset; see `load`."""
    loaded = Loaded(notes=list(files.notes) if split == "train" else [])
    for path in files.train if split == "train" else files.dev:
        file = read_examples(path, task=files.task, entry=files.entry)
        loaded.add(
            Loaded(file.examples, file.dropped, {str(path): file.sha256}, file.notes, file.formats, file.encodings)
        )
    count = files.entry.num_samples if files.entry and split == "train" else None
    if count is not None:
        loaded.notes.append(f"{files.name}: {count} rows drawn from {len(loaded.examples)}, as num_samples says")
        loaded.examples = resample(loaded.examples, count)
    if max_samples is not None and len(loaded.examples) > max_samples:
        of = f"{len(loaded.examples)} {split} rows"
        loaded.notes.append(f"{files.name}: the first {max_samples} of {of} are used (max_samples)")
        loaded.examples = loaded.examples[:max_samples]
    return loaded


def _described(name: str, found: Entry, dataset_dir: Path) -> DatasetFiles:
    """The files of an entry. Unlike in LlamaFactory, a folder's dev file is never trained on."""
    path = found.local(dataset_dir, name)
    if path.is_file():
        beside = _one(path.parent, "dev") if _plain(path.name) == "train" else None
        return DatasetFiles(name, _plain(name), (path,), (beside,) if beside else (), found)
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    train = tuple(file for file in files if _plain(file.name) != "dev")
    where = str(path)
    if not train:
        raise InputError(f"the folder of dataset '{name}' has no files to train on", where=where, fix="add train.json")
    if len({file.suffix for file in train}) > 1:
        kinds = ", ".join(sorted({file.suffix or "none" for file in train}))
        fix = "keep files of one kind in it, or name one file"
        raise InputError(f"the files of dataset '{name}' have different endings: {kinds}", where=where, fix=fix)
    dev = tuple(file for file in files if _plain(file.name) == "dev")
    notes = (f"{path}: {', '.join(file.name for file in dev)} is kept for evaluation",) if dev else ()
    return DatasetFiles(name, _plain(name), train, dev, found, notes)


def _folder(name: str, folder: Path) -> DatasetFiles:
    train, dev = _one(folder, "train"), _one(folder, "dev")
    if train is None:
        there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        fix = f"put train.json (and dev.json) into it; there is: {there}"
        raise InputError(f"the folder of dataset '{name}' has no train.json", where=str(folder), fix=fix)
    return DatasetFiles(name, folder.resolve().name, (train,), (dev,) if dev else ())


def _one(folder: Path, stem: str) -> Path | None:
    """The one data file of this name; `stem` may itself carry the ending."""
    found = [folder / f"{stem}{ending}" for ending in ENDINGS if (folder / f"{stem}{ending}").is_file()]
    if stem.endswith(ENDINGS) and (folder / stem).is_file():
        found.append(folder / stem)
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(f"it is not clear which file is meant: {names}", where=str(folder), fix="delete all but one")
    return found[0] if found else None


def _plain(name: str) -> str:
    """A name without its ending."""
    ending = max((ending for ending in ENDINGS if name.endswith(ending)), key=len, default="")
    return Path(name.removesuffix(ending)).name if ending else name


def _task_of(path: Path) -> str:
    """The task of a file: its own name, or its folder's where the file is only called train or dev."""
    absolute, name = path.resolve(), _plain(path.name)
    name = Path(name).stem if name == path.name else name
    return absolute.parent.name if name in ("train", "dev") else name


def _refuse(name: str, dataset_dir: Path, info: Iterable[str]) -> NoReturn:
    if not dataset_dir.is_dir():
        fix = "check the path, or name the folder that holds your datasets"
        raise InputError(f"no dataset '{name}': the dataset folder does not exist", where=str(dataset_dir), fix=fix)
    folders = {path.name for path in dataset_dir.iterdir() if path.is_dir() and _has_train(path)}
    there = (path.name for path in dataset_dir.iterdir() if path.name != DATASET_INFO)
    files = {_plain(name) for name in there if name.endswith(ENDINGS)}
    raise unknown("dataset", name, {*info, *folders, *files}, where=str(dataset_dir))


def _has_train(folder: Path) -> bool:
    return any((folder / f"train{ending}").is_file() for ending in ENDINGS)
