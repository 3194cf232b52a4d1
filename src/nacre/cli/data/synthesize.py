"""`nacre data synthesize`: have a model make up rows, which wait for a person."""

from pathlib import Path
from typing import Annotated

import typer

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_to_write, print_json, print_notes


def synthesize(
    dataset: Annotated[str, typer.Argument(help="whose rows are shown to the model as examples")],
    config: Annotated[Path, typer.Option(help="YAML with url, model, key_env and so on (docs/composing.md)")],
    rows: Annotated[int, typer.Option(min=1, help="how many new rows")] = 50,
    queue: Annotated[str | None, typer.Option(help="name of the review queue", show_default="the dataset's")] = None,
    seed: Annotated[int, typer.Option(help="of which rows are shown when")] = 0,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Have rows made up by any OpenAI-compatible server; none is trained on before `nacre data review` accepts it."""
    from nacre.base.config import parse, read_yaml
    from nacre.cycle.rows.drafts import make
    from nacre.data.compose.synthesize import Endpoint

    data, text = read_yaml(config)
    endpoint = parse(Endpoint, data, where=str(config), text=text)
    with open_to_write(workspace) as space:
        found = make(space, dataset, rows, endpoint, queue=queue or Path(dataset).stem, seed=seed)
    if as_json:
        print_json(
            {
                "queue": found.queue,
                "added": found.added,
                "dropped": found.dropped,
                "requests": found.requests,
                "notes": list(found.notes),
            }
        )
        return
    console.print(f"{found.queue}: {found.added} rows wait for a person, {found.requests} requests", markup=False)
    print_notes({"rows": found.notes})
    console.print(f"next: nacre data review --queue {found.queue}", markup=False)
