"""A workspace: `nacre.yaml`, the data, and `.nacre/` with ledger, artifacts, memory and unfinished runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import yaml

from nacre.base.config import parse, read_yaml
from nacre.base.errors import InputError, nearest
from nacre.base.files import atomic_write
from nacre.base.plugins import Table
from nacre.cycle.settings import WorkspaceSettings
from nacre.records import Version, Weights
from nacre.records.weights import ENSEMBLE, ROUTER
from nacre.registry.fingerprint import fingerprint
from nacre.registry.ledger import Ledger
from nacre.registry.store import ArtifactStore

CONFIG = "nacre.yaml"
SOURCES = Table("model_source", {"hub": "nacre.cycle.hub:folder_of"})


@dataclass(frozen=True)
class Workspace:
    """The paths and stores of one workspace. Nothing is loaded until it is asked for."""

    root: Path
    settings: WorkspaceSettings

    @classmethod
    def open(cls, folder: Path, overrides: Mapping[str, Any] | None = None) -> "Workspace":
        """Read the workspace at `folder`.

        Raises:
            InputError: no ``nacre.yaml`` there, or a key of it is wrong.
        """
        path = folder / CONFIG
        if not path.exists():
            raise InputError(
                "this is no workspace: nacre.yaml is missing",
                where=str(folder.resolve()),
                fix="run nacre init, or cd into a workspace",
            )
        data, text = read_yaml(path)
        return cls(folder.resolve(), parse(WorkspaceSettings, data | dict(overrides or {}), where=str(path), text=text))

    @classmethod
    def init(cls, folder: Path, model: str, more: Mapping[str, Any] | None = None) -> "Workspace":
        """Make a workspace: a ``nacre.yaml`` with one key, and the folder for the base skill.

        Raises:
            InputError: there is a ``nacre.yaml`` already.
        """
        path = folder / CONFIG
        if path.exists():
            raise InputError("there is a workspace already", where=str(path), fix="choose another folder")
        settings = parse(WorkspaceSettings, {"model": model, **(more or {})}, where="nacre init")
        body = yaml.safe_dump({"model": model, **(more or {})}, allow_unicode=True, sort_keys=False)
        atomic_write(path, f"# every key and its default: docs/configuration.md\n{body}")
        (folder / settings.data.folder / "base").mkdir(parents=True, exist_ok=True)
        return cls(folder.resolve(), settings)

    def under(self, settings: WorkspaceSettings) -> "Workspace":
        """The same workspace under other settings; its ledger is the same, and closed by whoever opened this one."""
        found = replace(self, settings=settings)
        vars(found)["ledger"] = self.ledger
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the ledger's connections, if it was asked for anything."""
        if "ledger" in self.__dict__:
            self.ledger.close()

    @property
    def hidden(self) -> Path:
        """Everything nacre keeps."""
        return self.root / ".nacre"

    @property
    def memory(self) -> Path:
        """Rows, importance, generic text: files with lineage."""
        return self.hidden / "memory"

    @property
    def serving(self) -> Path:
        """What running servers say they hold."""
        return self.hidden / "serving"

    @property
    def converted(self) -> Path:
        """Folder of versions in the form in which the engine `ctranslate2` holds them."""
        return self.hidden / "ctranslate2"

    @property
    def dataset_dir(self) -> Path:
        """Where the increments are."""
        return self.root / self.settings.data.folder

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifacts, by content hash."""
        return ArtifactStore(self.hidden / "artifacts")

    @cached_property
    def ledger(self) -> Ledger:
        """What is live, and how it came to be."""
        self.hidden.mkdir(parents=True, exist_ok=True)
        return Ledger(self.settings.ledger.url or f"sqlite:///{self.hidden / 'ledger.db'}", store=self.store)

    @cached_property
    def base(self) -> Weights:
        """The base model's weights, known by the hash of their files."""
        folder = local_folder(self.settings.model, self.root)
        return Weights(identity=fingerprint(folder, self.hidden / "fingerprints.json"), model=str(folder))

    def weights(self, version: Version) -> Weights:
        """Where a version's weights lie.

        Raises:
            NacreError: the artifact, or the one it sits on, is not in the store; says so where gc took it.
            InputError: it is an adapter that sits on another base model than ``nacre.yaml`` names.
        """
        needed = filter(None, (version.artifact, version.needs))
        if version.number and not all(self.store.has(sha) for sha in needed):
            self.ledger.keeping.refuse(version.number)
        folder = self.store.path(version.artifact)
        if version.kind != "adapter":
            return Weights(identity=version.artifact, model=str(folder))
        if not version.needs:
            self.check_base(version)
        below = str(self.store.path(version.needs)) if version.needs else self.base.model
        return Weights(identity=version.artifact, model=below, adapter=folder)

    def check_base(self, version: Version) -> None:
        """Make sure that a version comes from the base model that ``nacre.yaml`` names.

        Raises:
            InputError: it does not, or the base model is not there.
        """
        if version.base_sha256 != self.base.identity:
            raise InputError(
                f"version {version.number} was made from another base model: {version.base}",
                where=f"{self.root / CONFIG}, key model",
                fix="put that model back (the very same files), or make a new workspace for the other one",
            )


def fingerprint_anew(folder: Path) -> str:
    """The fingerprint of a model folder, every byte read, nothing remembered and nothing written beside it."""
    with TemporaryDirectory() as nothing:
        return fingerprint(folder, Path(nothing) / "hashes.json")


def local_folder(model: str, root: Path) -> Path:
    """The folder of a model given by path (relative to `root`) or by hub name.

    Raises:
        InputError: neither a folder nor in the local hub cache; names the nearest folder.
    """
    given = Path(model).expanduser()
    path = given if given.is_absolute() else root / given
    if path.is_dir():
        if not any((path / name).exists() for name in ("config.json", "adapter_config.json", ROUTER, ENSEMBLE)):
            held = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
            raise InputError(
                "the folder holds no model: config.json is missing",
                where=f"{path} (holds {held})",
                fix="name a folder in Hugging Face layout",
            )
        return path.resolve()
    may_be_hub_name = not given.is_absolute() and model.count("/") == 1 and not model.startswith((".", "~"))
    if may_be_hub_name and not path.parent.is_dir():
        found: Path = SOURCES.load("hub")(model)
        return found
    siblings = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    close = nearest(path.name, siblings)
    hint = f"did you mean '{path.parent / close}'? " if close else ""
    raise InputError("the model path does not exist", where=model, fix=f"{hint}name a local model folder")
