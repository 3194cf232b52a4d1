"""A party's side of an increment that is trained together: its rows, its copy of the model, and the way to the server.

It needs no workspace and no ledger: whoever runs the federation has these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nacre.base.files import file_lock
from nacre.cycle.workspace import local_folder
from nacre.data.snapshot import usable_rows
from nacre.records import Weights
from nacre.train.federated import part
from nacre.train.federated.party import Door, Party
from nacre.train.federated.terms import Terms, model_print


@dataclass(frozen=True)
class Joining:
    """What a party brings.

    Attributes:
        data: a folder with train.json, or a file of rows.
        model: the model below the adapter, as `nacre.yaml` would name it.
        work: folder for this party's own files; nothing of it is sent.
    """

    data: Path
    model: str
    work: Path


def take_part(door: Door, mine: Joining, tell: Callable[[str], None] = lambda _: None) -> int:
    """Take part in a federation as one party, until it is over; returns how many messages were answered.

    Raises:
        InputError: the rows, the model or the terms do not fit, or the server refuses.
        NacreError: the server cannot be reached, the training fails, or another party works in the same folder.
    """
    model = Path(local_folder(mine.model, Path.cwd()))
    join = part("join")

    def settle(terms: Terms) -> Party:
        rows, _, notes = usable_rows(mine.data, mine.work / "memory", stage=terms.train.stage)
        for note in notes:
            tell(note)
        held_out = set(terms.held_out)
        if left := sum(row.content_id in held_out for row in rows):
            tell(f"{left} of {len(rows)} rows are dev rows of the federation and are left out")
        identity = model_print(model, mine.work / "fingerprints.json")
        return Party(Weights(identity=identity, model=str(model)), rows, terms, mine.work)

    with file_lock(mine.work / "party.lock", wait=False):
        answered: int = join(door, settle, tell)
    return answered
