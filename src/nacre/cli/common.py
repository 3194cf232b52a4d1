"""Options and output that every verb shares."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="folder with nacre.yaml", show_default="this folder")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object instead of text")]
WhyOption = Annotated[str, typer.Option("--why", help="one sentence for the history")]
ActorOption = Annotated[str, typer.Option("--actor", help="who does it", envvar="USER")]

HERE = Path()
console = Console(highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=1))
