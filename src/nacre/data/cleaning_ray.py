"""The engine `ray`: the same chain on Ray Data, by as many processes and machines as the cluster has.

Two operators: tasks read the files and hand on chunks of rows, actors clean them, each with a chain of its own. Chunks
come back in the order of the files, with what each step did to them; the steps that remember earlier records
(duplicates, near) are asked here, in that order, and the outputs are written here. So rows, order, counts, examples
and notes are those of the local engine, however many workers there are. A chunk that is lost with its machine is
cleaned again and counted once.

Without a cluster (`RAY_ADDRESS`) one is started on this machine for the run. Every machine needs nacre, and the files
under the same paths. The key for pseudonyms is sent along. Ray's usage reports are off.
"""

import logging
import os
import pickle
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.base.cluster import cluster, quiet
from nacre.base.errors import InputError, NacreError
from nacre.base.plugins import Table
from nacre.data.clean.chain import Chain
from nacre.data.clean.places import Places
from nacre.data.cleaned import Output, Work, changed
from nacre.data.formats.fields import Unusable
from nacre.data.reader import Reader, Row
from nacre.records import Dropped

_CHUNK_ROWS, _CHUNK_CHARS = 1000, 1 << 20
_BLOCK_BYTES = 1 << 20  # chunks are not joined to larger ones, which fewer workers would share
_READERS = 4  # reading takes about a quarter of the time of cleaning
_EXTRA = Table("extra", {"ray": "ray.data:DataContext"})  # loaded where it is asked for
_CHUNK, _FILE = "chunk", "file"

Batch = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class _Cleaned:
    """A record that no step dropped by itself: its value and texts after the chain, its text as it was read."""

    line: int
    text: str
    record: dict[str, Any]
    texts: list[str]
    mended: bool


