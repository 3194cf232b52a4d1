"""From accepted feedback to the next increment's files."""

import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from nacre.base.errors import InputError
from nacre.base.files import file_lock, staged_folder
from nacre.base.hashing import canonical_json
from nacre.cycle.workspace import Workspace
from nacre.data.dataset_info import read_info
from nacre.data.snapshot import split_dev
from nacre.feedback.curation import collect
from nacre.records import Example


@dataclass(frozen=True)
class Harvested:
    """The new increment: its name, where it lies, and what was left out and why."""

    name: str
    folder: Path
    train: int
    dev: int
    left_out: dict[str, int]
    note: str


def harvest(workspace: Workspace, name: str | None = None) -> Harvested:
    """Write accepted feedback as ``dataset/feedback_N/`` and mark it as used.

    Raises:
        InputError: there is no feedback to learn from, or `name` is taken or cannot name a folder.
        NacreError: another harvest is at work.
    """
    with file_lock(workspace.hidden / "harvest.lock", wait=False):
        return _harvest(workspace, _new_name(workspace, name))


def _harvest(workspace: Workspace, name: str) -> Harvested:
    folder = workspace.dataset_dir / name
    found = collect(workspace.ledger, task=name)
    if not found.examples:
        left = ", ".join(f"{count}: {reason}" for reason, count in found.left_out.items())
        raise InputError(
            "there is no feedback to learn from",
            where=f"left out: {left}" if left else "no feedback yet",
            fix="serve the model and collect corrections or four-star answers at /v1/feedback",
        )
    train, dev, note = split_dev(list(found.examples), workspace.settings.data.dev_share)
    with staged_folder(folder) as staging:
        _write(staging / "train.json", train)
        if dev:
            _write(staging / "dev.json", dev)
    workspace.ledger.mark_feedback(found.feedback_ids, "exported")
    workspace.ledger.record("harvested", "harvest", {"increment": name, "train": len(train), "dev": len(dev)})
    return Harvested(name=name, folder=folder, train=len(train), dev=len(dev), left_out=dict(found.left_out), note=note)


def _new_name(workspace: Workspace, wanted: str | None) -> str:
    """The name asked for, or the next of feedback_1, feedback_2 …; none that means other data already."""
    info = read_info(workspace.dataset_dir)
    known = {path.name for path in workspace.dataset_dir.glob("*")} | set(info)
    if wanted is None:
        return next(name for name in map("feedback_{}".format, count(1)) if name not in known)
    if wanted in known:
        where = str(workspace.dataset_dir / wanted)
        raise InputError("an increment of this name exists", where=where, fix="choose another --name")
    if not re.fullmatch(r"\w[\w.-]*", wanted):
        raise InputError("this cannot name a folder", where=f"--name {wanted}", fix="use letters, digits, - and _")
    return wanted


def _write(path: Path, examples: list[Example]) -> None:
    """Messages, one row a line: what the training data of other tools looks like too."""
    rows = []
    for example in examples:
        system = [{"role": "system", "content": example.system}] if example.system else []
        turns = [{"role": turn.role, "content": turn.content} for turn in (*example.prompt, *example.answers)]
        rows.append(f"{canonical_json({'messages': system + turns})}\n")
    path.write_text("".join(rows), encoding="utf-8")
