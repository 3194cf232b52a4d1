"""Why a group of processes ended: what its workers leave behind, and what of it the user is told. No torch here."""

import re
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from nacre.base.errors import NacreError
from nacre.base.files import atomic_write
from nacre.train.job import MARKER

CUT = 4000  # characters of a log that are shown

# how gloo and torch's store say that the process at the other end of a connection is gone
_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")
# a process that a signal ended, as torchrun tells of it at its end
_KILLED = re.compile(r"rank\s+: (\d+) \(local_rank: \d+\)\s+exitcode\s+: -(\d+) ")


class Lost(NacreError):
    """A process of the group is gone, or the machine it was on; nothing is wrong with what was to be trained."""


class Failure(BaseModel):
    """Why a worker ended: an error for the user, or a fault of the program with its traceback."""

    kind: str = ""
    what: str
    where: str = ""
    fix: str = ""
    trace: str = ""


def write_failure(folder: Path, rank: int, error: Exception) -> None:
    """Leave word of why the worker `rank` ends."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, NacreError):
        found = Failure(kind=type(error).__name__, **error.as_dict())
    elif isinstance(error, RuntimeError) and any(word in str(error) for word in _GONE):
        what = f"process {rank} of the training lost its connection to another one"
        found = Failure(kind=Lost.__name__, what=what, trace=trace)
    else:
        found = Failure(what=f"{type(error).__name__}: {error}", trace=trace)
    atomic_write(folder / f"failed-{rank:05}.json", found.model_dump_json())


def reason(folder: Path, code: int, log: Path, again: str) -> NacreError:
    """The error that ended the group whose last words lie in `folder`.

    What was meant for the user counts first, then a fault of the program; that a process is gone counts only where
    nobody said more, because those that are left always notice.

    Args:
        folder: where the workers left word.
        code: that whoever started them ended with.
        log: that it wrote.
        again: what the user can do where a process is gone.
    """
    found = [(path, Failure.model_validate_json(path.read_bytes())) for path in sorted(folder.glob("failed-*.json"))]
    told = [failure for _, failure in found if failure.kind not in ("", Lost.__name__)]
    if told:
        every: list[type[NacreError]] = [NacreError, *_below(NacreError)]
        kinds = {kind.__name__: kind for kind in every}
        first = told[0]
        return kinds.get(first.kind, NacreError)(first.what, where=first.where, fix=first.fix)
    faults = [pair for pair in found if not pair[1].kind]
    if faults:
        path, first = min(faults, key=lambda pair: pair[0].stat().st_mtime)
        what = f"process {_rank(path)} of the training broke: {first.what}"
        return NacreError(what, where=_traceback(folder, first), fix="look at the traceback there")
    if killed := _killed(log):
        fix = f"{again}; where memory was short, with a smaller batch or more accumulation"
        return Lost(f"process {killed[0]} of the training was killed ({killed[1]})", where=str(log), fix=fix)
    lost = sorted((failure for _, failure in found), key=lambda failure: bool(failure.trace))
    if lost:
        where = _traceback(folder, lost[0]) if lost[0].trace else lost[0].where or str(log)
        return Lost(lost[0].what, where=where, fix=lost[0].fix or again)
    return NacreError(f"the processes of the training ended with code {code}", where=str(log), fix="look at the log")


def goes_on(work: Path) -> str:
    """What becomes of a run whose group is gone, when its command is given again."""
    whole = [int(path.parent.name.rpartition("-")[2]) for path in work.glob(f"checkpoint-*/{MARKER}")]
    if not whole:
        return "give the same command again: it begins anew, because no checkpoint was whole yet"
    return f"give the same command again: it goes on from checkpoint-{max(whole)}"


def _killed(log: Path) -> tuple[int, str] | None:
    """The process of this machine that a signal ended, and the signal's name."""
    text = log.read_text(errors="replace") if log.exists() else ""
    found = {int(rank): int(number) for rank, number in _KILLED.findall(text)}
    by_others = [rank for rank, number in found.items() if number != signal.SIGTERM]  # which torchrun sends to the rest
    if not by_others:
        return None
    known = {one.value: one.name for one in signal.Signals}
    number = found[by_others[0]]
    return by_others[0], known.get(number, f"signal {number}")


def _traceback(folder: Path, failure: Failure) -> str:
    atomic_write(folder / "traceback.txt", failure.trace)
    return str(folder / "traceback.txt")


def _rank(path: Path) -> int:
    return int(path.stem.removeprefix("failed-"))


def _below(kind: type[NacreError]) -> Iterator[type[NacreError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
