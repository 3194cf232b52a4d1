"""`nacre train`: one run from folder to folder, in LlamaFactory's words."""

from collections.abc import Sequence

import typer
from rich.table import Table

from nacre.cli.common import console, print_json, print_notes, verb_app

app = verb_app()


# --help stays among the arguments, so that all of them can be listed
@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def train(context: typer.Context) -> None:
    """Train from folder to folder: --model_name_or_path, --dataset, --output_dir, --prev_model … or a YAML/JSON file.

    Takes LlamaFactory's argument names (docs/articles.md lists them), key=value words, and --json for the result.
    """
    run(context.args)


def run(given: Sequence[str], name: str = "nacre train") -> None:
    """Translate the arguments, train, and say what was done."""
    from nacre.cli.llamafactory import read_arguments, to_arguments, to_job

    if not given or "--help" in given or "-h" in given:
        _help(name)
        raise SystemExit(0 if given else 2)
    job, notes = to_job(to_arguments(read_arguments([word for word in given if word != "--json"]), "the command line"))

    from nacre.cycle.folder import train_folder

    result = train_folder(job)
    trained = result.trained
    if "--json" in given:
        print_json(
            {
                "output_dir": str(result.output),
                "trained": trained is not None,
                "train_loss": trained.final_loss if trained else None,
                "train_seconds": trained.seconds if trained else 0.0,
                "steps": trained.steps if trained else 0,
                "peak_rss_bytes": trained.peak_rss_bytes if trained else 0,
                "notes": [*notes, *result.notes],
            }
        )
        return
    print_notes({"arguments": notes, "training": result.notes})
    if trained is not None:
        console.print(f"{result.output}: {trained.steps} steps, loss {trained.final_loss:.4f}", markup=False)


def _help(name: str) -> None:
    """Every argument with its default and meaning."""
    from nacre.cli.llamafactory import ALIASES, SWITCHES, Arguments

    console.print(
        f"\n Usage: {name} [FILE.yaml | FILE.json] [--ARGUMENT VALUE | ARGUMENT=VALUE] … [--json]\n", markup=False
    )
    console.print(" Train from folder to folder. The names are LlamaFactory's, and those that the articles use.\n")
    table = Table("argument", "default", "meaning", box=None, padding=(0, 2, 0, 0))
    for argument, field in Arguments.model_fields.items():
        also = ", ".join(f"--{alias}" for alias, meant in ALIASES.items() if meant == argument)
        default = "needed" if field.is_required() else "" if field.default is None else str(field.default)
        meaning = "; ".join(filter(None, (field.description, f"also {also}" if also else "")))
        table.add_row(f"--{argument}", "off" if argument in SWITCHES and not field.default else default, meaning)
    console.print(table)
