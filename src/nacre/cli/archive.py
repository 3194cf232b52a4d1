"""`nacre versions export` and `import`: what they print. The commands stand in `versions.py`."""

from pathlib import Path
from typing import TYPE_CHECKING

from nacre.cli.common import console, open_workspace, print_json, print_notes

if TYPE_CHECKING:
    from nacre.cycle.versions.archive import Moved


def export_to(number: int, file: Path, workspace: Path, *, with_rows: bool, with_base: bool, as_json: bool) -> None:
    """Export a version and say what was written."""
    from nacre.cycle.versions.archive import export_version

    with open_workspace(workspace) as space:
        found = export_version(space, number, file, with_rows=with_rows, with_base=with_base)
    _tell(found, f"version {number} was written to {file}", as_json=as_json)


def import_from(file: Path, workspace: Path, base_to: Path | None, actor: str, *, as_json: bool) -> None:
    """Import a version and say what became of it."""
    from nacre.cycle.versions.archive import import_version

    with open_workspace(workspace) as space:
        found = import_version(space, file, base_to=base_to, actor=actor)
    number, there = found.version.number, found.version.origin["version"]
    _tell(found, f"version {there} of {file.name} is version {number} here", as_json=as_json)


def _tell(found: "Moved", sentence: str, *, as_json: bool) -> None:
    from nacre.cycle.versions.collect import size

    if as_json:
        print_json({"version": found.version.number, "bytes": found.bytes, "notes": list(found.notes)})
        return
    console.print(f"{sentence} ({size(found.bytes)})", markup=False)
    print_notes({"archive": found.notes})
