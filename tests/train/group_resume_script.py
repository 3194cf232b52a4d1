"""Trains jobs that were trained before and whose end was taken away, in one group of processes.

Started by torchrun as ``group_resume_script.py twice|once JOB…``. `twice`: each job is trained to its end, a copy of
its run is put beside it without the end, and it is trained again without the end. Process 0 writes what came out beside
each job; what is refused ends the group.
"""

import os
import shutil
import sys
from pathlib import Path

from pydantic import TypeAdapter

from nacre.base.errors import NacreError
from nacre.train import processes
from nacre.train.run import Job, Trained, train_here

LAST = "checkpoint-6"


def main() -> None:
    processes.join()
    for path in map(Path, sys.argv[2:]):
        job = TypeAdapter(Job).validate_json(path.read_bytes())
        if sys.argv[1] == "twice":
            train_here(job)
            if processes.is_main():
                (job.work / "result").rename(job.work.with_name("first"))
                shutil.rmtree(job.work / LAST)
                shutil.copytree(job.work, job.work.with_name("copy"))
            processes.barrier()
        try:
            trained = train_here(job)
        except NacreError as error:
            path.with_suffix(".refused").write_text(str(error))
            os._exit(1)  # the others wait for this process
        if processes.is_main():
            path.with_suffix(".trained").write_bytes(TypeAdapter(Trained).dump_json(trained))
        processes.barrier()
    processes.leave()


if __name__ == "__main__":
    main()
