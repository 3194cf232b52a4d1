"""The data report of an increment, as the admin API asks for it. Apart: what it measures with takes long to import."""

from nacre.base.errors import unknown
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.workspace import Workspace
from nacre.data.dataset import resolve
from nacre.data.dataset_info import read_info
from nacre.data.report.build import Earlier, Rows, report_on
from nacre.data.report.page import to_html
from nacre.data.rows import read_rows


def data_report(workspace: Workspace, name: str, lang: str) -> str:
    """As a page in `en` or `zh`, compared with what the champion's line learned before it.

    Raises:
        InputError: there is no such increment, or its rows cannot be read.
    """
    names = increments(workspace)
    if name not in names:
        raise unknown("increment", name, names, where="the request")
    files = resolve(name, workspace.dataset_dir)
    earlier: list[Earlier] = []
    champion = workspace.ledger.slot("champion")
    for learned in tasks_of(ancestry(workspace, champion.version if champion else None)).values():
        if learned.name == files.task:
            break
        earlier.append(
            Earlier(learned.name, (row for file in learned.train for row in read_rows(workspace.memory, file)))
        )
    return to_html(report_on(name, Rows([files]), earlier), lang="zh" if lang == "zh" else "en")


def increments(workspace: Workspace) -> list[str]:
    """Names of the datasets of the workspace."""
    folder = workspace.dataset_dir
    folders = [one.name for one in folder.iterdir() if any(one.glob("train.*"))] if folder.is_dir() else []
    return sorted({*folders, *read_info(folder)})
