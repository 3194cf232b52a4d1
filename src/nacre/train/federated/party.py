"""One party: its own rows, its own copy of the model, and what it does with the adapter that comes in."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nacre.base.errors import InputError
from nacre.records import Example, Weights
from nacre.train.federated.screen import Answer, fault
from nacre.train.federated.tensors import Arrays, new_adapter, read_adapter, write_adapter
from nacre.train.federated.terms import LOCAL, Terms
from nacre.train.job import Job
from nacre.train.run import train

SHOWN = 12  # digits of a hash in a message


@dataclass(frozen=True)
class Door:
    """Where a federation is to be found, and as whom.

    Attributes:
        address: host:port.
        name, secret: as the server's file of parties has them; empty where it has none.
        roots: PEM of the certificates that are trusted; None: nothing is encrypted.
        patience_s: how long a server that does not answer is tried.
    """

    address: str
    name: str = ""
    secret: str = ""
    roots: bytes | None = None
    patience_s: float = 60.0


@dataclass
class Party:
    """Who trains.

    Attributes:
        model: the model below the adapter; `identity` is its fingerprint.
        rows: what it learns from, and shows nobody.
        terms: what all parties are told.
        work: folder for its own files.
    """

    model: Weights
    rows: Sequence[Example]
    terms: Terms
    work: Path

    def __post_init__(self) -> None:
        terms = self.terms
        if terms.base != self.model.identity:
            ours, theirs = self.model.identity[:SHOWN], terms.base[:SHOWN]
            raise InputError(
                f"the model here is another one than the federation's: fingerprint {ours}, not {theirs}",
                where=self.model.model,
                fix="put the very same files there: weights, configuration and tokenizer",
            )
        strange = [one["name"] for one in terms.protect if one.get("name") not in LOCAL]
        if strange:
            fix = f"ask whoever runs the federation for some of {', '.join(LOCAL)}"
            raise InputError(f"protections that cannot act here: {strange}", where="the terms", fix=fix)
        held_out = set(terms.held_out)
        self.rows = [row for row in self.rows if row.content_id not in held_out]
        if not self.rows:
            raise InputError("no rows are left to train on", where=str(self.work), fix="give rows that are no dev rows")

    @cached_property
    def form(self) -> Path:
        """A folder with an adapter of the agreed form; its numbers do not matter."""
        folder = self.work / "form"
        new_adapter(self.model, self.terms.tune, folder, seed=0)
        return folder

    @cached_property
    def shape(self) -> Arrays:
        """The tensors of such an adapter."""
        return read_adapter(self.form)

    def learn(self, number: int, arrays: Arrays) -> Answer:
        """Train the adapter that came in, in round `number`, and give what comes out.

        Raises:
            InputError: what came in is no adapter of the agreed form, or cannot be trained.
        """
        reason = fault(arrays, self.shape)
        if reason:
            fix = "both sides must have the same model, and the same nacre"
            raise InputError(f"the adapter that came in does not fit: {reason}", where=f"round {number}", fix=fix)
        start = write_adapter(self.work / "start", self.form, arrays).changed(model=self.model.model)
        run = self.work / "run"
        shutil.rmtree(run, ignore_errors=True)  # another round's
        job = Job(
            start=start,
            previous=self.model if self.terms.fresh else start,
            recipe=self.terms.recipe(number),
            new=self.rows,
            work=run,
            shared=self.work / "memory",
            task=self.terms.task,
            base=self.terms.base,
        )
        trained = train(job)
        learned = read_adapter(trained.folder)
        shutil.rmtree(run, ignore_errors=True)
        return Answer(node=0, arrays=learned, rows=len(self.rows), loss=trained.final_loss)
