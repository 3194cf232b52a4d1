"""`nacre data check --fix`: a file with everything mended that has one right answer, as JSON lines in UTF-8.

Nothing is guessed. A row that could mean two things, or that no training could use, goes to a file of its own with
its line, the reason, the remedy and its bytes. The source is never changed.
"""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from nacre.base.errors import InputError
from nacre.base.hashing import canonical_json
from nacre.data.convert import Stream
from nacre.data.dataset_info import Entry
from nacre.data.mend import Mending, Repair
from nacre.data.written import lines_to
from nacre.records import Dropped
from nacre.records.base import Record

DROPPED, REPAIRS = ".dropped.jsonl", ".repairs.jsonl"
MOST_REPAIRS = 10_000  # that a report lists; the file has all
_SHOWN = 20


class Repaired(Record):
    """A row that was mended: the line it begins on in the source, and what was changed."""

    line: int
    changes: tuple[str, ...]


class FixReport(Record):
    """What became of a file.

    Attributes:
        source: the file; `out` what was made of it, JSON lines in UTF-8.
        rows: rows read; `written` and `dropped` add up to it.
        repaired: what was changed in how many rows.
        repairs: every row that was mended, up to `MOST_REPAIRS`; the file `repairs_file` has all of them.
        dropped_file: the rows that could not be used, with their bytes; empty where there are none.
        notes: what was decided for the file as a whole.
    """

    source: str
    out: str
    rows: int
    written: int
    dropped: int
    repaired: dict[str, int]
    repairs: tuple[Repaired, ...] = ()
    repairs_file: str = ""
    dropped_file: str = ""
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report in plain text, a line each."""
        found = [f"{self.source}: {self.rows} rows, {self.written} written to {self.out}, {self.dropped} dropped"]
        found += [f"repaired: line {one.line}: {'; '.join(one.changes)}" for one in self.repairs[:_SHOWN]]
        if self.repairs_file:
            found.append(f"repaired rows: {self.repairs_file}")
        if self.dropped_file:
            found.append(f"rows that cannot be used, with reasons and bytes: {self.dropped_file}")
        return found + [f"note: {note}" for note in self.notes]


def fix(source: Path, out: Path | None = None, *, entry: Entry | None = None) -> FixReport:
    """Read a file, mend what has one right answer, and write the rows that can be used. Memory does not grow.

    Args:
        source: the file; it is not changed.
        out: where the rows go, by default beside the file, ending in ``.fixed.jsonl``.
        entry: how `dataset_info.json` describes the rows.

    Raises:
        InputError: the file as a whole holds no rows, or `out` is the file itself.
        NacreError: the disk is full or cannot be written; nothing is half-written.
    """
    out = out or source.with_name(source.name.removesuffix(".gz").rsplit(".", 1)[0] + ".fixed.jsonl")
    if out.exists() and out.resolve() == source.resolve():
        raise InputError("a file cannot be mended onto itself", where=str(out), fix="name another file with --out")
    beside_dropped, beside_repairs = out.with_name(out.name + DROPPED), out.with_name(out.name + REPAIRS)
    changed: Counter[str] = Counter()
    shown: list[Repaired] = []
    with ExitStack() as stack:
        rows, dropped, repairs = (stack.enter_context(lines_to(at)) for at in (out, beside_dropped, beside_repairs))

        def told(repair: Repair) -> None:
            changed.update(repair.changes)
            repairs(canonical_json({"line": repair.line, "changes": repair.changes}))
            if len(shown) < MOST_REPAIRS:
                shown.append(Repaired(line=repair.line, changes=repair.changes))

        whole = entry and entry.model_copy(update={"chunk": None})
        stream = Stream(source, entry=whole, mender=Mending(told), streamed=True)
        written = left = 0
        for one in stream:
            if isinstance(one, Dropped):
                dropped(one.to_json())
                left += 1
            else:
                rows(json.dumps(one[0].value, ensure_ascii=False))
                written += 1
    return FixReport(
        source=str(source),
        out=str(out) if written else "",
        rows=written + left,
        written=written,
        dropped=left,
        repaired=dict(changed),
        repairs=tuple(shown),
        repairs_file=str(beside_repairs) if changed else "",
        dropped_file=str(beside_dropped) if left else "",
        notes=tuple(stream.notes),
    )
