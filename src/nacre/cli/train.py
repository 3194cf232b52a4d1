"""`nacre train`: one run from folder to folder, in LlamaFactory's words."""

from collections.abc import Sequence

import typer

from nacre.cli.common import console, print_json

app = typer.Typer()


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def train(context: typer.Context) -> None:
    """Train from folder to folder: --model_name_or_path, --dataset, --output_dir, --prev_model … or a YAML/JSON file.

    Takes LlamaFactory's argument names (docs/articles.md lists them), key=value words, and --json for the result.
    """
    run(context.args)


def run(given: Sequence[str]) -> None:
    """Translate the arguments, train, and say what was done."""
    from nacre.cli.llamafactory import read_arguments, to_arguments, to_job
    from nacre.cycle.folder import train_folder

    words = [word for word in given if word != "--json"]
    job, notes = to_job(to_arguments(read_arguments(words), "the command line"))
    result = train_folder(job)
    if "--json" in given:
        trained = result.trained
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
    for note in (*notes, *result.notes):
        console.print(f"· {note}", markup=False)
    if result.trained is not None:
        console.print(
            f"{result.output}: {result.trained.steps} steps, loss {result.trained.final_loss:.4f}", markup=False
        )
