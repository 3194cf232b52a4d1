"""The artifact store: model folders named by their content, written once, never changed."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from nacre.base.errors import InputError, NacreError
from nacre.base.files import atomic_write, disk_errors, file_lock, fsync_folder
from nacre.base.hashing import canonical_json, folder_files, sha256_text
from nacre.base.progress import progress

UNSAFE = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_STAGING = ".staging-"
_TRASH = ".trash-"


class ArtifactStore:
    """Folders in Hugging Face layout below `root`, each named by the hash of its files.

    Beside ``<sha256>/`` lies ``<sha256>.json``, the list of its files with their hashes; the hash of that
    list is the artifact's name, so the list proves itself. It only serves to name a damaged file.

    Args:
        root: ``.nacre/artifacts`` of a workspace; made when the first artifact is published.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def publish(self, fill: Callable[[Path], None]) -> str:
        """Let `fill` write an artifact into an empty folder, then store it under its hash.

        Publishing equal content again changes nothing, unless the stored copy is damaged: that one is
        set aside as ``.damaged-<sha256>-…`` and the good one takes its place.

        Returns:
            SHA-256 of the content, the artifact's name.

        Raises:
            InputError: the folder is empty, or holds pickled weights or anything but plain files.
            NacreError: the disk is full or cannot be written; nothing is left behind.
        """
        with disk_errors(self.root), self._staging() as staging:
            fill(staging)
            _refuse_unfit(staging)
            files = folder_files(staging)
            sha = _name(files)
            self._set_aside_if_damaged(sha)
            if not self._folder(sha).exists():
                _make_final(staging)
                self._move(staging, sha)
            if _read_list(self._list(sha)) is None:
                atomic_write(self._list(sha), canonical_json(files))
                self._list(sha).chmod(0o444)
        return sha

    def publish_folder(self, source: Path) -> str:
        """Store a copy of an existing folder; links in it are followed. Returns and raises as `publish`."""
        if not source.is_dir():
            raise InputError("the folder does not exist", where=str(source), fix="check the path")
        _refuse_unfit(source, links=True)

        def copy(staging: Path) -> None:
            for path in sorted(source.rglob("*")):
                target = staging / path.relative_to(source)
                if path.is_dir():
                    target.mkdir()
                else:
                    shutil.copyfile(path, target)

        return self.publish(copy)

    def path(self, sha: str) -> Path:
        """The folder of an artifact.

        Raises:
            NacreError: there is none of that name.
        """
        folder = self._folder(sha)
        if not folder.is_dir():
            raise NacreError(
                f"artifact {sha[:12]} is missing",
                where=str(folder),
                fix="restore that folder from a backup, or train the version again",
            )
        return folder

    def names(self) -> list[str]:
        """Every artifact that is here, or is listed as having been here, sorted."""
        if not self.root.is_dir():
            return []
        return sorted({entry.name.removesuffix(".json") for entry in self.root.iterdir() if entry.name[0] != "."})

    def verify(self, sha: str, *, listed: bool = False) -> None:
        """Hash the artifact again.

        Args:
            listed: its list of files must be here too; nothing but the naming of a damaged file needs it.

        Raises:
            NacreError: it is missing, or a file of it is missing, changed or new; names the first such file.
        """
        folder = self.path(sha)
        with disk_errors(folder):
            found = folder_files(folder)
        expected = _read_list(self._list(sha))
        if _name(found) == sha:
            if listed and expected is None:
                fix = "publish the same content again, which writes the list anew; or restore it from a backup"
                where = str(self._list(sha))
                raise NacreError(
                    f"artifact {sha[:12]} is whole, and its list of files is missing", where=where, fix=fix
                )
            return
        fix = "restore it from a backup, or train the version again; the same content then replaces the damaged copy"
        if expected is None or _name(expected) != sha:
            raise NacreError(f"artifact {sha[:12]} is damaged, and so is its list of files", where=str(folder), fix=fix)
        name = next(name for name in sorted(expected | found) if expected.get(name) != found.get(name))
        problem = "is missing" if name not in found else "was added" if name not in expected else "was changed"
        raise NacreError(f"artifact {sha[:12]} is damaged: {name} {problem}", where=str(folder / name), fix=fix)

    def verify_all(self) -> list[NacreError]:
        """Verify every artifact; returns what is wrong, one error for each damaged one."""
        problems = []
        names = self.names()
        with progress("Verifying artifacts", len(names)) as advance:
            for sha in names:
                try:
                    self.verify(sha)
                except NacreError as error:
                    problems.append(error)
                advance(1)
        return problems

    def sweep(self) -> list[str]:
        """Remove what killed processes left half-written or half-removed; returns the names of the removed folders."""
        with disk_errors(self.root):
            for folder in (found := self.leftovers()):
                shutil.rmtree(folder, ignore_errors=True)  # another sweep may be at it
        return [folder.name for folder in found]

    def leftovers(self) -> list[Path]:
        """Folders that a killed process was filling or removing: nobody is at them any more."""
        if not self.root.is_dir():
            return []
        found = sorted(self.root.glob(f"{_TRASH}*"))
        with disk_errors(self.root), file_lock(self.root / ".lock"):
            for folder in sorted(self.root.glob(f"{_STAGING}*")):
                handle = os.open(folder, os.O_RDONLY)
                try:
                    # Whoever fills the folder holds this lock, and loses it only by finishing or dying.
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                finally:
                    os.close(handle)
                found.append(folder)
        return found

    def damaged(self) -> list[Path]:
        """Copies that were set aside, because good ones took their place."""
        return sorted(self.root.glob(".damaged-*")) if self.root.is_dir() else []

    def remove(self, sha: str) -> None:
        """Take an artifact away. It is there whole or not at all, whenever the process is killed.

        Whoever calls this has made sure that nobody needs it; see `nacre.registry.keeping`.
        """
        folder = self._folder(sha)
        with disk_errors(folder):
            if folder.is_dir():
                trash = Path(tempfile.mkdtemp(dir=self.root, prefix=f"{_TRASH}{sha}-"))
                folder.rename(trash)  # one step: from here on it is gone, and `sweep` finishes the work
                fsync_folder(self.root)
                shutil.rmtree(trash)
            self._list(sha).unlink(missing_ok=True)

    def has(self, sha: str) -> bool:
        """Whether the artifact's folder is here; its bytes are not looked at."""
        return self._folder(sha).is_dir()

    def hashes(self, sha: str) -> dict[str, str]:
        """The hash of each file as it was published; of the files themselves where the list is missing or damaged."""
        listed = _read_list(self._list(sha))
        if listed is None and self.has(sha):
            return folder_files(self._folder(sha))
        return listed or {}

    def _folder(self, sha: str) -> Path:
        if len(sha) != 64 or set(sha) - set("0123456789abcdef"):
            raise InputError(f"'{sha}' is no artifact name", fix="artifacts are named by 64 hexadecimal digits")
        return self.root / sha

    def _list(self, sha: str) -> Path:
        return self.root / f"{sha}.json"

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """A locked temporary folder beside the artifacts, gone when the block ends."""
        self.root.mkdir(parents=True, exist_ok=True)
        with file_lock(self.root / ".lock"):  # against a sweep between making the folder and locking it
            staging = Path(tempfile.mkdtemp(dir=self.root, prefix=_STAGING))
            handle = os.open(staging, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            os.close(handle)

    def _move(self, staging: Path, sha: str) -> None:
        """Give the finished folder its name; another process may have published the same meanwhile."""
        try:
            staging.rename(self._folder(sha))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        fsync_folder(self.root)

    def _set_aside_if_damaged(self, sha: str) -> None:
        if not self._folder(sha).exists():
            return
        try:
            self.verify(sha)
        except NacreError:
            aside = tempfile.mkdtemp(dir=self.root, prefix=f".damaged-{sha}-")
            self._folder(sha).rename(aside)


def _name(files: dict[str, str]) -> str:
    """The artifact's name: the hash of its list of files, equal to `folder_hash` of the folder."""
    return sha256_text(canonical_json(files))


def _read_list(path: Path) -> dict[str, str] | None:
    """The stored list of files, or None when it is missing or does not match its name."""
    try:
        files = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return files if isinstance(files, dict) and _name(files) == path.stem else None


def _refuse_unfit(folder: Path, *, links: bool = False) -> None:
    """Only plain files, no pickles, at least one file."""
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if path.suffix.lower() in UNSAFE:
            raise InputError(
                f"{path.name} can run code when it is loaded; only safetensors weights are stored",
                where=str(path),
                fix="save the model with save_pretrained (safetensors), and remove that file",
            )
        if (path.is_symlink() and not links) or not (path.is_file() or path.is_dir()):
            raise InputError(f"{path.name} is not a plain file", where=str(path), fix="replace it by the file itself")
    if not any(path.is_file() for path in paths):
        raise InputError("the folder holds no files", where=str(folder), fix="check the path")


def _make_final(staging: Path) -> None:
    """Flush every file and folder to the disk, and take away the right to write the files."""
    staging.chmod(0o755)
    for path in staging.rglob("*"):
        if path.is_dir():
            fsync_folder(path)
            continue
        path.chmod(0o444)
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    fsync_folder(staging)
