"""Increments that several parties train together, each on rows that it shows nobody. Importing this needs no Flower.

Only adapters travel. The files, by what they are asked:

| question | file |
| --- | --- |
| What are the parties told? | `terms` |
| What does a party do in a round? | `party`; `app` is what of it Flower calls |
| What is done with the answers? | `rounds`, with `screen` (what is refused) and `masked` (only their sum is seen) |
| How do messages go to and fro? | `grid`: within this process; `wire`: between machines; `joining` is a party's end |
| Who gets which rows in a simulation? | `shares` |
"""

import os
from typing import Any

from nacre.base.errors import InputError
from nacre.base.plugins import Table

RELEASE = "flwr==1.42.0"  # parts that are not its public surface are used
TELEMETRY = "FLWR_TELEMETRY_ENABLED"  # read when Flower is imported

FLOWER = Table(  # needs the extra `federated`, and Flower itself
    "part of a federation",
    {
        "app": "nacre.train.federated.app:PartyApp",
        "join": "nacre.train.federated.joining:join",
        "listen": "nacre.train.federated.wire:Exchange",
        "rounds": "nacre.train.federated.rounds:Rounds",
        "simulate": "nacre.train.federated.grid:HereGrid",
    },
)


def part(name: str) -> Any:
    """A part that is made of Flower, which is asked not to tell its makers of it.

    Raises:
        InputError: Flower is not installed.
    """
    os.environ.setdefault(TELEMETRY, "0")
    try:
        return FLOWER.load(name)
    except ImportError as error:
        if error.name is not None and error.name.startswith("nacre"):
            raise
        fix = f"pip install 'nacre[federated]', and then pip install --no-deps {RELEASE}, see docs/federated.md"
        what = f"{error.name} is not installed, or is another release"
        raise InputError(what, where="nacre federate", fix=fix) from None
