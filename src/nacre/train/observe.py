"""Who looks on while a run trains: the budget's controller, and how far the model has moved."""

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import psutil
import torch

from nacre.records import Example, Recipe, Train
from nacre.train import processes
from nacre.train.budget import Controller, acts_while_training, set_aside
from nacre.train.diagnose import Seen, findings
from nacre.train.drift import Drift
from nacre.train.fit import Fitted
from nacre.train.job import Job
from nacre.train.memory import relief
from nacre.train.protect.base import Protection
from nacre.train.protect.build import kinds_of, start_of
from nacre.train.report import reporters
from nacre.train.sharding import CUTS_WEIGHTS, sharding_of

SILENT = ("rm", "clip")  # stages whose models say no tokens


def watch(job: Job) -> tuple[Job, dict[str, list[Example]]]:
    """The job without the rows that are watched instead of trained on, and those.

    Nothing is taken where there is no budget, or where nothing could be done about it. The new task's are taken out
    too: rows that were learned by heart once would seem forgotten by every later run.

    Raises:
        InputError: unknown protection or option, with the nearest known name.
    """
    if not job.max_drop or not _steerable(job):
        return job, {}
    kept, watched = set_aside({task: rows for task, rows in job.memory.items() if task in job.max_drop})
    new, _ = set_aside({job.task: job.new} if job.task in job.max_drop else {})
    return replace(job, memory={**job.memory, **kept}, new=new.get(job.task, job.new)), watched


def _steerable(job: Job) -> bool:
    """Whether one process can watch answers, and a protection that will act has a strength that can be changed."""
    settings, kinds = job.recipe.train, kinds_of(job)
    seen = settings.stage not in SILENT and sharding_of(settings) not in CUTS_WEIGHTS
    return seen and not any(kind.afresh for kind in kinds) and any(map(acts_while_training, kinds))


class Observers:
    """Built before anything is changed on the model, so that it knows what the model said at the start."""

    def __init__(
        self, job: Job, settings: Train, model: Any, tokenizer: Any, watched: Mapping[str, Sequence[Example]]
    ) -> None:
        self.job, self.settings, self.tokenizer, self.watched = job, settings, tokenizer, watched
        self.notes: list[str] = []
        self.findings: list[str] = []
        folder = job.work.parent.parent / "logs" / f"{job.task or 'run'}-{job.work.name}"
        self.reporters, said = reporters(settings.report_to if processes.is_main() else (), folder)
        self.notes += said
        self._fresh = start_of(job).adapter is None
        self.controller: Controller | None = None
        self._drift: Drift | None = None
        self._means = "the more, the more is forgotten"
        self._cut = sharding_of(settings) in CUTS_WEIGHTS
        if self._cut and job.max_drop:
            self.notes.append("budget: not watched, because no process holds the whole model")
        if settings.stage not in SILENT:
            longest, precision = settings.max_length, settings.precision
            self._drift = Drift(tokenizer, job.new, longest, fresh=self._fresh, precision=precision)
            if not self._cut:
                self._drift.begin(model)

    @property
    def callbacks(self) -> list[Controller | Drift]:
        """Those who must see the steps, and remember for a resumed run what they saw."""
        waiting = self._drift if self._cut else None  # for the moment when all processes ask together
        return [one for one in (self.controller, waiting) if one is not None]

    def steer(self, protections: Sequence[Protection]) -> None:
        """Let the budget's controller steer these protections, where there is something to watch and to steer."""
        apart = any(one.afresh for one in protections)
        if apart:
            self._means = "no alarm, because earlier tasks are not answered by the adapter that was trained"
        acts = any(acts_while_training(type(one)) for one in protections)
        if not self._cut and self.settings.stage not in SILENT and self.watched and acts and not apart:
            limits, longest = self.job.max_drop, self.settings.max_length
            self.controller = Controller(protections, self.watched, limits, self.tokenizer, longest, fresh=self._fresh)

    def conclude(self, fitted: Fitted, recipe: Recipe) -> float | None:
        """Measure the drift of the model that is kept; what was seen is in `notes` and `findings`."""
        model = fitted.model
        used, total = _memory()
        changes = None if self.settings.stage == "clip" else partial(relief, self.job, recipe, self.tokenizer)
        self.findings = findings(Seen(fitted.history, recipe, len(self.job.new), used, total, changes))
        if self.controller is not None:
            self.notes += self.controller.notes()
        drift = None
        if self._drift is not None:
            drift = self._drift.measure(model)
        if drift is not None:
            self.notes.append(
                f"drift: KL {drift:.3f} nats per answer token between before and after on new rows; {self._means}"
            )
        return drift


def _memory() -> tuple[int, int]:
    """(most bytes that were in use, bytes there are) of the device that trains."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, psutil.virtual_memory().total
