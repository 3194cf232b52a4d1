"""One call of the trainer, with the bar, the checkpoints and the protections' own state."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from nacre.base.errors import NacreError
from nacre.base.progress import progress
from nacre.model.pictures import sees
from nacre.records import Train
from nacre.records.tune import Full, Tune
from nacre.train import processes
from nacre.train.arguments import autocast_of, halve_frozen
from nacre.train.budget import Controller
from nacre.train.checkpoints import KeepState, MarkWhole, Stateful, disk_errors_of_weights, remove_torn, restore_state
from nacre.train.drift import Drift
from nacre.train.log import Clock, LiveLog
from nacre.train.padding import unpadded
from nacre.train.protect.base import Protection
from nacre.train.rows import Prepared
from nacre.train.stages.base import Stage
from nacre.train.trunk import trunk_for
from nacre.train.tuner import companions, set_optimizer
from nacre.train.validation import Validation


@dataclass(frozen=True)
class Run:
    """Everything the trainer needs: what trains, on which rows, by whose rules, and who looks on.

    `shared` is the folder for files that outlive the run.
    """

    stage: Stage
    arguments: Any
    model: Any
    tokenizer: Any
    prepared: Prepared
    protections: Sequence[Protection]
    watching: Sequence[Controller | Drift] = ()
    tune: Tune = field(default_factory=Full)
    validation: Validation | None = None
    reporters: Sequence[TrainerCallback] = ()
    settings: Train = field(default_factory=Train)
    shared: Path | None = None


@dataclass(frozen=True)
class Fitted:
    """What the trainer leaves.

    Attributes:
        history: its log, one entry for each logged step.
        model: what was trained.
        weights: where no process has the whole model: its weights by name on process 0, empty on the others.
        notes: what was done to compute less.
    """

    history: list[dict[str, Any]]
    model: Any
    weights: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


class _Show(TrainerCallback):
    """Advances the bar."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(1)


def fit(run: Run, checkpoint: Path | None) -> Fitted:
    """Run the trainer, from `checkpoint` on if there is one.

    Raises:
        NacreError: the disk is full; what was trained so far is kept as a checkpoint.
    """
    done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    work = Path(run.arguments.output_dir)
    looking = run.validation.callbacks(work, run.prepared) if run.validation else []
    gathering: list[Stateful] = [*run.protections, *run.watching]
    own = [*companions(run.model, run.tune, checkpoint), *looking]
    with progress("training", run.prepared.steps) as advance:
        advance(done)
        trainer = run.stage.trainer(
            model=run.model,
            args=run.arguments,
            train_dataset=run.prepared.dataset,
            processing_class=run.tokenizer,
            callbacks=[
                _Show(advance),
                Clock(run.prepared.passes),
                LiveLog(work),
                *run.watching,
                *own,
                *run.reporters,
                KeepState(gathering),
                MarkWhole(),
            ],
            protections=run.protections,
            validation=run.validation.tables if run.validation else {},
        )
        assert bool(run.arguments.fsdp) == trainer.is_fsdp_enabled, "accelerate shares the model as it was told to"
        set_optimizer(trainer, run.tune)
        trainer.parts = run.prepared.parts
        trainer.remove_callback(PrinterCallback)  # the log goes to a file, the bar to the terminal
        notes: list[str] = []
        try:
            with disk_errors_of_weights(work), _frugal(run, notes):
                if checkpoint:
                    restore_state(gathering, checkpoint)
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except NacreError:
            if processes.is_main():
                remove_torn(work)  # a full disk needs the space
            raise
    notes += getattr(trainer, "told", ())  # of stages whose trainer scores answers beside the model
    return Fitted(list(trainer.state.log_history), run.model, processes.whole_weights(trainer), tuple(notes))


@contextmanager
def _frugal(run: Run, notes: list[str]) -> Iterator[None]:
    """While the block runs, nothing is computed of padding, or anew of layers that do not train.

    Processes that hold parts of a layer must call it equally often, so they take their batches whole; encoders, and
    decoders that are handed embeddings with pictures in them, read a batch as it is.
    """
    sighted = sees(run.model.config.model_type)
    if run.arguments.deepspeed or run.arguments.fsdp or not run.stage.speaks or sighted:
        yield
        return
    if run.arguments.bf16 and run.model.device.type == "cpu":
        halve_frozen(run.model, run.tune)
    with ExitStack() as stack:
        with autocast_of(run.settings.precision):
            trunk, told = None, ""
            if run.shared is not None:
                trunk, told = trunk_for(run.model, run.settings, run.prepared, run.shared)
            how = stack.enter_context(unpadded(run.model, trunk))
        notes += [said for said in (how, told) if said]
        if trunk is not None:
            stack.callback(trunk.close)
        try:
            yield
        finally:
            notes += [str(trunk)] if trunk is not None else []


def check_finite(weights: Mapping[str, Any], settings: Train) -> None:
    """Refuse a model that cannot answer any more.

    Raises:
        NacreError: a trained weight is no finite number.
    """
    if all(bool(weight.isfinite().all()) for weight in weights.values() if weight.is_floating_point()):
        return
    raise NacreError(
        "training diverged: some weights are no finite numbers",
        where=f"learning_rate {settings.learning_rate:g}",
        fix="lower the learning rate",
    )
