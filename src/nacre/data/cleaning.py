"""`nacre data clean`: the chain over files. One record at a time is in memory; the output has the input's layout."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.base.files import disk_errors, fsync_folder
from nacre.base.plugins import Table
from nacre.data.clean.chain import Chain
from nacre.data.clean.places import Places
from nacre.data.cleaned import Output, Work, changed
from nacre.data.dataset_info import Entry
from nacre.data.formats.fields import Unusable
from nacre.data.reader import Reader
from nacre.records import Dropped
from nacre.records.base import Record

_BUFFER_BYTES = 1 << 18
_READERS_HELD = 8


class CleanExample(Record):
    """A text before and after a step, around the first difference; `before` is empty where it was private."""

    line: int
    before: str
    after: str


class CleanStep(Record):
    """What one step did: records and texts changed, records dropped, what was found by kind, a few examples."""

    name: str
    does: str
    records: int
    texts: int
    dropped: int
    found: dict[str, int]
    examples: tuple[CleanExample, ...] = ()


class CleanReport(Record):
    """What a run of the chain did.

    Attributes:
        files: what was read; `out`, where the clean records are; `aside`, where the dropped ones are, if there are any.
        rows: records read; `kept` and `dropped` add up to it. `mended`: records of those kept that a step changed.
        unread: how many of `dropped` could not be read at all, or are in no known format.
    """

    files: tuple[str, ...]
    out: str
    aside: str | None
    rows: int
    kept: int
    mended: int
    dropped: int
    unread: int
    steps: tuple[CleanStep, ...]
    notes: tuple[str, ...] = ()


# where the records are worked on, by name; another engine is imported when it is asked for
ENGINES = Table("cleaning-engine", {"local": "nacre.data.cleaning:here", "ray": "nacre.data.cleaning_ray:run"})


def clean_files(
    files: Sequence[Path],
    out: Path,
    steps: Mapping[str, Settings],
    *,
    entry: Entry | None = None,
    dev: Sequence[Sequence[str]] = (),
    engine: str = "local",
    workers: int | None = None,
) -> CleanReport:
    """Clean files into one file with the layout of the first: a JSON array, JSON lines, or plain text if all are.

    The dropped records go to ``OUT.dropped.jsonl``, readable by the owner alone, each with file, line, step, reason and
    the row as it stood (`original_base64`: its bytes, where it could not be read and text does not show them). Both
    files are whole or not there.

    Args:
        files: what is read, one after another.
        out: where the clean records go.
        steps: names and settings; see `chain.choose`.
        entry: how `dataset_info.json` describes the rows.
        dev: texts of dev rows that the step `leaks` compares with beside those of its settings.
        engine: ``local``, or ``ray``: many processes and machines, with the same result (see `cleaning_ray`).
        workers: of ray, how many processes; without it one for each CPU of the cluster.

    Raises:
        InputError: a file as a whole cannot be used, a step's settings cannot, or ray is not installed.
        NacreError: the disk is full or cannot be written.
    """
    if any(path.exists() and out.exists() and path.samefile(out) for path in files):
        raise InputError("the output is the input", where=str(out), fix="name another file with --out")
    work_on = ENGINES.load(engine, where="engine")
    if engine == "local" and workers is not None:
        raise InputError("the local engine is one process", where="workers", fix="choose the engine ray, or no workers")
    aside = out.with_name(f"{out.name}.dropped.jsonl")
    with Chain(steps) as chain:
        chain.prepare(dev)
        with disk_errors(out), _staged(out, 0o644) as clean, _staged(aside, 0o600) as dropped:
            output = Output(clean, dropped)
            work_on(files, chain, output, Work(dict(steps), entry, tuple(dev), workers))
            output.end()
        if not output.dropped:
            aside.unlink()
        return _report(files, out, aside if output.dropped else None, output, chain)


def _report(files: Sequence[Path], out: Path, aside: Path | None, output: Output, chain: Chain) -> CleanReport:
    return CleanReport(
        files=tuple(map(str, files)),
        out=str(out),
        aside=str(aside) if aside else None,
        rows=output.kept + output.dropped,
        kept=output.kept,
        mended=output.mended,
        dropped=output.dropped,
        unread=output.unread_rows,
        steps=tuple(
            CleanStep(
                name=tally.name,
                does=tally.cleaner.does,
                records=tally.records,
                texts=tally.texts,
                dropped=tally.dropped,
                found=_by_count(tally.cleaner.counts),
                examples=tuple(CleanExample(line=line, before=old, after=new) for line, old, new in tally.examples),
            )
            for tally in chain.tallies
        ),
        notes=(*output.notes, *chain.notes()),
    )


def _by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return {kind: count for kind, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])) if count}


def here(files: Sequence[Path], chain: Chain, output: Output, work: Work) -> None:
    """The engine `local`: one record after another, in this process."""
    places, columns = Places(work.entry), work.columns

    def made() -> Iterator[Reader]:
        return (Reader(path, columns=columns, streamed=True) for path in files)

    # each has looked through its file for the encoding, which takes a while; and holds the file's beginning
    held = list(made()) if len(files) <= _READERS_HELD else None
    output.reads(files, [reader.layout for reader in held or made()])
    for path, reader in zip(files, held or made(), strict=True):
        for row in reader:
            if isinstance(row, Dropped):
                output.unread(row)
                continue
            try:
                found = places.find(row.value)
            except Unusable as problem:
                output.unread(reader.dropped(row.line, problem.reason, problem.remedy, row.text))
                continue
            before = [place.holder[place.key] for place in found]
            refused = chain.clean(row.value, found, row.line)
            if refused is None:
                output.keep(row.value, mended=changed(found, before))
            else:
                output.refused(path, row.line, row.text, refused)
        output.notes += reader.notes


@contextmanager
def _staged(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A file that takes its name when the block ends well, and disappears when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb", buffering=_BUFFER_BYTES) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
