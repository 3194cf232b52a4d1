"""Run tasks of lm-evaluation-harness on a loaded model. The harness is an optional dependency, imported here alone."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError, nearest
from nacre.base.plugins import Table

EXTRA = "lm-eval"
PARTS = Table(  # importing them takes many seconds, so that is done when they are asked for
    "part of lm-eval",
    {
        "evaluate": "lm_eval.evaluator:simple_evaluate",
        "tasks": "lm_eval.tasks:TaskManager",
        "model": "lm_eval.models.huggingface:HFLM",
    },
)
BATCH_ROWS = 16


@dataclass(frozen=True)
class Request:
    """What the harness is asked to do.

    Attributes:
        tasks: names of tasks, groups or tags, its own or those in `include_path`.
        include_path: a folder with more task files.
        limit: so many rows of each task at most.
        num_fewshot: examples before each question; None: as each task says.
        chat: put each question through the model's chat template.
    """

    tasks: tuple[str, ...]
    include_path: Path | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    chat: bool = False


@dataclass(frozen=True)
class Installed:
    """The parts of the harness that are used."""

    simple_evaluate: Any
    task_manager: Any
    model: Any
    version: str


def installed() -> Installed:
    """The harness.

    Raises:
        InputError: it is not installed; names the extra that brings it.
    """
    try:
        return Installed(
            simple_evaluate=PARTS.load("evaluate"),
            task_manager=PARTS.load("tasks"),
            model=PARTS.load("model"),
            version=version("lm_eval"),
        )
    except ImportError as error:  # of the harness, or of one of the many packages that it needs
        what = f"lm-evaluation-harness is not installed ({error})"
        raise InputError(what, where="nacre lm-eval", fix=f"pip install 'nacre[{EXTRA}]'") from error


def run(request: Request, model: Any, tokenizer: Any, max_length: int) -> dict[str, list[dict[str, Any]]]:
    """The harness's samples, one list a task, as it would write them into its samples files.

    Args:
        request: which tasks, and how they are asked.
        model: a causal language model, with its adapters if it has any.
        tokenizer: its tokenizer.
        max_length: tokens of question and answer together.

    Raises:
        InputError: the harness is not installed, a task is unknown, or its data are not on this machine.
    """
    harness = installed()
    if request.include_path is not None and not request.include_path.is_dir():
        raise InputError(
            "there is no such folder", where=str(request.include_path), fix="name a folder with task files"
        )
    path = str(request.include_path) if request.include_path is not None else None
    manager = harness.task_manager(include_path=path)
    _check_tasks(request.tasks, manager.all_tasks)
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        wrapped = harness.model(
            pretrained=model,
            tokenizer=tokenizer,
            max_length=max_length,
            batch_size=BATCH_ROWS,
            device=str(model.device),
        )
        found = harness.simple_evaluate(
            model=wrapped,
            tasks=list(request.tasks),
            task_manager=manager,
            limit=request.limit,
            num_fewshot=request.num_fewshot,
            apply_chat_template=request.chat,
            bootstrap_iters=0,
            log_samples=True,
        )
    except (OSError, ValueError, ImportError) as error:
        raise _cannot_run(request, error) from error
    finally:
        logger.setLevel(level)
    return dict(found["samples"])


def _check_tasks(wanted: Sequence[str], known: Sequence[str]) -> None:
    if not wanted:
        raise InputError("no task is named", where="--tasks", fix="name tasks of lm-eval, with commas between them")
    names = set(known)
    for name in wanted:
        if name not in names and not any(sign in name for sign in "*?["):
            close = nearest(name, names)
            hint = f"did you mean '{close}'? " if close else ""
            fix = f"{hint}lm_eval ls tasks lists the {len(names)} that it has"
            raise InputError(f"lm-eval knows no task '{name}'", where="--tasks", fix=fix)


def _cannot_run(request: Request, error: Exception) -> InputError:
    """Most often data that would have to be downloaded; whatever it is, it is the task's, and its message is kept."""
    first = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return InputError(
        f"lm-eval could not run it: {first[0]}",
        where=f"tasks {', '.join(request.tasks)}",
        fix="a task's data must be in the local cache: run it once with HF_HUB_OFFLINE=0, or use tasks on local files",
    )


def sample_lines(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Samples as the harness writes them to disk: arguments by name, everything else as JSON can say it."""
    return [{**sample, "arguments": _named(sample["arguments"]), "target": str(sample["target"])} for sample in samples]


def _named(arguments: Any) -> Any:
    if isinstance(arguments, Mapping):
        return arguments
    return {
        f"gen_args_{place}": {f"arg_{where}": each for where, each in enumerate(one)}
        for place, one in enumerate(arguments)
    }
