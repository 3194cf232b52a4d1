"""Whether the other machines of a group still answer.

A process that dies closes its connections, and those it trained with notice. A machine without power, or a network
that is cut, closes nothing: whoever waits for it would wait for hours. So one process of each machine counts up an
entry of its own in the store that torchrun keeps on machine 0, and looks whether those of the others rise.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from torch import distributed

from nacre.base.errors import InputError
from nacre.train.last_words import Lost

BEAT_s = 2.0
LOST_AFTER = "NACRE_LOST_AFTER_S"
PATIENCE_s = 60.0  # longer than a machine is ever too busy to count


class Pulse:
    """The beats of `nodes` machines, as machine `node` hears them.

    Args:
        node: this machine's number.
        nodes: how many there are.
        count: given a machine's number and what is to be added, the machine's count so far.
        patience_s: a machine whose count did not rise for so long is lost.
    """

    def __init__(self, node: int, nodes: int, count: Callable[[int, int], int], patience_s: float) -> None:
        self.node, self.patience_s = node, patience_s
        self._count = count
        self._counts = dict.fromkeys(range(nodes), 0)
        self._heard = dict.fromkeys(range(nodes), time.monotonic())
        self._asked = time.monotonic()

    def beat(self) -> None:
        """Count up this machine's entry, and look at the others'. Machine 0 keeps them all, so it may not answer."""
        for node, before in self._counts.items():
            found = self._count(node, int(node == self.node))
            if found != before:
                self._counts[node], self._heard[node] = found, time.monotonic()
        self._asked = time.monotonic()

    def lost(self) -> list[int]:
        """The machines that were not heard of for too long."""
        now = time.monotonic()
        if now - self._asked > self.patience_s:
            return [0] if self.node else []
        return [node for node, when in self._heard.items() if now - when > self.patience_s]


def watch_machines(leave: Callable[[Lost], None], environ: Mapping[str, str] = os.environ) -> None:
    """From now to the end of this process, say through `leave` when a machine is lost; where there are several.

    Raises:
        InputError: the variable that says after how many seconds is no number.
    """
    node, nodes = int(environ.get("GROUP_RANK", "0")), int(environ.get("GROUP_WORLD_SIZE", "1"))
    if nodes == 1 or environ.get("LOCAL_RANK") != "0":
        return
    patience_s = _patience(environ)
    store = distributed.TCPStore(  # type: ignore[attr-defined] # torch exports it without saying so
        environ["MASTER_ADDR"],
        int(environ["MASTER_PORT"]),
        is_master=False,
        timeout=timedelta(seconds=patience_s),
        wait_for_workers=False,
    )
    pulse = Pulse(node, nodes, lambda one, more: store.add(f"nacre/machine/{one}", more), patience_s)

    def beat() -> None:
        while True:
            pulse.beat()
            time.sleep(BEAT_s)

    def look() -> None:
        while not (lost := pulse.lost()):
            time.sleep(1.0)
        names = ", ".join(f"machine {one}" for one in lost)
        leave(
            Lost(f"{names} did not answer for {patience_s:g} s, seen from machine {node}", where=environ["MASTER_ADDR"])
        )

    for work in (beat, look):
        threading.Thread(target=work, daemon=True).start()


def _patience(environ: Mapping[str, str]) -> float:
    given = environ.get(LOST_AFTER, str(PATIENCE_s))
    try:
        found = float(given)
    except ValueError:
        found = 0.0
    if not found > 2 * BEAT_s:
        fix = f"set {LOST_AFTER} to more than {2 * BEAT_s:g} seconds, or not at all"
        raise InputError(f"'{given}' is no time to wait for a machine", where=LOST_AFTER, fix=fix)
    return found
