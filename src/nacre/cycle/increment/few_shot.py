"""A skill out of few rows: a small adapter on a rounded base, many passes, rows in other words, and an early stop.

It is one increment under settings that suit few rows, so it makes one version, which is judged like any other. Rows are
made of train rows alone, after those that decide about stopping were set aside; dev rows stay as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

from nacre.base.config import parse
from nacre.base.errors import InputError
from nacre.cycle.increment.evolution import Evolution
from nacre.cycle.increment.evolve import evolve
from nacre.cycle.increment.step import Promote
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.reports.report import keep_report_or_say
from nacre.cycle.workspace import Workspace
from nacre.gate.budget import ASSUMED_PSI, LARGEST, Ability
from nacre.records import RowsFile, Train
from nacre.records.tune import Lora, QLora, Tune
from nacre.train.validation import HELD_ROWS


@dataclass(frozen=True)
class FewShot:
    """What is asked for.

    Attributes:
        increment: whose rows.
        rows: learn at most so many of its train rows, of each class in proportion.
        epochs: passes over them, and over what was made of them.
        typos: share of the letters that are mistyped in the twins of half of the rows; 0: no twins.
        templates: other words, around `{question}`, in which each row is learned once more.
        patience: stop after so many passes without a lower loss on rows set aside; 0: never.
    """

    increment: str
    rows: int = 200
    epochs: float = 10.0
    typos: float = 0.1
    templates: tuple[str, ...] = ()
    patience: int = 3


def few_shot(
    workspace: Workspace,
    asked: FewShot,
    *,
    promote: Promote | None = None,
    actor: str = "recipe few-shot",
    tell: Callable[[str], None] = lambda _: None,
) -> Evolution:
    """Learn an increment of few rows on top of the champion.

    Args:
        workspace: where it is.
        asked: the rows, and how they are learned.
        promote: make the version champion when the gate passes it, or never; default: as `nacre.yaml` says.
        actor: who the history says did it.
        tell: is called with each sentence that is worth knowing before the training.

    Raises:
        InputError: a setting or the increment is wrong; nothing was trained.
        NacreError: disk full, a damaged artifact, or another run in this workspace.
    """
    settings = workspace.settings
    if settings.train.stage != "sft":
        what = f"the recipe learns rows with answers, and the settings say {settings.train.stage}"
        raise InputError(what, where="train.stage", fix="take the key out of nacre.yaml")
    tune, told = tuner_for(settings.tune)
    train, said = settings_for(settings.train, asked)
    space = workspace.under(settings.model_copy(update={"tune": tune, "train": train}))
    found = evolve(space, asked.increment, promote=promote, actor=actor, tell=tell, rows=asked.rows)
    notes = (*told, *said, *_able(workspace, found))
    found = replace(found, notes={**found.notes, "few rows": notes})
    if found.trained:
        keep_report_or_say(workspace, found.version.number, found.notes)
    return found


def tuner_for(tune: Tune) -> tuple[Tune, list[str]]:
    """QLoRA; LoRA where the base cannot be rounded here; what the settings say, if that is one of these already."""
    if isinstance(tune, QLora | Lora):
        return tune, [f"{tune.name}: as the settings say"]
    if find_spec("bitsandbytes") is None:
        fix = "pip install 'nacre[qlora]' brings it"
        return _SMALL, [f"lora instead of qlora: bitsandbytes, which rounds the base, is not installed; {fix}"]
    return QLora(**_SMALL.model_dump(exclude={"name", "init"})), []


_SMALL = Lora(rank=8, alpha=32, dropout=0.05)


def settings_for(train: Train, asked: FewShot) -> tuple[Train, list[str]]:
    """The settings of a run of few rows.

    Raises:
        InputError: one of them cannot be.
    """
    patience: int | None = asked.patience or None
    notes = []
    if patience and asked.rows < 2 * HELD_ROWS:
        patience = None
        notes.append(f"no early stop: of {asked.rows} rows {HELD_ROWS} cannot be set aside; {2 * HELD_ROWS} are enough")
    changed = {
        "epochs": asked.epochs,
        "early_stopping": patience,
        "eval_steps": "epoch",
        "typos": asked.typos,
        "templates": asked.templates,
    }
    checked: Train = parse(Train, train.model_dump() | changed, where="nacre recipe few-shot")
    return checked, notes


def _able(workspace: Workspace, found: Evolution) -> list[str]:
    """What the dev rows can show, where that is too little for the gate."""
    number = found.version.number
    line = ancestry(workspace, number)
    own = dict(devs(tasks_of(line)))
    task = found.version.snapshot.task
    if task not in own:
        what = f"{task}: it has no dev rows, so nothing shows what was learned, and no later version is held to it"
        return [what]
    told = [_short(workspace, name, dev, len(own), new=name == task) for name, dev in own.items()]
    return [one for one in told if one]


def _short(workspace: Workspace, name: str, dev: RowsFile, tasks: int, *, new: bool) -> str:
    """A sentence about a task whose dev rows are too few for the largest margin that the gate chooses by itself."""
    able = Ability(dev.rows, ASSUMED_PSI, True, workspace.settings.gate, tasks)
    keep = workspace.settings.keep
    asked = keep.tasks.get(name, keep.max_drop)
    margin = LARGEST if asked == "auto" else asked
    if margin <= 0 or (dev.rows >= 2 and able.smallest <= margin):
        return ""
    whose = "the gate of the next increments cannot decide on it" if new else "the gate may not be able to decide on it"
    return (
        f"{name}: {dev.rows} dev rows are too few: {whose}; for a margin of {margin:.2f} it takes about "
        f"{able.rows_for(margin)}, if {ASSUMED_PSI:.0%} of the answers change"
    )
