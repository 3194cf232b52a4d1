"""A new snapshot of the documents, made beside the one in use and put in its place when it is whole."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nacre.base.clock import now
from nacre.base.errors import NacreError
from nacre.base.hashing import content_hash, sha256_file, sha256_text
from nacre.base.progress import progress
from nacre.data.chunks import Chunker, Chunking, token_spans
from nacre.registry.fingerprint import fingerprint
from nacre.serve.knowledge import part
from nacre.serve.knowledge.chunk import Chunk
from nacre.serve.knowledge.documents import Segment, files_of, segments
from nacre.serve.knowledge.encoders import Encoder, load_encoder, model_folder
from nacre.serve.knowledge.guard import cleaned
from nacre.serve.knowledge.snapshots import Document, Problem, Snapshot, Snapshots, Source, Where
from nacre.serve.knowledge.words import Frequencies, words_of

if TYPE_CHECKING:
    from nacre.serve.knowledge.store import Chunks

_FORMAT = 1  # rises when the same file becomes other chunks
_AT_ONCE = 512  # chunks that are embedded and written together
_SHOWN = 3  # sentences of a document that are told


@dataclass(frozen=True)
class Renewed:
    """What a renewal came to.

    Attributes:
        snapshot: the one that is in use now.
        changed: whether it is a new one.
        made: the new one, in use or not; None where nothing had changed.
        refused: why the new one was not put to use; empty where it was, or there is none.
        read: files that were read anew.
        kept: files whose chunks were taken over.
        gone: files of the snapshot before that are no longer there.
        told: what was decided or left out, in sentences.
    """

    snapshot: Snapshot
    changed: bool
    made: Snapshot | None = None
    refused: str = ""
    read: int = 0
    kept: int = 0
    gone: int = 0
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    """A file that is wanted."""

    path: Path
    source: str
    allowed: bool
    sha256: str


@dataclass
class _Wanted:
    """What the sources hold now."""

    files: dict[str, _File] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def renew(
    where: Where,
    sources: Sequence[Source],
    *,
    check: Callable[[Snapshot, Snapshot], str] | None = None,
    pinned: Collection[int] = (),
) -> Renewed:
    """Read what is new or was changed in the sources, take over the rest, and put the snapshot to use.

    Nothing happens where nothing has changed. Whoever searches meanwhile searches the snapshot before; a run that is
    killed leaves it in use.

    Args:
        where: the store.
        sources: all that it shall hold.
        check: is told the snapshot in use and the new one, whose chunks can be searched already, and says why the new
            one must not be put to use, or nothing; the new one is then kept aside.
        pinned: numbers of snapshots that are kept however old they are.

    Raises:
        InputError: a source is not there, the embedding model cannot be loaded, or a library is missing.
        NacreError: the store cannot be written.
    """
    snapshots = Snapshots(where.folder)
    before = snapshots.present()
    folder = model_folder(where.settings.model, where.root) if where.settings.model else None
    identity = fingerprint(folder, where.folder / "fingerprints.cache") if folder else ""
    settings = where.settings
    decided = [_FORMAT, identity, settings.size, settings.overlap, settings.url]
    wanted, made_with = _wanted(where.root, sources), content_hash(decided)
    if before is not None and before.made_with == made_with and _same(before, sources, wanted):
        return Renewed(before, changed=False, kept=len(before.documents))
    builder = _Builder(where, folder, identity)
    old = before if before is not None and before.made_with == made_with else None
    kept = {key for key, file in wanted.files.items() if old is not None and _as_before(old, key, file)}
    number = snapshots.newest() + 1
    chunks = builder.begin(number)
    if old is not None and kept:
        builder.take_over(old, kept)
    fresh = [key for key in wanted.files if key not in kept]
    with progress("reading", len(fresh)) as done:
        for key in fresh:
            builder.read(key, wanted.files[key])
            done(1)
    snapshot = Snapshot(
        number=number,
        created=now(),
        made_with=made_with,
        model=str(folder or ""),
        identity=identity,
        dimensions=builder.dimensions,
        size=builder.size,
        sources=tuple(sources),
        documents=dict(sorted(builder.documents.items())),
        problems=wanted.problems | builder.problems,
        skipped=dict(wanted.skipped),
        chunks=builder.finish(snapshots.frequencies(number)),
    )
    _flush(where, chunks.name)
    snapshots.save(snapshot)
    refused = check(before, snapshot) if check is not None and before is not None else ""
    _put(snapshots, number, refused, builder, pinned)
    missing = len(before.documents.keys() - wanted.files.keys()) if before else 0
    present = before if refused and before is not None else snapshot
    told, read = (*builder.told, *sentences_of(snapshot)), len(fresh) - len(builder.problems)
    return Renewed(present, not refused, snapshot, refused, read, len(kept), missing, told)


def _put(snapshots: Snapshots, number: int, refused: str, builder: "_Builder", pinned: Collection[int]) -> None:
    """Put a whole snapshot to use, or aside where it is refused; what is no longer kept goes."""
    if refused:
        snapshots.set_aside(number)
    else:
        snapshots.use(number)
    for gone in snapshots.drop_others(number, builder.keep, pinned):
        builder.store.drop(gone)
        snapshots.forget(gone)


def sentences_of(snapshot: Snapshot) -> Iterator[str]:
    """What a snapshot lacks, and why."""
    documents = snapshot.documents.values()
    left_out = sum(one.orders for one in documents if not one.allowed)
    if left_out:
        yield f"{left_out} sentences that speak to a language model were left out; --allow-orders leaves them in"
        for one in documents:
            if one.orders and not one.allowed:
                more = f" and {one.orders - len(one.shown)} more" if one.orders > len(one.shown) else ""
                yield f"{one.source}: {'; '.join(repr(text) for text in one.shown)}{more}"
    allowed = sum(one.orders for one in documents if one.allowed)
    if allowed:
        yield f"{allowed} sentences that speak to a language model were left in, as their sources are allowed to"
    if hidden := sum(one.hidden for one in documents):
        yield f"{hidden} hidden parts and characters were left out"
    if empty := [one.source for one in documents if not one.chunks]:
        yield f"{len(empty)} files hold no text: {', '.join(empty[:5])}{' …' if len(empty) > 5 else ''}"
    for reason, count in snapshot.skipped.items():
        yield f"{count} files were not read: {reason}"
    for path, problem in snapshot.problems.items():
        yield f"{path} was not read: {problem.why}"


def _wanted(root: Path, sources: Sequence[Source]) -> _Wanted:
    """The files of all sources; one that is in two of them belongs to the first."""
    wanted = _Wanted()
    for source in sources:
        found = files_of(root / source.path)
        wanted.skipped += found.skipped
        for path, name in found.files.items():
            key = key_of(path, root)
            if key in wanted.files or key in wanted.problems:
                continue
            try:
                wanted.files[key] = _File(path, name, source.orders, sha256_file(path))
            except OSError as error:
                wanted.problems[key] = Problem(sha256="", why=(error.strerror or str(error)).lower())
    return wanted


def key_of(path: Path, root: Path) -> str:
    """A path as the records have it: relative to the workspace where it lies in it."""
    whole = path.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(whole)


def _same(before: Snapshot, sources: Sequence[Source], wanted: _Wanted) -> bool:
    """Whether a snapshot is what would be made now; what could not be read and has not changed is not tried again."""
    tried = {key for key, file in wanted.files.items() if _as_before(before, key, file) or _failed(before, key, file)}
    known = before.documents.keys() | before.problems.keys()
    same = tried == wanted.files.keys() and known == wanted.files.keys() | wanted.problems.keys()
    return same and tuple(sources) == before.sources


def _as_before(before: Snapshot, key: str, file: _File) -> bool:
    held = before.documents.get(key)
    return held is not None and (held.sha256, held.allowed, held.source) == (file.sha256, file.allowed, file.source)


def _failed(before: Snapshot, key: str, file: _File) -> bool:
    held = before.problems.get(key)
    return held is not None and held.sha256 == file.sha256


class _Builder:
    """Fills the tables of one snapshot."""

    def __init__(self, where: Where, folder: Path | None, identity: str) -> None:
        settings = where.settings
        self.store = part("store")(where.url)
        self.keep = settings.keep
        self._most_bytes = settings.max_file_mb << 20
        self._encoder: Encoder | None = load_encoder(folder) if folder else None
        self.dimensions = self._encoder.dimensions if self._encoder else 0
        self.size, self.told = settings.size, list[str]()
        most = self._encoder.most_tokens if self._encoder else None
        if most is not None and self.size > most:
            self.told.append(f"chunks have {most} tokens, not {self.size}: the embedding model reads no more")
            self.size = most
        if self._encoder is None:
            self.told.append("there is no embedding model (knowledge.model): passages are found by their words alone")
        overlap = min(settings.overlap, self.size // 2)
        how = Chunking(size=self.size, overlap=overlap, by="tokens" if folder else "characters")
        self._chunker = Chunker(how, token_spans(str(folder)) if folder else None)
        self.documents: dict[str, Document] = {}
        self.problems: dict[str, Problem] = {}
        self.frequencies = Frequencies()
        self._waiting: list[Chunk] = []

    def begin(self, number: int) -> "Chunks":
        """The tables to fill."""
        made: Chunks = self.store.begin(number, self.dimensions)
        self._chunks = made
        return made

    def take_over(self, old: Snapshot, keys: set[str]) -> None:
        """Copy the chunks of files that have not changed."""
        self.documents |= {key: old.documents[key] for key in keys}
        for chunks, vectors in self.store.open(old.number).all():
            places = [place for place, chunk in enumerate(chunks) if chunk.document in keys]
            if places:
                kept = [chunks[place] for place in places]
                for chunk in kept:
                    self.frequencies.add(chunk.words.split(" "))
                self._chunks.add(kept, None if vectors is None else vectors[places])

    def read(self, key: str, file: _File) -> None:
        """Read a file; one that cannot be read is a problem, and nothing of it is kept."""
        found = Document(sha256=file.sha256, source=file.source, allowed=file.allowed, chunks=0)
        orders: list[str] = []
        count = hidden = 0
        try:
            for segment in segments(file.path, self._most_bytes):
                plain = cleaned(segment.text, allow=file.allowed)
                orders += plain.orders
                hidden += plain.unseen + segment.hidden
                for chunk in self._cut(key, file, segment, plain.text):
                    self._take(chunk)
                    count += 1
        except (NacreError, OSError) as error:
            self._waiting = [chunk for chunk in self._waiting if chunk.document != key]
            if count:
                self._chunks.remove(key)
            why = error.what if isinstance(error, NacreError) else (error.strerror or str(error)).lower()
            self.problems[key] = Problem(sha256=file.sha256, why=why)
            return
        more = {"chunks": count, "orders": len(orders), "shown": tuple(orders[:_SHOWN]), "hidden": hidden}
        self.documents[key] = found.changed(**more)

    def _cut(self, key: str, file: _File, segment: Segment, text: str) -> Iterator[Chunk]:
        whole = Segment(text, segment.unit, segment.first)
        for begin, end in self._chunker.bounds(text):
            piece = text[begin:end]
            begin += len(piece) - len(piece.lstrip())
            piece = piece.strip()
            words = words_of(piece)
            if words:
                yield Chunk(
                    id=sha256_text(f"{key}\n{begin + segment.first}\n{piece}")[:16],
                    document=key,
                    source=file.source,
                    place=whole.place(begin, begin + len(piece)),
                    text=piece,
                    words=" ".join(words),
                    allowed=file.allowed,
                )

    def _take(self, chunk: Chunk) -> None:
        self._waiting.append(chunk)
        if len(self._waiting) >= _AT_ONCE:
            self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        vectors = self._encoder.documents([chunk.text for chunk in self._waiting]) if self._encoder else None
        self._chunks.add(self._waiting, vectors)
        for chunk in self._waiting:
            self.frequencies.add(chunk.words.split(" "))
        self._waiting = []

    def finish(self, frequencies: Path) -> int:
        """Write what waits and how rare words are, and make the indexes; returns the number of chunks."""
        self._write()
        self.frequencies.save(frequencies)
        return self._chunks.finish()


def _flush(where: Where, name: str) -> None:
    """Have the disk hold the chunks before the pointer names them; elsewhere that is the store's business."""
    if where.settings.url is not None:
        return
    for path in (where.folder / f"{name}.lance").rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
