"""`nacre train`: one run from folder to folder, in LlamaFactory's words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from nacre.base.errors import InputError
from nacre.cli.common import console, print_json, print_notes, verb_app
from nacre.cli.launch import WORDS, leading, only_follows, only_helps, take_words

app = verb_app()


# --help stays among the arguments, so that all of them can be listed
@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def train(context: typer.Context) -> None:
    """Train from folder to folder: --model_name_or_path, --dataset, --output_dir, --prev_model … or a YAML/JSON file.

    Takes LlamaFactory's argument names (docs/llamafactory.md), key=value words, and --json for the result.
    """
    run(context.args)


def run(given: Sequence[str], name: str = "nacre train") -> None:
    """Translate the arguments, train, and say what was done."""
    from nacre.cli.llamafactory import read_arguments, to_arguments, to_job

    if not given or "--help" in given or "-h" in given:
        _help(name)
        raise SystemExit(0 if given else 2)
    if only_follows():
        return
    words = take_words([word for word in given if word != "--json"])
    found, where = read_arguments(words), _where(words)
    _refuse_other_verbs(found, where)
    arguments, notes = to_arguments(found, where)
    job, decided = to_job(arguments)
    notes += decided
    if only_helps(job.recipe.train):
        return

    from nacre.cycle.increment.folder import train_folder

    with leading():
        result = train_folder(job)
    trained = result.trained
    if "--json" in given:
        print_json(
            {
                "output_dir": str(result.output),
                "trained": trained is not None,
                "final_loss": trained.final_loss if trained else None,
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


def _where(words: Sequence[str]) -> str:
    """The settings files that were named, or the command line."""
    from nacre.cli.llamafactory.read import FILES

    files = [word for word in words if Path(word).suffix in FILES and not word.startswith("--") and "=" not in word]
    return ", ".join(files) or "the command line"


def _refuse_other_verbs(found: Mapping[str, Any], where: str) -> None:
    """Files that LlamaFactory's other commands take train nothing.

    Raises:
        InputError: this is such a file; names what does that here.
    """
    if "output_dir" in found or "stage" in found or found.get("do_train"):
        return
    model = found.get("model_name_or_path", "MODEL")
    if "export_dir" in found:
        fix = (
            "nacre export VERSION --to hf --out FOLDER merges a version of a workspace; without one in Python: "
            "peft's AutoPeftModelForCausalLM, merge_and_unload, save_pretrained"
        )
        raise InputError("this file merges an adapter into its model, it trains nothing", where=where, fix=fix)
    if "task" in found and "dataset" not in found:
        fix = "nacre lm-eval run --tasks NAMES scores a version of a workspace on benchmarks"
        raise InputError("this file scores a model, it trains nothing", where=where, fix=fix)
    if "infer_backend" in found or ("template" in found and "dataset" not in found):
        fix = f"python src/api_demo.py --model_name_or_path {found.get('adapter_name_or_path') or model}"
        raise InputError("this file is for talking to a model, it trains nothing", where=where, fix=fix)


def _help(name: str) -> None:
    """Every argument with its default and meaning."""
    from nacre.cli.llamafactory import ALIASES, KEYS, SWITCHES, Arguments

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
    for word, meaning in WORDS.items():
        if word not in Arguments.model_fields:
            table.add_row(f"--{word}", "", meaning)
    console.print(table)
    console.print(f"\n {len(KEYS)} more are known; what becomes of each is in docs/llamafactory.md.", markup=False)
