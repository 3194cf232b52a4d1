"""An increment trained by several parties, from its dev rows to a judged version: rounds → score → gate → register.

The parties' rows are not here, so only dev rows are; all that follows the rounds is what follows every training.
"""

import math
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.base.files import file_lock, staged_folder
from nacre.cycle.increment.dev_all import keep_dev_all
from nacre.cycle.increment.evolution import Evolution
from nacre.cycle.increment.evolve import increment_rows, learn, line_to_grow
from nacre.cycle.increment.step import Promote, Step
from nacre.cycle.increment.tries import forget_rows
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.data.snapshot import keep_share, take_dev_snapshot
from nacre.model.load import load_tokenizer
from nacre.model.templates import adopt
from nacre.records import Federated, Federating, RowsFile, Snapshot, Version, Weights
from nacre.records.tune import Lora
from nacre.train.federated import part
from nacre.train.federated.noise import epsilon
from nacre.train.federated.party import Party
from nacre.train.federated.shares import deal
from nacre.train.federated.tensors import Arrays, meaning, new_adapter, read_adapter, write_adapter
from nacre.train.federated.terms import Terms, local_recipe, model_print
from nacre.train.job import Job, Trained
from nacre.train.log import write_log

KIB = 1024
ANYWHERE, LOCAL = ("0.0.0.0", "[::]"), ("127.0.0.1", "localhost", "[::1]")  # hosts to listen on


@dataclass(frozen=True)
class Seats:
    """Where real parties come to, and how long they are waited for.

    Attributes:
        address: host:port to listen on.
        parties: secrets by name; None: whoever comes may take part.
        certificate: PEM of key and certificate; None: nothing is encrypted.
        lost_after_s: who is silent for so long is not waited for.
        wait_s: for enough parties, before each round.
        timeout_s: for their answers, in each round.
    """

    address: str = "127.0.0.1:8440"
    parties: Mapping[str, str] | None = None
    certificate: tuple[bytes, bytes] | None = None
    lost_after_s: float = 60.0
    wait_s: float = 600.0
    timeout_s: float = 3600.0


@dataclass(frozen=True)
class Stage:
    """How simulated parties are played.

    Attributes:
        cast: the app of each party, by its number, as it takes part; to inject faults.
        tap: is shown the bytes of every message.
    """

    cast: Callable[[int, Any], Any] = lambda _, app: app
    tap: Callable[[bytes], None] = lambda _: None


@dataclass(frozen=True)
class Federation:
    """What `federate` did: the version as `evolve` would tell of it, and what came of each round."""

    evolution: Evolution
    federated: Federated

    @property
    def exit_code(self) -> int:
        """As `Evolution.exit_code`."""
        return self.evolution.exit_code

    def as_dict(self) -> dict[str, Any]:
        """The fields of ``--json``."""
        told = self.federated.model_dump(mode="json", exclude={"schema_version"})
        return {**self.evolution.as_dict(), "federated": told}


def federate(
    workspace: Workspace,
    name: str,
    how: Federating,
    *,
    seats: Seats | Stage | None = None,
    promote: Promote | None = None,
    parent: int | None = None,
    actor: str = "federate",
    tell: Callable[[str], None] = lambda _: None,
) -> Federation:
    """Have several parties learn increment `name`, judge what comes of it against the champion, and register it.

    Args:
        workspace: where the champion, the dev rows and the settings are.
        name: a folder of the dataset folder, with the dev rows to judge by; simulated parties share its train rows.
        how: rounds, aggregation, privacy.
        seats: where the parties come to; or how they are played, where `how` simulates some.
        promote: make the version champion when the gate passes it, or never; default: as `nacre.yaml` says.
        parent: train from this version instead of the champion; 0 is the base model.
        actor: who the history says did it.
        tell: is called with each sentence that is worth knowing on the way.

    Raises:
        InputError: the data, the model or a setting is wrong, or what was asked for contradicts itself.
        NacreError: too few parties, disk full, a damaged artifact, or another run in this workspace.
    """
    check(how)
    settings = workspace.settings
    recipe, said = local_recipe(settings.recipe, how.epochs)
    part("rounds")  # find out before anything is read whether Flower is there
    with file_lock(workspace.hidden / "evolve.lock", wait=False):
        workspace.store.sweep()
        champion, lineage = line_to_grow(workspace, name, parent)
        if how.simulated:
            snapshot = increment_rows(workspace, name, lineage, champion)
            snapshot = keep_share(snapshot, settings.keep.data, workspace.memory)
        else:
            snapshot = _dev_rows(workspace, name)
        step = Step(workspace, snapshot, lineage, champion, promote or settings.gate.promote, actor, recipe, tell=tell)
        together = _Together(step, how, seats or Seats(), tell, said)
        try:
            found = keep_dev_all(workspace, learn(step, together))
        finally:
            forget_rows(step)
    assert found.version.federated is not None
    return Federation(found, found.version.federated)


