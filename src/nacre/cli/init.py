"""`nacre init`: make a workspace."""

from pathlib import Path
from typing import Annotated

import typer

from nacre.cli.common import JsonOption, console, print_json, verb_app

app = verb_app()


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="folder of the workspace; made if it is not there")],
    model: Annotated[
        str, typer.Option(help="folder of the base model (Hugging Face layout), or a hub name in the cache")
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a workspace: nacre.yaml with one key, and dataset/base for the first skill."""
    from nacre.cycle.workspace import Workspace, local_folder

    found = Path(model).expanduser()
    chosen = str(found.resolve()) if found.is_dir() else model
    local_folder(chosen, Path.cwd())
    workspace = Workspace.init(folder, chosen)
    if as_json:
        print_json({"workspace": str(workspace.root), "model": workspace.settings.model})
        return
    base = workspace.dataset_dir / "base"
    console.print(f"made {workspace.root}")
    console.print(f"next: put train.json and dev.json into {base}, then: cd {folder} && nacre evolve base")
