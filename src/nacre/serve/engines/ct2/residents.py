"""Versions in CTranslate2's memory, and the folders that they were converted into."""

import json
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ctranslate2

from nacre.base.errors import InputError, NacreError
from nacre.base.files import file_lock, staged_folder
from nacre.base.hashing import content_hash
from nacre.model.chat import empty_thought, prompt_ids, stop_ids, stop_texts
from nacre.model.export.ct2 import convert
from nacre.model.load import load_tokenizer, positions
from nacre.records import Message, Weights
from nacre.serve.engines import JsonFormat, Target, stopped
from nacre.serve.engines.embedded.runners import BARE
from nacre.serve.engines.embedded.templates import Renderer
from nacre.serve.engines.embedded.tokens import TokenTexts
from nacre.serve.engines.prompting import constrainer
from nacre.serve.settings import CTranslate2Settings

_log = logging.getLogger("nacre.serve")
_VOCABULARY = "vocabulary.json"


class Resident:
    """A version in memory.

    Attributes:
        generator: CTranslate2's; None once the version is freed.
        words: its vocabulary, by id, as CTranslate2 takes a prompt.
        rows: requests accepted and not ended.
        reader: the thread that reads its prompts.
    """

    router = None
    only_adapter = BARE

    def __init__(self, target: Target, folder: Path, settings: CTranslate2Settings) -> None:
        self.target = target
        self.tokenizer = load_tokenizer(target.weights)
        context = positions(target.weights)
        if context is None:
            fix = "add max_position_embeddings"
            where = f"{target.weights.model}/config.json"
            raise NacreError("the model does not say how long its context is", where=where, fix=fix)
        self.context_tokens = context
        self.words: list[str] = json.loads((folder / _VOCABULARY).read_text(encoding="utf-8"))
        self.generator: Any = ctranslate2.Generator(
            str(folder), device="cpu", inter_threads=settings.parallel, intra_threads=settings.threads
        )
        self.stop_ids = stop_ids(self.tokenizer)
        self.stop_texts = stop_texts(self.tokenizer)
        self.empty_thought = empty_thought(self.tokenizer)
        self.texts = TokenTexts(self.tokenizer)
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="nacre-tokenize")
        self.renderer = Renderer(settings.template_s)
        self.renderer.take_over(self.tokenizer)
        self.rows, self.leaving = 0, False
        self._constrainer: Any = None
        try:
            prompt_ids((Message(role="user", content="?"),), self.tokenizer)
        except NacreError:
            self.free()
            raise

    def prompt(self, ids: list[int]) -> list[str]:
        """Token ids as CTranslate2 takes them."""
        return [self.words[token] for token in ids]

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return len(self.words)

    def constraint(self, asked: JsonFormat) -> Any:
        """What holds an answer to a format.

        Raises:
            InputError: the library is not installed, or the format cannot be enforced.
        """
        if self._constrainer is None:
            self._constrainer = constrainer(self.tokenizer, self.vocabulary, self.stop_ids)
        return self._constrainer.constraint(asked)

    def free(self) -> None:
        """Give its memory back."""
        if self.generator is not None:
            self.generator.unload_model()
            self.generator = None
        self.renderer.close()
        self.reader.shutdown(wait=False)


class Shelf:
    """Loads versions, and converts those that were never loaded in this precision."""

    def __init__(self, settings: CTranslate2Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def load(self, target: Target) -> Resident:
        """Bring a version into memory; takes long where it must be converted first.

        Raises:
            NacreError: it cannot be converted or loaded.
        """
        with self._lock:
            if self._closed.is_set():
                raise stopped()
            folder = self._converted(target.weights)
            try:
                resident = Resident(target, folder, self._settings)
            except (RuntimeError, ValueError, OSError) as error:  # CTranslate2's words for a torn file
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise InputError(
                    f"the converted version cannot be loaded: {reason}",
                    where=str(folder),
                    fix="remove that folder; it is made anew",
                ) from error
        if self._closed.is_set():
            resident.free()
            raise stopped()
        return resident

    def close(self) -> None:
        """What is being loaded comes to nothing."""
        self._closed.set()

    def _converted(self, weights: Weights) -> Path:
        precision = self._settings.precision
        root = Path(self._settings.folder or _cache()).expanduser()
        key = content_hash([weights.identity, precision, ctranslate2.__version__, _stamp(weights)])
        folder = root / key[:32]
        if (folder / _VOCABULARY).is_file():
            os.utime(folder)  # `nacre gc` takes those that were not loaded for long
            return folder
        with file_lock(root / f"{key[:32]}.lock"):
            if not (folder / _VOCABULARY).is_file():
                _log.info("version %s is converted for CTranslate2, %s", weights.identity[:12], precision)
                with staged_folder(folder) as staging:
                    convert(weights, staging, precision)
        (root / f"{key[:32]}.lock").unlink(missing_ok=True)
        return folder


def _cache() -> Path:
    """Where a server without a workspace keeps what it converts."""
    return Path("~/.cache/nacre/ctranslate2")


def _stamp(weights: Weights) -> list[object]:
    """The files that the weights lie in, so that a folder that was written anew is converted anew."""
    folders = [Path(weights.model), *([weights.adapter] if weights.adapter else [])]
    files = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()) if path.is_file()]
    return [[str(path), stat.st_size, stat.st_mtime_ns] for path in files for stat in (path.stat(),)]