def check(how: Federating) -> None:
    """Refuse what cannot be had together.

    Raises:
        InputError: says why.
    """
    mean = how.aggregation == "mean"
    if how.secure and not mean:
        fix = "--aggregation mean, or leave --secure out"
        what = f"of masked answers only the sum can be read, and a {how.aggregation} looks at each of them"
        raise InputError(what, where="--secure", fix=fix)
    if how.secure and how.least < 3:
        what = "from the sum of two answers each party can take away its own"
        raise InputError(what, where="--secure", fix="--least 3 or more")
    if how.noise is not None and not mean:
        fix = "--aggregation mean"
        what = f"the noise is measured for a mean, and says nothing of a {how.aggregation}"
        raise InputError(what, where="--noise", fix=fix)
    if how.noise is not None and how.clip is None:
        fix = "say how long an update may be: --clip 1.0"
        raise InputError("noise hides nobody whose update may be as long as it likes", where="--noise", fix=fix)
    if how.skew is not None and not how.simulated:
        raise InputError("real parties have the rows that they have", where="--skew", fix="--simulate N")
    if how.simulated and how.simulated < how.least:
        what = f"{how.simulated} parties cannot give {how.least} answers"
        raise InputError(what, where="--simulate", fix="simulate more, or --least fewer")


def _dev_rows(workspace: Workspace, name: str) -> Snapshot:
    data = workspace.settings.data
    return take_dev_snapshot(
        name,
        workspace.dataset_dir,
        workspace.memory,
        stage=workspace.settings.train.stage,
        drop_budget=data.drop_budget,
    )


@dataclass(frozen=True)
class _Together:
    """Trains a job by rounds of parties, where `train` would do it alone."""

    step: Step
    how: Federating
    seats: Seats | Stage
    tell: Callable[[str], None]
    said: list[str]

    def __call__(self, job: Job) -> Trained:
        """See `nacre.train.run.train`."""
        started = time.perf_counter()
        tune = job.recipe.tune
        assert isinstance(tune, Lora)  # `local_recipe` has seen to that
        shutil.rmtree(job.work, ignore_errors=True)
        below = job.start.changed(adapter=None)
        below = below.changed(identity=model_print(Path(below.model), self.step.workspace.hidden / "fingerprints.json"))
        form = job.work / "form"
        first = _first(job, below, tune, form)
        terms = self._terms(job, below, tune)
        for note in self.said:
            self.tell(note)
        rounds, end = self._rounds(terms, below, job, sum(one.nbytes for one in first.values()))
        try:
            arrays, told = rounds.run(first)
        finally:
            end()
        counted = sum(bool(one.moved) for one in told)
        federated = Federated(how=self.how, parties=rounds.parties, rounds=tuple(told))
        federated = federated.changed(epsilon=epsilon(self.how.noise, counted, federated.delta))
        folder, notes = _result(job, form, arrays, federated)
        return Trained(
            folder=folder,
            kind="adapter",
            recipe=job.recipe,
            steps=len(told),
            seconds=time.perf_counter() - started,
            peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB,
            final_loss=next((one.loss for one in reversed(told) if one.loss is not None), math.nan),
            notes=(*self.said, *notes, *sentences(federated)),
            federated=federated,
        )

    def _terms(self, job: Job, below: Weights, tune: Lora) -> Terms:
        """What the parties are told."""
        assert job.recipe.protect != "auto"  # `local_recipe` has settled it
        memory, dev = self.step.workspace.memory, self.step.snapshot.dev
        known: list[RowsFile] = [file for _, file in devs(tasks_of(self._judged_by()))] + ([dev] if dev else [])
        return Terms(
            task=job.task,
            base=below.identity,
            tune=tune,
            train=job.recipe.train,
            protect=job.recipe.protect,
            fresh=job.start.adapter is None,
            clip=self.how.clip,
            secure=self.how.secure,
            held_out=tuple(sorted({row.content_id for file in known for row in read_rows(memory, file)})),
        )

    def _judged_by(self) -> list[Version]:
        """The versions whose tasks the result is judged on."""
        return [*self.step.lineage, *ancestry(self.step.workspace, self.step.against)]

    def _rounds(self, terms: Terms, below: Weights, job: Job, size: int) -> tuple[Any, Callable[[], None]]:
        """The rounds, ready to run, and what is to be done when they are over."""
        seats = self.seats
        if self.how.simulated:
            stage = seats if isinstance(seats, Stage) else Stage()
            shares = deal(job.new, self.how.simulated, self.how.skew, job.recipe.train.seed)
            parties = [Party(below, rows, terms, job.work / f"party-{place}") for place, rows in enumerate(shares, 1)]
            self.tell(f"{len(parties)} parties are played here, with {', '.join(str(len(one)) for one in shares)} rows")
            apps = {place: stage.cast(place, part("app")(one)) for place, one in enumerate(parties, 1)}
            return part("rounds")(self.how, part("simulate")(apps, stage.tap), self.tell), _nothing
        assert isinstance(seats, Seats)
        grid = part("listen")(
            seats.address,
            terms.model_dump_json(),
            size,
            parties=seats.parties,
            certificate=seats.certificate,
            lost_after_s=seats.lost_after_s,
            tell=self.tell,
        )
        host = seats.address.rpartition(":")[0]
        host = "THIS_MACHINE" if host in ANYWHERE else host
        secret = " --party NAME --secret FILE" if seats.parties is not None else ""
        safe = " --certificate PEM" if seats.certificate is not None else "" if host in LOCAL else " --insecure"
        words = f"nacre federate join {host}:{grid.port} --data ROWS --model BASE_MODEL{secret}{safe}"
        self.tell(f"waiting for {self.how.least} parties: {words}")
        return part("rounds")(self.how, grid, self.tell, seats.wait_s, seats.timeout_s), grid.close


