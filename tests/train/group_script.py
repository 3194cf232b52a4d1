"""Trains several jobs one after another in one group of processes: starting a group takes longer than a toy's run.

Started by torchrun with the jobs' files; process 0 writes what came out beside each.
"""

import sys
from pathlib import Path

from pydantic import TypeAdapter

from nacre.train import processes
from nacre.train.run import Job, Trained, train_here

if __name__ == "__main__":
    processes.join()
    for path in map(Path, sys.argv[1:]):
        trained = train_here(TypeAdapter(Job).validate_json(path.read_bytes()))
        if processes.is_main():
            path.with_suffix(".trained").write_bytes(TypeAdapter(Trained).dump_json(trained))
        processes.barrier()
        print(path, "done", flush=True)
    processes.leave()
