"""The three commands of the articles, as entry points of `src/train_bash.py`, `src/evaluate.py`, `src/api_demo.py`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nacre.cli import guarded, run
from nacre.cli.common import JsonOption, console, print_json, print_notes, verb_app

Model = Annotated[str, typer.Option("--model_name_or_path", help="model or adapter folder")]


def train_bash() -> None:
    """`train_bash.py`: the flags of `nacre train`."""
    from nacre.cli.train import run as run_training

    guarded(lambda: run_training(sys.argv[1:], "train_bash.py"), sys.argv[1:])


def evaluate() -> None:
    """`evaluate.py --model_name_or_path M --eval_dataset dev_all.json`."""
    app = verb_app()
    app.command()(_evaluate)
    run(app, name="evaluate.py")


def api_demo() -> None:
    """`api_demo.py --model_name_or_path M --port 8000 --api_key K`."""
    app = verb_app()
    app.command()(_api_demo)
    run(app, name="api_demo.py")


def _evaluate(
    model: Model,
    eval_dataset: Annotated[str, typer.Option("--eval_dataset", help="file with dev rows")] = "dev_all.json",
    dataset_dir: Annotated[Path, typer.Option("--dataset_dir", help="where it is looked for too")] = Path("dataset"),
    as_json: JsonOption = False,
) -> None:
    """New-task accuracy, old-task accuracy and latency per request."""
    from nacre.cli.evaluate import report_table
    from nacre.cycle.increment.folder import evaluate_folder, learned_tasks
    from nacre.cycle.scores.judging import grouped_notes

    reports = evaluate_folder(model, eval_dataset, dataset_dir)
    lineage = learned_tasks(model)
    learned = lineage or list(reports)
    others = [task for task in reports if task not in learned]
    new = [reports[task].mean for task in learned[-1:] if task in reports]
    old = [reports[task].mean for task in learned[:-1] if task in reports]
    seconds = sorted(second for report in reports.values() for second in report.latency_s)
    found = {
        "new_task": learned[-1],
        "new_task_accuracy": new[0] if new else None,
        "old_task_accuracy": sum(old) / len(old) if old else None,
        "latency_per_request_s": seconds[len(seconds) // 2] if seconds else None,
        "not_learned": others,
    }
    if as_json:
        print_json(found | {"tasks": {task: report.model_dump(mode="json") for task, report in reports.items()}})
        return
    console.print(report_table(model, reports))
    guessed = [] if lineage else [f"{model} has no lineage record: the file's last task is taken for the new one"]
    print_notes({"scoring": [*guessed, *grouped_notes(reports)]})
    for name in ("new_task_accuracy", "old_task_accuracy", "latency_per_request_s"):
        value = found[name]
        shown = "not known: no such dev rows" if value is None else f"{value:.4f}"
        tasks = {"new_task_accuracy": learned[-1:], "old_task_accuracy": learned[:-1]}.get(name, [])
        which = f" ({', '.join(tasks)})" if tasks else ""
        console.print(f"{name.replace('_', ' ')}: {shown}{which}", markup=False)
    if others:
        console.print(f"this model has not learned {', '.join(others)}: in neither figure", markup=False)


def _api_demo(
    model: Model,
    host: Annotated[str, typer.Option(help="address")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port; 0 takes a free one")] = 8000,
    api_key: Annotated[list[str] | None, typer.Option("--api_key", help="key that clients must send")] = None,
) -> None:
    """An OpenAI-compatible API over one folder."""
    from nacre.base.config import parse
    from nacre.cycle.increment.folder import folder_weights
    from nacre.serve.run import serve
    from nacre.serve.settings import Serve

    chosen = {"host": host, "port": port, "api_keys": tuple(api_key or ())}
    settings = parse(Serve, chosen, where="the command line")
    serve(folder_weights(model), settings, announce=lambda url: console.print(f"serving at {url}", markup=False))
