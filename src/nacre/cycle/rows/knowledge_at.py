"""Where the documents of a workspace are. Apart, because a server needs no more, and what counts questions is heavy."""

from nacre.cycle.workspace import Workspace
from nacre.serve.knowledge.snapshots import Where


def where(workspace: Workspace) -> Where:
    """Where its store is."""
    return Where(workspace.root, workspace.hidden / "knowledge", workspace.settings.knowledge)
