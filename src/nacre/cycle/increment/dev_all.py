"""`dev_all.json` beside the increments: the dev rows of every task ever taught, kept up to date."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nacre.base.errors import NacreError
from nacre.base.files import disk_errors
from nacre.cycle.increment.evolution import Evolution
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.workspace import Workspace
from nacre.data.all_dev import read_dev_all, write_dev_all
from nacre.data.rows import read_rows
from nacre.records import Example

DEV_ALL = "dev_all.json"


def extend_dev_all(dataset_dir: Path, devs_by_task: Mapping[str, Sequence[Example]]) -> str:
    """Put these tasks' dev rows into `dev_all.json` beside those it has; returns a sentence about it.

    A file that cannot be read or written is left as it is, and the sentence says why. Where nothing is to be added,
    nothing is written, and the sentence is empty.
    """
    path = dataset_dir / DEV_ALL
    if not dataset_dir.is_dir():
        if not any(devs_by_task.values()):
            return ""
        return f"there is no folder {dataset_dir} to put {DEV_ALL} into; evaluate.py makes it from the lineage record"
    try:
        before = read_dev_all(path) if _has_rows(path) else {}
        whole = {task: rows for task, rows in {**before, **devs_by_task}.items() if rows}
        if _contents(before) == _contents(whole):
            return ""
        if not whole:  # all that the file had is forgotten
            with disk_errors(path):
                path.unlink()
            return f"no dev rows are left, so {path} is gone"
        write_dev_all(path, whole)
    except NacreError as error:
        return f"{path} was left as it is: {error.what} ({error.where})"
    return f"the dev rows of {len(whole)} task(s) are in {path}: {', '.join(whole)}"


def keep_dev_all(workspace: Workspace, found: Evolution) -> Evolution:
    """Bring the workspace's `dev_all.json` up to date with what a version and those before it were taught.

    Returns:
        The same evolution, with a note where the file changed or could not be written.
    """
    line = ancestry(workspace, found.version.number)
    rows = {name: read_rows(workspace.memory, dev) for name, dev in devs(tasks_of(line))}
    note = extend_dev_all(workspace.dataset_dir, rows) if rows else ""
    return replace(found, notes={**found.notes, "data": (*found.notes.get("data", ()), note)}) if note else found


def _has_rows(path: Path) -> bool:
    """Whether there is a file that holds anything; an empty one is as good as none."""
    with disk_errors(path):
        return path.exists() and not (path.is_file() and not path.read_bytes().strip())


def _contents(tasks: Mapping[str, Sequence[Example]]) -> dict[str, list[str]]:
    return {task: [row.content_id for row in rows] for task, rows in tasks.items()}
