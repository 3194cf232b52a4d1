"""The three commands of the articles, as entry points of `src/train_bash.py`, `src/evaluate.py`, `src/api_demo.py`."""

from pathlib import Path
from typing import Annotated

import typer

from nacre.cli import run as run_command
from nacre.cli.common import JsonOption, console, print_json

Model = Annotated[str, typer.Option("--model_name_or_path", help="model or adapter folder")]


def train_bash() -> None:
    """`train_bash.py`: the flags of `nacre train`."""
    from nacre.cli.train import run

    run_command(run)


def evaluate() -> None:
    """`evaluate.py --model_name_or_path M --eval_dataset dev_all.json`."""
    run_command(typer.main.get_command(_single(_evaluate)))


def api_demo() -> None:
    """`api_demo.py --model_name_or_path M --port 8000 --api_key K`."""
    run_command(typer.main.get_command(_single(_api_demo)))


def _single(function: object) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(function)  # type: ignore[type-var]  # any function with typed parameters
    return app


def _evaluate(
    model: Model,
    eval_dataset: Annotated[str, typer.Option("--eval_dataset", help="file with dev rows")] = "dev_all.json",
    dataset_dir: Annotated[Path, typer.Option("--dataset_dir", help="where it is looked for too")] = Path("dataset"),
    as_json: JsonOption = False,
) -> None:
    """New-task accuracy, old-task accuracy and latency per request."""
    from nacre.cli.evaluate import report_table
    from nacre.cycle.folder import evaluate_folder, newest_task

    reports = evaluate_folder(model, eval_dataset, dataset_dir)
    newest = newest_task(model) or list(reports)[-1]
    new = [report.mean for task, report in reports.items() if task == newest]
    old = [report.mean for task, report in reports.items() if task != newest]
    seconds = sorted(second for report in reports.values() for second in report.latency_s)
    found = {
        "new_task": newest,
        "new_task_accuracy": sum(new) / len(new) if new else None,
        "old_task_accuracy": sum(old) / len(old) if old else None,
        "latency_per_request_s": seconds[len(seconds) // 2] if seconds else None,
    }
    if as_json:
        print_json(found | {"tasks": {task: report.model_dump(mode="json") for task, report in reports.items()}})
        return
    console.print(report_table(model, reports))
    for name, value in found.items():
        shown = f"{value:.4f}" if isinstance(value, float) else value if value is not None else "none known"
        console.print(f"{name.replace('_', ' ')}: {shown}", markup=False)


def _api_demo(
    model: Model,
    host: Annotated[str, typer.Option(help="address")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port; 0 takes a free one")] = 8000,
    api_key: Annotated[list[str] | None, typer.Option("--api_key", help="key that clients must send")] = None,
) -> None:
    """An OpenAI-compatible API over one folder."""
    from nacre.base.config import parse
    from nacre.cycle.folder import folder_weights
    from nacre.serve.run import serve
    from nacre.serve.settings import Serve

    chosen = {"host": host, "port": port, "api_keys": tuple(api_key or ())}
    settings = parse(Serve, chosen, where="the command line")
    serve(folder_weights(model), settings, announce=lambda url: console.print(f"serving at {url}", markup=False))
