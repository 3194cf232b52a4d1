"""From accepted feedback to the next increment's files.

Three steps: note in the hidden folder which opinions become which increment, publish its folder, then mark the
opinions and write the event in one transaction. A kill leaves the note: the next harvest takes a published folder up.
"""

import json
import re
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from nacre.base.errors import InputError
from nacre.base.files import atomic_write, file_lock, staged_folder
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
        adopted = _adopt(workspace)
        if adopted and (name == adopted.name or not collect(workspace.ledger, task=adopted.name).examples):
            return adopted
        made = _harvest(workspace, _new_name(workspace, name))
        return replace(made, note=" ".join(filter(None, (adopted.note, made.note)))) if adopted else made


def interrupted(workspace: Workspace) -> bool:
    """Whether a harvest was killed half-way: the next one has something to take up."""
    return _noted(workspace).is_file()


def _noted(workspace: Workspace) -> Path:
    return workspace.hidden / "harvest.json"


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
    detail = {"increment": name, "train": len(train), "dev": len(dev)}
    atomic_write(_noted(workspace), canonical_json({"detail": detail, "ids": list(found.feedback_ids)}))
    with staged_folder(folder) as staging:
        _write(staging / "train.json", train)
        if dev:
            _write(staging / "dev.json", dev)
    workspace.ledger.export_feedback(found.feedback_ids, "harvested", "harvest", detail)
    _noted(workspace).unlink()
    return Harvested(name=name, folder=folder, train=len(train), dev=len(dev), left_out=dict(found.left_out), note=note)


def _adopt(workspace: Workspace) -> Harvested | None:
    """Take up what a killed harvest had published and not recorded; None where there is nothing of that kind."""
    noted = _noted(workspace)
    if not noted.is_file():
        return None
    found = json.loads(noted.read_text(encoding="utf-8"))
    detail = found["detail"]
    name, folder = detail["increment"], workspace.dataset_dir / detail["increment"]
    told = any(one.kind == "harvested" and one.detail["increment"] == name for one in workspace.ledger.events())
    adopted = None
    if folder.is_dir() and not told:
        there = {said.id for said in workspace.ledger.feedback()}
        ids = [number for number in found["ids"] if number in there]  # some may have been forgotten since
        workspace.ledger.export_feedback(ids, "harvested", "harvest", detail)
        note = f"{name} was written by a harvest that was killed, and is recorded now."
        adopted = Harvested(name, folder, detail["train"], detail["dev"], {}, note)
    noted.unlink()
    return adopted


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
