"""The stage that harvested rows are trained in: pairs and judged answers are no answers to learn."""

import json

from nacre.base.errors import InputError
from nacre.cycle.workspace import Workspace
from nacre.data.dataset import split_names

REPORT = "harvest.json"


def staged(workspace: Workspace, name: str) -> Workspace:
    """The workspace with `train.stage` as the harvest of this increment needs it; itself for other increments.

    Raises:
        InputError: increments of several stages are asked for at once, or the file of the harvest cannot be read.
    """
    stages = {part: stage_of(workspace, part) for part in split_names(name)}
    if len(set(stages.values())) > 1:
        told = ", ".join(f"{part}: {stage}" for part, stage in stages.items())
        raise InputError("these are trained in different stages", where=told, fix="learn one after another")
    stage = next(iter(stages.values()))
    settings = workspace.settings
    if not stage or settings.train.stage == stage:
        return workspace
    train = settings.train.model_copy(update={"stage": stage})
    return workspace.under(settings.model_copy(update={"train": train}))


def stage_of(workspace: Workspace, name: str) -> str:
    """The stage of a harvested increment; empty for any other, and for rows that are learned as answers."""
    path = workspace.dataset_dir / name / REPORT
    if not path.is_file():
        return ""
    try:
        stage = str(json.loads(path.read_text(encoding="utf-8"))["stage"])
    except (ValueError, KeyError, TypeError):
        fix = 'write {"stage": "sft"}, dpo or kto; or delete it'
        raise InputError("the file of the harvest cannot be read", where=str(path), fix=fix) from None
    return stage if stage in ("dpo", "kto") else ""
