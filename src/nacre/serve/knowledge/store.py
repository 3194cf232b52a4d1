"""The chunks of each snapshot in LanceDB: one table a snapshot, searched by words (BM25) and by vectors."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, IvfFlat

from nacre.base.errors import NacreError
from nacre.serve.knowledge.chunk import Chunk

_READ = 2048  # rows that are copied at a time
_INDEX_MB = 64  # memory for the index of words while it is built
_VECTORS_INDEXED = 500_000  # below so many, comparing with each is exact, quick enough, and takes no memory to prepare
_COLUMNS = ("id", "document", "source", "place", "text", "words", "allowed")
_WORDS = FTS(  # the words are made before: nothing is to be done to them
    base_tokenizer="whitespace",
    lower_case=False,
    stem=False,
    remove_stop_words=False,
    ascii_folding=False,
    num_workers=1,
    memory_limit=_INDEX_MB,
)


class Store:
    """The tables.

    Args:
        url: a folder, or any address that LanceDB connects to.

    Raises:
        NacreError: it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._database = lancedb.connect(url)
        except (OSError, RuntimeError, ValueError) as error:
            fix = "check knowledge.url and the credentials in the environment"
            raise NacreError(f"the document store cannot be reached: {error}", where=url, fix=fix) from None

    def begin(self, number: int, dimensions: int) -> "Chunks":
        """An empty table for a snapshot; `dimensions` 0: without vectors. What a killed run left under it goes."""
        fields = [pa.field(name, pa.bool_() if name == "allowed" else pa.string()) for name in _COLUMNS]
        if dimensions:
            fields.append(pa.field("vector", pa.list_(pa.float32(), dimensions)))
        schema = pa.schema(fields)
        self.drop(number)
        return Chunks(self._database.create_table(_name(number), schema=schema), schema)

    def open(self, number: int) -> "Chunks":
        """The chunks of a snapshot.

        Raises:
            NacreError: they are not there.
        """
        try:
            table = self._database.open_table(_name(number))
        except (OSError, RuntimeError, ValueError) as error:
            fix = "run nacre knowledge refresh"
            raise NacreError(f"snapshot {number} is not in the store: {error}", where=self.url, fix=fix) from None
        return Chunks(table, table.schema)

    def drop(self, number: int) -> None:
        """Delete the chunks of a snapshot, if they are there."""
        self._database.drop_table(_name(number), ignore_missing=True)


class Chunks:
    """The table of one snapshot."""

    def __init__(self, table: Any, schema: pa.Schema) -> None:
        self._table, self._schema = table, schema
        self._with_vectors = "vector" in schema.names

    @property
    def name(self) -> str:
        """What the table is called."""
        return str(self._table.name)

    def add(self, chunks: Sequence[Chunk], vectors: np.ndarray | None) -> None:
        """Write chunks, with their vectors where the snapshot has them."""
        columns: list[pa.Array] = [
            pa.array([getattr(chunk, name) for chunk in chunks], self._schema.field(name).type) for name in _COLUMNS
        ]
        if vectors is not None:
            flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1), pa.float32())
            columns.append(pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
        self._table.add(pa.Table.from_arrays(columns, schema=self._schema))

    def remove(self, document: str) -> None:
        """Delete the chunks of a document."""
        self._table.delete(f"document = {_literal(document)}")

    def finish(self) -> int:
        """Make the indexes; returns the number of chunks."""
        count = int(self._table.count_rows())
        if not count:
            return 0
        self._table.create_index("words", config=_WORDS)
        if self._with_vectors and count >= _VECTORS_INDEXED:
            self._table.create_index("vector", config=IvfFlat(distance_type="l2", sample_rate=64))
        return count

    def all(self) -> Iterator[tuple[list[Chunk], np.ndarray | None]]:
        """All chunks with their vectors, part by part."""
        for batch in self._table.search().limit(int(self._table.count_rows())).to_batches(_READ):
            vectors = None
            if self._with_vectors and len(batch):
                flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
                vectors = flat.reshape(len(batch), -1)
            yield [_chunk(row) for row in batch.select(list(_COLUMNS)).to_pylist()], vectors

    def by_words(self, words: Sequence[str], limit: int, without: Iterable[str] = ()) -> list[Chunk]:
        """The chunks that BM25 puts first for any of these words, but for those of some documents."""
        found = self._table.search(" ".join(words), query_type="fts", fts_columns="words")
        return [_chunk(row) for row in _others(found, without).limit(limit).to_list()]

    def by_vector(self, vector: np.ndarray, limit: int, without: Iterable[str] = ()) -> list[tuple[Chunk, float]]:
        """The chunks whose vectors are nearest, each with its cosine; all vectors have length 1."""
        found = self._table.search(vector, vector_column_name="vector")
        rows = _others(found, without).limit(limit).to_list()
        return [(_chunk(row), 1.0 - float(row["_distance"]) / 2) for row in rows]  # |a-b|² = 2 - 2 cos


def _others(query: Any, without: Iterable[str]) -> Any:
    """A query without the chunks of some documents."""
    named = ", ".join(map(_literal, sorted(without)))
    return query.where(f"document NOT IN ({named})", prefilter=True) if named else query


def _literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _chunk(row: dict[str, Any]) -> Chunk:
    return Chunk(**{name: row[name] for name in _COLUMNS})


def _name(number: int) -> str:
    return f"chunks_{number:06d}"
