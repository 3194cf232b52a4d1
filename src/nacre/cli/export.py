"""`nacre export`: a version for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nacre.cli.common import (
    HERE,
    JsonOption,
    WorkspaceOption,
    console,
    open_workspace,
    print_json,
    print_notes,
    verb_app,
)

if TYPE_CHECKING:
    from nacre.cycle.versions.export import Written

app = verb_app()

PrecisionOption = Annotated[
    str | None, typer.Option(help="in what the weights are written: int8, float16 …", show_default="the form's own")
]
BoundOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="least share of equal greedy tokens", show_default="what the precision may cost"),
]


@app.command()
def export(
    version: Annotated[int, typer.Argument(min=0, help="version number; 0 is the base model")],
    to: Annotated[str, typer.Option(help="hf, gguf, ctranslate2, openvino, ollama, lm-eval or triton")],
    out: Annotated[Path, typer.Option(help="folder to write; must be empty or not there")],
    precision: PrecisionOption = None,
    bound: BoundOption = None,
    adapter: Annotated[bool, typer.Option("--adapter", help="hf: the adapter alone, not added to the weights")] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a version in another program's form, read it back, and compare its answers with the version's.

    Exit code 1: it does not answer as the version does within the bound; then nothing is kept.
    """
    from nacre.cycle.versions.export import Wish, export_as

    with open_workspace(workspace) as space:
        found = export_as(space, version, Wish(to, precision, bound, adapter), out)
    _tell(found, to, as_json=as_json)


def _tell(found: "Written", to: str, *, as_json: bool) -> None:
    from nacre.cycle.versions.collect import size

    compared, bound = found.compared, found.bound
    if as_json:
        print_json(
            {
                "version": found.version,
                "to": to,
                "folder": str(found.folder),
                "precision": found.precision,
                "bytes": found.bytes,
                "compared": {
                    "prompts": compared.prompts,
                    "tokens": compared.tokens,
                    "equal_tokens": compared.equal_tokens,
                    "equal_answers": compared.equal_answers,
                    "nats_per_token": compared.nats,
                },
                "bound": {"equal_tokens": bound.tokens, "nats_per_token": bound.nats},
                "notes": list(found.notes),
            }
        )
        return
    console.print(
        f"version {found.version} is in {found.folder} ({to}, {found.precision}, {size(found.bytes)})", markup=False
    )
    console.print(
        f"{compared.equal_tokens:.1%} of {compared.tokens} greedy tokens equal (bound {bound.tokens:.1%}), "
        f"{compared.equal_answers:.0%} of {compared.prompts} answers to the last token, "
        f"{compared.nats:+.4f} nats a token (bound {bound.nats:g})",
        markup=False,
    )
    print_notes({"export": found.notes})
