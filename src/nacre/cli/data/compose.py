"""`nacre data compose`: one file out of several datasets, in a stated ratio."""

from pathlib import Path
from typing import Annotated

import typer

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, print_json, print_notes


def compose(
    config: Annotated[Path, typer.Option(help="YAML: sources, weights, balance and so on (docs/composing.md)")],
    out: Annotated[Path, typer.Option(help="JSON lines to write")],
    dev_out: Annotated[
        Path | None, typer.Option(help="write the sources' dev rows too, with the same demonstrations")
    ] = None,
    dataset_dir: Annotated[Path, typer.Option(help="where the datasets are")] = Path("dataset"),
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Mix datasets by weight, balance classes, augment, put demonstrations into prompts, order; origins stay.

    Rows like any dev row of the datasets or of the workspace's ledger are left out.
    """
    from nacre.base.config import parse, read_yaml
    from nacre.cycle.rows.past_dev import gather_dev
    from nacre.data.compose.mixture import Composition
    from nacre.data.compose.mixture import compose as compose_file

    data, text = read_yaml(config)
    settings = parse(Composition, data, where=str(config), text=text)
    past, said = gather_dev(workspace, dataset_dir, {dev_out.resolve()} if dev_out else set())
    found = compose_file(settings, dataset_dir, out, past=past, dev_out=dev_out)
    found = found.changed(notes=(*found.notes, *said))
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    console.print(f"{found.out}: {found.rows} rows", markup=False)
    for name, count in found.sources.items():
        console.print(f"· {name}: {count}", markup=False)
    if dev_out:
        console.print(f"{dev_out}: {found.dev} dev rows", markup=False)
    print_notes({"compose": found.notes})