def _nothing() -> None:
    """Nobody waits for the end."""


def _first(job: Job, below: Weights, tune: Lora, form: Path) -> Arrays:
    """The adapter that the first round starts from; `form` gets one of the agreed form.

    Raises:
        InputError: the start carries an adapter that is another one than `tune` makes.
    """
    if job.start.several:
        fix = "federate from a version with one adapter or none: --from 0 is the base model"
        what = f"what training starts from is {job.start.several}, and parties bring together one"
        raise InputError(what, where=str(job.start.adapter), fix=fix)
    new_adapter(below, tune, form, job.recipe.train.seed)
    fresh = read_adapter(form)
    if job.start.adapter is None:
        return fresh
    found, config = read_adapter(job.start.adapter), meaning(job.start.adapter)
    shapes = {name: one.shape for name, one in found.items()}
    if shapes != {name: one.shape for name, one in fresh.items()} or config != meaning(form):
        raise InputError(
            f"the version that training starts from carries another adapter than tune asks for: {config}",
            where="tune",
            fix="set rank, alpha and target in tune as that version has them, or start from a version without one",
        )
    return found


def _result(job: Job, form: Path, arrays: Arrays, federated: Federated) -> tuple[Path, list[str]]:
    """A folder like that of a training: adapter, tokenizer, log; and what was decided about the template."""
    folder = job.work / "result"
    written = job.work / "written"
    write_adapter(written, form, arrays)
    tokenizer = load_tokenizer(job.start)
    notes = adopt(tokenizer, job.recipe.train.template)
    history: list[dict[str, Any]] = [
        {"step": number, "moved": one.moved} | ({} if one.loss is None else {"loss": one.loss})
        for number, one in enumerate(federated.rounds, 1)
    ]
    with staged_folder(folder) as staging:
        shutil.copytree(written, staging, dirs_exist_ok=True)
        tokenizer.save_pretrained(str(staging))
        write_log(staging, history)
    return folder, notes


def sentences(told: Federated) -> list[str]:
    """What the rounds came to, for the notes and the report."""
    how = told.how
    counted = [one for one in told.rounds if one.moved]
    cut = f", {how.trimmed:.0%} cut off on each side" if how.aggregation == "trimmed-mean" else ""
    masked = ", masked: the server saw the sum alone" if how.secure else ""
    played = f", simulated on shares drawn with {how.skew:g}" if how.skew else ", simulated" if how.simulated else ""
    said = [
        f"{told.parties} parties, {len(counted)} of {len(told.rounds)} rounds counted, {how.aggregation}{cut}{masked}"
        f"{played}"
    ]
    refused: dict[str, int] = {}
    for one in told.rounds:
        for reason, count in one.refused.items():
            refused[reason] = refused.get(reason, 0) + count
    said += [f"{count} answers were refused: {reason}" for reason, count in refused.items()]
    if silent := sum(one.silent for one in told.rounds):
        said.append(f"{silent} answers did not come")
    if told.epsilon is not None:
        said.append(
            f"noise {how.noise:g} on updates clipped to {how.clip:g}: a party as a whole is hidden with epsilon "
            f"{told.epsilon:.3g} at delta {told.delta:g}"
        )
    return said
