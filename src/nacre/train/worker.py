"""One process of several that train: gets the job, trains its part, and says how it ended.

Started by `nacre.train.torchrun`, as ``python -m nacre.train.worker FOLDER WATCHED WORDS``: the folder with the job,
which machines other than the first do not know yet (``-``), the launcher's process id, and the folder of this machine
for last words. Ray calls `work` and `LastWords` by itself.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from pydantic import TypeAdapter

from nacre.base.errors import NacreError
from nacre.base.files import atomic_write
from nacre.train import processes
from nacre.train.group import no_such_folder
from nacre.train.job import Job, Trained
from nacre.train.last_words import write_failure
from nacre.train.launch import JOB, NO_FOLDER, RESULT
from nacre.train.pulse import watch_machines
from nacre.train.run import train_here
from nacre.train.torchrun import alive

LOOK_s = 1.0
LET_MAIN_SPEAK_s = 10.0


def main() -> None:
    """Train what process 0 was given; leave the result, or the reason why there is none, in the folder."""
    given, watched, words = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    _end_with(watched)
    if os.environ["RANK"] == "0":
        os.dup2(0, 2)  # the launcher put the terminal where the input would be: torchrun's own words stay in its log
    told = [words]
    sys.excepthook = _tell_into(told)
    processes.join()
    watch_machines(lambda error: _last(words, error))
    folder = Path(processes.from_main(given))
    if given == NO_FOLDER:
        told.append(folder)
    work(folder)
    processes.leave()


def work(folder: Path) -> None:
    """Train the job that lies in `folder` with the others of the group; process 0 leaves the result there.

    Raises:
        InputError: this machine does not see the folder.
    """
    if not (folder / JOB).exists():
        raise no_such_folder(folder)
    job = TypeAdapter(Job).validate_json((folder / JOB).read_bytes())
    trained = train_here(job)
    peak = processes.total(trained.peak_rss_bytes)
    if processes.is_main():
        atomic_write(folder / RESULT, TypeAdapter(Trained).dump_json(replace(trained, peak_rss_bytes=peak)))
    processes.barrier()


def dismiss() -> None:
    """Tell the processes that follow this one that there is nothing more to train."""
    processes.join()
    processes.from_main(b"")
    processes.leave()


def follow() -> None:
    """Train with process 0, which alone reads data and writes files, until it says that there is no more."""
    processes.join()
    try:
        while given := processes.from_main(b""):
            processes.total(train_here(TypeAdapter(Job).validate_json(given)).peak_rss_bytes)
    except NacreError:
        time.sleep(LET_MAIN_SPEAK_s)  # it most likely meets the same error, and ends the group with one message
        raise
    processes.leave()


def _end_with(watched: int) -> None:
    """End this process when the launcher is gone, however it went: nothing is left behind."""

    def look() -> None:
        while True:
            time.sleep(LOOK_s)
            if not alive(watched):
                os._exit(1)

    threading.Thread(target=look, daemon=True).start()


def _last(words: Path, error: Exception) -> None:
    """Leave word of `error`, and end, whatever the main thread waits for."""
    write_failure(words, int(os.environ["RANK"]), error)
    os._exit(1)


def _tell_into(
    told: Sequence[Path],
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """A last word that goes to a file: of many processes that fail together, the launcher shows one."""

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, Exception):
            for folder in told:
                if folder.is_dir():  # a machine may not see that of machine 0
                    write_failure(folder, int(os.environ["RANK"]), error)
        if not isinstance(error, NacreError):
            sys.__excepthook__(kind, error, trace)
        # not the usual way out: it would wait for processes that wait for this one
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    return tell


if __name__ == "__main__":
    main()