@dataclass(frozen=True, slots=True)
class _Refused:
    line: int
    text: str
    refused: tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the run was started, for workers elsewhere: its folder, and the environment variables that steps read."""

    folder: str
    environment: Mapping[str, str]

    def enter(self) -> None:
        """Be there. Only for processes that work for this run alone."""
        try:
            os.chdir(self.folder)
        except OSError as error:
            what = f"the folder of the run is not on the machine {os.uname().nodename}"
            raise InputError(what, where=self.folder, fix="put the data where every machine sees it") from error
        os.environ.update(self.environment)


def run(files: Sequence[Path], chain: Chain, output: Output, work: Work) -> None:
    """Clean the files on a Ray cluster.

    Raises:
        InputError: ray is not installed, the cluster cannot be reached, or a file cannot be used.
    """
    ray = _ray()
    output.reads(files, [Reader(path, columns=work.columns).layout for path in files])
    names = {name for tally in chain.tallies for name in tally.cleaner.environment()}
    place = _Place(os.getcwd(), {name: os.environ[name] for name in names if name in os.environ})
    with _cluster(ray, work.workers) as workers, closing(_chunks(ray, files, work, place, workers)) as chunks:
        for path in files:
            for found in chunks:
                if isinstance(found, list):  # the file ends
                    output.notes += found
                    break
                items, shares = found
                for tally, share in zip(chain.tallies, shares, strict=True):
                    tally.add(share)
                for item in items:
                    _put(item, path, chain, output)
        for _ in chunks:  # nothing is left: the end is only waited for
            pass


def _put(item: _Cleaned | _Refused | Dropped, path: Path, chain: Chain, output: Output) -> None:
    if isinstance(item, Dropped):
        output.unread(item)
        return
    refused = item.refused if isinstance(item, _Refused) else chain.remembering(item.texts, item.record)
    if refused is not None:
        output.refused(path, item.line, item.text, refused)
    elif isinstance(item, _Cleaned):
        output.keep(item.record, mended=item.mended)


def _chunks(ray: Any, files: Sequence[Path], work: Work, place: _Place, workers: int) -> Generator[Any, None, None]:
    """What the workers hand back: cleaned chunks with the shares of the steps; at the end of a file its notes."""
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = _BLOCK_BYTES
    with ray.data.DataContext.current(context):
        readers = min(len(files), max(1, workers // _READERS))
        rows = ray.data.from_items([{_FILE: str(path)} for path in files], override_num_blocks=len(files))
        # no CPU is kept for reading, so that there is one for each chain
        readers_pool, cleaners_pool = ray.data.TaskPoolStrategy(readers), ray.data.ActorPoolStrategy(size=workers)
        rows = rows.map_batches(
            _Read(work, place), batch_size=1, batch_format="numpy", num_cpus=0, compute=readers_pool
        )
        cleaned = rows.map_batches(
            _CleanChunk,
            fn_constructor_args=(work, place),
            batch_size=1,
            batch_format="numpy",
            num_cpus=1,
            compute=cleaners_pool,
        )
        for block in cleaned.iter_batches(batch_size=None, batch_format="pyarrow"):
            for packed in block[_CHUNK]:
                yield unpacked(packed.as_py())


def unpacked(packed: bytes) -> Any:
    """What a worker hands back: a cleaned chunk with the shares of the steps, or the notes of a file that ends.

    Raises:
        NacreError: what went wrong there.
    """
    found = pickle.loads(packed)  # noqa: S301 (packed by this run)
    if isinstance(found, NacreError):
        raise found
    return found


class _Read:
    """Reads a file into chunks of rows; rows that no format fits are told apart here, where their bytes are known."""

    def __init__(self, work: Work, place: _Place) -> None:
        self._work, self._place = work, place

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[Batch]:
        """Chunks of a file, then its notes."""
        for name in batch[_FILE]:
            try:
                self._place.enter()
                reader = Reader(Path(name), columns=self._work.columns, streamed=True)
                for chunk in self._read(reader):
                    yield {_CHUNK: [pickle.dumps(chunk, pickle.HIGHEST_PROTOCOL)]}
                yield {_CHUNK: [pickle.dumps(tuple(reader.notes))]}
            except NacreError as problem:
                yield {_CHUNK: [pickle.dumps(problem)]}

    def _read(self, reader: Reader) -> Iterator[list[Row | Dropped]]:
        places = Places(self._work.entry)
        chunk: list[Row | Dropped] = []
        chars = 0
        for row in reader:
            if isinstance(row, Row):
                chars += len(row.text)
                try:
                    places.find(row.value)
                except Unusable as problem:
                    row = reader.dropped(row.line, problem.reason, problem.remedy, row.text)
            if isinstance(row, Dropped):
                chars += len(row.original_base64)
            chunk.append(row)
            if len(chunk) >= _CHUNK_ROWS or chars >= _CHUNK_CHARS:
                yield chunk
                chunk, chars = [], 0
        if chunk:
            yield chunk


class _CleanChunk:
    """A chain in an actor."""

    def __init__(self, work: Work, place: _Place) -> None:
        self._problem: NacreError | None = None
        self._chain: Chain | None = None
        try:
            place.enter()
            self._places, self._chain = Places(work.entry), Chain(work.steps)
            self._chain.prepare(work.dev)
            for tally in self._chain.tallies:
                tally.taken()
        except NacreError as problem:
            self._problem = problem

    def __del__(self) -> None:  # the only sign that Ray gives an actor before it ends
        if self._chain is not None:
            self._chain.close()

    def __call__(self, batch: Mapping[str, Any]) -> Batch:
        """Clean the rows of a chunk, but for the steps that remember."""
        return {_CHUNK: [pickle.dumps(self._cleaned(packed), pickle.HIGHEST_PROTOCOL) for packed in batch[_CHUNK]]}

    def _cleaned(self, packed: bytes) -> Any:
        if self._chain is None or self._problem is not None:
            return self._problem
        chunk = pickle.loads(packed)  # noqa: S301 (packed by this run)
        if not isinstance(chunk, list):
            return list(chunk) if isinstance(chunk, tuple) else chunk
        items = [row if isinstance(row, Dropped) else self._row(row, self._chain) for row in chunk]
        return items, [tally.taken() for tally in self._chain.tallies]

    def _row(self, row: Row, chain: Chain) -> _Cleaned | _Refused:
        places = self._places.find(row.value)
        before = [place.holder[place.key] for place in places]
        found = chain.texts(row.value, places, row.line)
        if isinstance(found, tuple):
            return _Refused(row.line, row.text, found)
        if (refused := chain.alone(found, row.value)) is not None:
            return _Refused(row.line, row.text, refused)
        return _Cleaned(row.line, row.text, row.value, found, changed(places, before))


def _ray() -> Any:
    quiet()
    try:
        _EXTRA.load("ray")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        return sys.modules["ray"]
    except ImportError as error:
        what = "cleaning on several machines needs Ray Data, which is not installed"
        fix = "pip install 'nacre[ray]', or choose the engine local"
        raise InputError(what, where="engine ray", fix=fix) from error


@contextmanager
def _cluster(ray: Any, workers: int | None) -> Iterator[int]:
    """The cluster to work on, and how many workers it shall have."""
    with cluster(ray, workers):
        yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
