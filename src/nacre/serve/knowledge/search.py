"""Passages for a question: BM25 and embeddings, fused by rank, and only what is relevant enough."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nacre.base.errors import NacreError
from nacre.registry.fingerprint import fingerprint
from nacre.serve.knowledge import part
from nacre.serve.knowledge.chunk import Chunk
from nacre.serve.knowledge.encoders import Encoder, load_encoder
from nacre.serve.knowledge.guard import label, sentences
from nacre.serve.knowledge.snapshots import Snapshot, Snapshots, Where
from nacre.serve.knowledge.words import Frequencies, asked_words

if TYPE_CHECKING:
    from nacre.serve.knowledge.store import Chunks

_FUSED = 60  # reciprocal rank fusion (Cormack, Clarke and Buettcher 2009): sum of 1 / (60 + rank)
_LEAST_LOOKED_AT = 40
_ROUNDS = 4
_LONGEST_QUESTION = 4000  # characters that are searched for


@dataclass(frozen=True)
class Passage:
    """A chunk that answers a question, as far as its words and its vector say.

    Attributes:
        source: name of the document.
        place: lines or page in it; may be empty.
        relevance: share of the question's words that it has, the rare ones counting more.
        similarity: cosine with the question; None where only the words found it.
        allowed: whether its source may have sentences that speak to a model.
    """

    id: str
    source: str
    place: str
    text: str
    relevance: float
    similarity: float | None
    allowed: bool = False

    @property
    def where(self) -> str:
        """Source and place, for people."""
        return f"{self.source}, {self.place}" if self.place else self.source

    def citation(self, number: int) -> dict[str, Any]:
        """As an answer names it."""
        said: dict[str, Any] = {"id": number, "source": label(self.source), "chunk": self.id}
        if self.place:
            said["place"] = self.place
        said["relevance"] = round(self.relevance, 3)
        if self.similarity is not None:
            said["similarity"] = round(self.similarity, 3)
        return said


@dataclass(frozen=True)
class Hits:
    """What was found for a question.

    Attributes:
        snapshot: number of the snapshot that was searched.
        passages: relevant enough, the best first.
        nearest: the best one that was not; None where there was none.
        left_out: why others are not among them.
    """

    snapshot: int
    passages: tuple[Passage, ...] = ()
    nearest: Passage | None = None
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Open:
    """The snapshot in use, ready to be searched."""

    mark: tuple[int, int] | None
    snapshot: Snapshot
    chunks: "Chunks"
    frequencies: Frequencies
    encoder: Encoder | None


class Searcher:
    """Searches the snapshot in use; another one is taken up with the first question after it was put to use.

    Threads may share one.

    Args:
        where: the store.
        number: search this snapshot, in use or not, and stay with it.
    """

    def __init__(self, where: Where, number: int | None = None) -> None:
        self._where, self._snapshots, self._number = where, Snapshots(where.folder), number
        self._open: _Open | None = None
        self._encoders: dict[str, Encoder] = {}  # the one in use, by the fingerprint of its files
        self._opening = threading.Lock()

    @property
    def in_use(self) -> bool:
        """Whether documents were ever added."""
        return self._snapshots.mark() is not None

    @property
    def snapshot(self) -> int | None:
        """The number of the one that was searched last."""
        return self._open.snapshot.number if self._open else None

    def search(self, question: str, limit: int | None = None) -> Hits | None:
        """The passages for a question; None while there are no documents.

        Args:
            question: as somebody asked it.
            limit: passages at most; default: as the settings say.

        Raises:
            NacreError: the store cannot be read, or the embedding model is not there any more.
        """
        opened = self._present(wait=False)
        if opened is None:
            return None
        limit = limit or self._where.settings.passages
        try:
            return self._search(opened, question[:_LONGEST_QUESTION], limit)
        except (OSError, RuntimeError, ValueError):
            if self._snapshots.mark() == opened.mark:
                raise
            again = self._present()  # it was replaced, and dropped, while it was searched
            return self._search(again, question[:_LONGEST_QUESTION], limit) if again else None

    def warm(self) -> None:
        """Load what the first question needs. Raises as `search` does."""
        self.search("nacre 知识")

    def _present(self, *, wait: bool = True) -> _Open | None:
        """The snapshot in use; while another thread opens it, the one before, except with `wait`."""
        mark = self._snapshots.mark()
        held = self._open
        if held is not None and held.mark == mark:
            return held
        if not self._opening.acquire(blocking=wait or held is None):
            return held
        try:
            if self._open is None or self._open.mark != mark:
                self._open = self._opened(mark)
            return self._open
        finally:
            self._opening.release()

    def _opened(self, mark: tuple[int, int] | None) -> _Open | None:
        snapshot = self._snapshots.present() if self._number is None else self._snapshots.read(self._number)
        if snapshot is None:
            return None
        chunks = part("store")(self._where.url).open(snapshot.number)
        frequencies = Frequencies.load(self._snapshots.frequencies(snapshot.number), snapshot.chunks)
        return _Open(mark, snapshot, chunks, frequencies, self._encoder(snapshot))

    def _encoder(self, snapshot: Snapshot) -> Encoder | None:
        """The model that made the snapshot's vectors, and no other."""
        if not snapshot.model:
            return None
        folder = Path(snapshot.model)
        fix = "run nacre knowledge refresh"
        if not folder.is_dir():
            raise NacreError("the embedding model of the documents is gone", where=str(folder), fix=fix)
        if fingerprint(folder, self._where.folder / "fingerprints.cache") != snapshot.identity:
            raise NacreError(
                "the embedding model is not the one the documents were read with", where=str(folder), fix=fix
            )
        if snapshot.identity not in self._encoders:
            self._encoders = {snapshot.identity: load_encoder(folder)}
        return self._encoders[snapshot.identity]

    def _search(self, opened: _Open, question: str, limit: int) -> Hits:
        asked = asked_words(question)
        if not opened.snapshot.chunks:
            return Hits(opened.snapshot.number)
        vector = opened.encoder.question(question) if opened.encoder is not None else None
        looked_at = max(_LEAST_LOOKED_AT, 8 * limit)
        chosen = _Chosen(self._where, opened, asked)
        for _ in range(
            _ROUNDS
        ):  # once more without the documents that have their share, where they took all the places
            without = frozenset(chosen.full)
            by_words = opened.chunks.by_words(asked, looked_at, without) if asked else []
            by_vector = []
            if vector is not None and vector.any():
                by_vector = opened.chunks.by_vector(vector, looked_at, without)
            chosen.similar |= {chunk.id: cosine for chunk, cosine in by_vector}
            for chunk in _fused(by_words, [chunk for chunk, _ in by_vector]):
                if len(chosen.passages) < limit:
                    chosen.offer(chunk)
            whole = max(len(by_words), len(by_vector)) < looked_at
            if whole or len(chosen.passages) == limit or chosen.full == without:
                break
        return Hits(opened.snapshot.number, tuple(chosen.passages), chosen.nearest, chosen.left_out)


