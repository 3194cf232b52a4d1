"""One call of the trainer, with the bar, the checkpoints and the protections' own state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from nacre.base.errors import NacreError
from nacre.base.progress import progress
from nacre.records import Train
from nacre.train.checkpoints import KeepState, MarkWhole, disk_errors_of_weights, remove_torn, restore_state
from nacre.train.protect.base import Protection
from nacre.train.rows import Prepared
from nacre.train.stages.base import Stage


@dataclass(frozen=True)
class Run:
    """Everything the trainer needs: what trains, on which rows, by whose rules, and who looks on."""

    stage: Stage
    arguments: Any
    model: Any
    tokenizer: Any
    prepared: Prepared
    protections: Sequence[Protection]
    callbacks: Sequence[TrainerCallback] = ()


class _Show(TrainerCallback):
    """Advances the bar."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(1)


def fit(run: Run, checkpoint: Path | None) -> list[dict[str, Any]]:
    """Run the trainer, from `checkpoint` on if there is one; returns its log, one entry for each logged step.

    Raises:
        NacreError: the disk is full; what was trained so far is kept as a checkpoint.
    """
    done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    work = Path(run.arguments.output_dir)
    with progress("training", run.prepared.steps) as advance:
        advance(done)
        trainer = run.stage.trainer(
            model=run.model,
            args=run.arguments,
            train_dataset=run.prepared.dataset,
            processing_class=run.tokenizer,
            callbacks=[_Show(advance), *run.callbacks, KeepState(run.protections), MarkWhole()],
            protections=run.protections,
        )
        trainer.remove_callback(PrinterCallback)  # the log goes to a file, the bar to the terminal
        try:
            with disk_errors_of_weights(work):
                if checkpoint:
                    restore_state(run.protections, checkpoint)
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except NacreError:
            remove_torn(work)  # a full disk needs the space
            raise
    return list(trainer.state.log_history)


def check_finite(model: Any, settings: Train) -> None:
    """Refuse a model that cannot answer any more.

    Raises:
        NacreError: a trained weight is no finite number.
    """
    if all(bool(weight.isfinite().all()) for weight in model.parameters() if weight.requires_grad):
        return
    raise NacreError(
        "training diverged: some weights are no finite numbers",
        where=f"learning_rate {settings.learning_rate:g}",
        fix="lower the learning rate",
    )
