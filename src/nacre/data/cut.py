"""`nacre data chunk`: a file of plain texts into a file of their pieces."""

import json
from pathlib import Path

from nacre.base.errors import InputError
from nacre.data.chunks import Chunker, Chunking
from nacre.data.convert import Stream
from nacre.data.written import lines_to
from nacre.records import Dropped
from nacre.records.base import Record

_SHOWN = 20


class CutReport(Record):
    """What became of a file of texts: rows read, pieces written to `out`, and the rows that are no plain text."""

    source: str
    out: str
    texts: int
    pieces: int
    problems: tuple[Dropped, ...] = ()
    more_problems: int = 0
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report in plain text, a line each."""
        found = [f"{self.source}: {self.texts} texts in {self.pieces} pieces, written to {self.out}"]
        found += [f"problem: {one.file}, line {one.line}: {one.reason}; {one.remedy}" for one in self.problems]
        if self.more_problems:
            found.append(f"and {self.more_problems} more problems")
        return found + [f"note: {note}" for note in self.notes]


def cut_file(source: Path, out: Path, chunking: Chunking) -> CutReport:
    """Cut every plain text of a file; the pieces are written as JSON lines with the line their text began on.

    Raises:
        InputError: the file holds no plain text, or tokens are to be counted and there is no tokenizer.
        NacreError: the disk is full or cannot be written; nothing is half-written.
    """
    chunker = Chunker(chunking)
    stream = Stream(source, documents=chunking.documents)
    texts = pieces = 0
    problems: list[Dropped] = []
    with lines_to(out) as write:
        for one in stream:
            if isinstance(one, Dropped):
                problems.append(one)
                continue
            row, example = one
            if example.kind != "text":
                what = f"the file holds rows that are no plain text, as on line {row.line}"
                raise InputError(what, where=str(source), fix="give a .txt file, or rows with a column text alone")
            texts += 1
            for piece in chunker.examples(example):
                pieces += 1
                write(json.dumps({"text": piece.prompt[0].content, "line": row.line}, ensure_ascii=False))
    return CutReport(
        source=str(source),
        out=str(out),
        texts=texts,
        pieces=pieces,
        problems=tuple(problems[:_SHOWN]),
        more_problems=max(0, len(problems) - _SHOWN),
        notes=(*stream.notes, *chunker.notes(str(source))),
    )
