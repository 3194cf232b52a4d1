"""The evolution report of a version: gathered from the ledger, kept in the workspace, drawn as HTML or Markdown.

Artifacts are immutable and named by their hash, and much of a report is known only after the weights were published:
scores, verdict, decision. So a report lies beside the version, not in its artifact: ``.nacre/reports/<number>/`` holds
each state of the facts as ``<sha256>.json``, named by the hash of its bytes, `latest` names the newest, and
`report.html` is that one drawn. A report is written when the version was judged, and again whenever one is asked for
and something has changed since, a promotion say. It is kept when `nacre gc` collects the weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from nacre.base.errors import NacreError
from nacre.base.files import atomic_write
from nacre.base.hashing import sha256_text
from nacre.cycle.reports.facts import Evolved
from nacre.cycle.reports.gather import gather
from nacre.cycle.reports.markdown import to_markdown
from nacre.cycle.reports.page import to_html
from nacre.cycle.workspace import Workspace
from nacre.evaluate.matrix import Matrix
from nacre.evaluate.page import Lang

Format = Literal["html", "md", "json"]
FOLDER = "reports"
_LATEST = "latest"


def evolution_report(workspace: Workspace, number: int, lang: Lang = "both") -> str:
    """The report of a version as one HTML page of its own: no script, nothing fetched.

    Args:
        workspace: whose ledger.
        number: the version.
        lang: the language of the page's words; `both` can be switched.

    Raises:
        InputError: there is no such version.
    """
    return to_html(facts_of(workspace, number), lang=lang)


def facts_of(workspace: Workspace, number: int) -> Evolved:
    """What a report says now: the ledger's facts, and from the kept report what only that one still knows.

    Raises:
        InputError: there is no such version.
    """
    return gather(workspace, number, kept=kept_report(workspace, number), notes={})


def render(found: Evolved, kind: Format, lang: Lang = "both") -> str:
    """The facts as HTML, Markdown (which is in one language: `both` is English) or JSON."""
    if kind == "html":
        return to_html(found, lang=lang)
    if kind == "md":
        return to_markdown(found, lang="zh" if lang == "zh" else "en")
    return json.dumps(found.model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n"


def keep_report(
    workspace: Workspace,
    number: int,
    notes: Mapping[str, tuple[str, ...]] | None = None,
    *,
    matrix: Matrix | None = None,
) -> Path:
    """Write the report of a version beside it, if its facts have changed since the last time.

    Args:
        workspace: whose ledger, and in whose hidden folder it is kept.
        number: the version.
        notes: what the cycle said while it was made; None: as kept.
        matrix: of its line, where it has just been read; None: it is read now.

    Returns:
        The page.

    Raises:
        InputError: there is no such version.
        NacreError: the disk is full or cannot be written.
    """
    folder = _folder(workspace, number)
    found = gather(workspace, number, kept=kept_report(workspace, number), notes=notes or {}, matrix=matrix)
    text = found.to_json()
    sha, page = sha256_text(text), folder / "report.html"
    if _latest(folder) != sha or not page.is_file():
        atomic_write(folder / f"{sha}.json", text)
        atomic_write(page, to_html(found))
        atomic_write(folder / _LATEST, sha)
    return page


def keep_report_or_say(
    workspace: Workspace, number: int, notes: Mapping[str, tuple[str, ...]], *, matrix: Matrix | None = None
) -> tuple[str, ...]:
    """Keep the report of a version that is done and judged: what stands in its way is told, and undoes nothing."""
    try:
        page = keep_report(workspace, number, notes, matrix=matrix)
    except (NacreError, OSError) as error:
        what = error.what if isinstance(error, NacreError) else str(error)
        return (f"the report of version {number} was not kept: {what}; nacre report {number} writes it",)
    return (f"report: {page.relative_to(workspace.root)}",)


def kept_report(workspace: Workspace, number: int) -> Evolved | None:
    """The newest facts that were kept of a version; None where none were, or where they are not what they were.

    A file whose bytes do not have the hash it is named by was changed by somebody: nothing is taken from it.
    """
    folder = _folder(workspace, number)
    path = folder / f"{_latest(folder)}.json"
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    try:
        return Evolved.from_json(text) if sha256_text(text) == path.stem else None
    except ValueError:  # written by another nacre
        return None


def _folder(workspace: Workspace, number: int) -> Path:
    return workspace.hidden / FOLDER / str(number)


def _latest(folder: Path) -> str:
    path = folder / _LATEST
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