class _Chosen:
    """Takes the best chunks, one after the other, as far as they are relevant and no document crowds out others."""

    def __init__(self, where: Where, opened: _Open, asked: Sequence[str]) -> None:
        self._settings, self._frequencies, self._asked = where.settings, opened.frequencies, asked
        self.similar: dict[str, float] = {}
        self.full: set[str] = set()  # documents of which no more is taken
        self.passages: list[Passage] = []
        self.nearest: Passage | None = None
        self.left_out: Counter[str] = Counter()
        self._documents: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._texts: set[str] = set()

    def offer(self, chunk: Chunk) -> None:
        """Take a chunk, or count why not; one that was offered before is neither."""
        if chunk.id in self._seen:
            return
        self._seen.add(chunk.id)
        relevance = self._frequencies.relevance(self._asked, chunk.words.split(" "))
        similarity = self.similar.get(chunk.id)
        passage = Passage(chunk.id, chunk.source, chunk.place, chunk.text, relevance, similarity, chunk.allowed)
        settings = self._settings
        if relevance < settings.relevance and (similarity is None or similarity < settings.similarity):
            if self.nearest is None or relevance > self.nearest.relevance:
                self.nearest = passage
            return
        if chunk.words in self._texts:
            self.full.add(chunk.document)
            self.left_out["the same text again"] += 1
        elif self._documents[chunk.document] == settings.per_document:
            self.left_out["more of one document"] += 1
        elif not chunk.allowed and sentences(chunk.text):
            self.left_out["it speaks to the model"] += 1
        else:
            self._texts.add(chunk.words)
            self._documents[chunk.document] += 1
            if self._documents[chunk.document] == settings.per_document:
                self.full.add(chunk.document)
            self.passages.append(passage)


def _fused(*ranked: Sequence[Chunk]) -> list[Chunk]:
    """Several rankings as one; what is alike in rank goes by its id, so that equal questions find equal passages."""
    chunks: dict[str, Chunk] = {}
    scores: dict[str, float] = {}
    for ranking in ranked:
        for rank, chunk in enumerate(ranking, 1):
            chunks[chunk.id] = chunk
            scores[chunk.id] = scores.get(chunk.id, 0.0) + 1 / (_FUSED + rank)
    return [chunks[key] for key in sorted(chunks, key=lambda key: (-scores[key], key))]
