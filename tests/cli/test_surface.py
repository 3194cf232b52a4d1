"""What users and scripts rely on: names, defaults and schemas that may not change unseen, and a quick start.

After a change that is meant, write the frozen files anew with

    python tests/cli/test_surface.py
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from nacre import records
from nacre.cli import VERBS, app
from nacre.cli.llamafactory import ALIASES, Arguments
from nacre.cycle.settings import WorkspaceSettings
from nacre.records import Record
from nacre.train.protect import PROTECTIONS

FROZEN = Path(__file__).parents[1] / "frozen"
LIMIT_S = 1.0  # of processor time; starting Python takes a tenth of it
HEAVY = {"torch", "transformers", "peft", "trl", "datasets", "accelerate", "scipy", "matplotlib"}
REPORT = "import atexit, sys, time; atexit.register(lambda: print(time.process_time(), *sys.modules, file=sys.stderr));"


def command_line() -> dict[str, Any]:
    """Every verb with its arguments, options and defaults."""
    root: Any = get_command(app)
    found: dict[str, Any] = {}
    waiting = [(verb, root.get_command(None, verb)) for verb in VERBS]
    while waiting:
        name, command = waiting.pop()
        inner = getattr(command, "commands", {})
        waiting += [(f"{name} {word}", one) for word, one in inner.items()]
        if not inner or command.params:
            found[name] = {
                "/".join(parameter.opts): {
                    "required": parameter.required,
                    "default": None if parameter.default is None else str(parameter.default),
                    "type": str(parameter.type_descriptor.annotation),
                }
                for parameter in command.params
            }
    return found


def arguments() -> dict[str, Any]:
    """The arguments of `nacre train`, and their other names."""
    return {"aliases": ALIASES, "arguments": Arguments.model_json_schema()}


def protections() -> dict[str, Any]:
    """The options of every protection that `protect` in nacre.yaml may name."""
    return {name: PROTECTIONS.load(name).Config.model_json_schema() for name in PROTECTIONS.names()}


def record_schemas() -> dict[str, Any]:
    """Everything that is written to disk."""
    kinds = [kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, Record)]
    return {kind.__name__: kind.model_json_schema() for kind in sorted(kinds, key=lambda kind: kind.__name__)}


SURFACES = {
    "command_line": command_line,
    "train_arguments": arguments,
    "nacre_yaml": WorkspaceSettings.model_json_schema,
    "protections": protections,
    "records": record_schemas,
}


def as_text(surface: dict[str, Any]) -> str:
    return json.dumps(surface, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", SURFACES)
def test_the_surface_is_the_frozen_one(name: str) -> None:
    frozen = (FROZEN / f"{name}.json").read_text(encoding="utf-8")
    assert as_text(SURFACES[name]()) == frozen, f"changed; if that is meant: python {Path(__file__).name}"


def started(words: list[str], folder: Path) -> tuple[float, set[str], str]:
    """Processor seconds, imported packages and output of `nacre WORDS` in a process of its own."""
    code = f"{REPORT} sys.argv[1:] = {words!r}; from nacre.cli import main; main()"
    found = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    seconds, *modules = found.stderr.splitlines()[-1].split()
    return float(seconds), {module.split(".")[0] for module in modules}, found.stdout


@pytest.mark.parametrize(
    "words", [[], *([verb] for verb in VERBS), ["data", "check"], ["versions", "show"]], ids=" ".join
)
def test_help_is_quick_and_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    seconds, modules, out = started([*words, "--help"], tmp_path)
    assert not modules & (HEAVY | {"sqlalchemy", "huggingface_hub", "numpy"})
    assert seconds < LIMIT_S
    assert "Usage: nacre" in out
    for verb in VERBS if not words else ():
        assert f" {verb} " in out


def test_every_verb_says_in_the_list_what_it_does(tmp_path: Path) -> None:
    _, _, out = started(["--help"], tmp_path)
    lines = [line.strip("│ ").split(None, 1) for line in out.splitlines()]
    told = {line[0] for line in lines if len(line) == 2}
    assert told >= set(VERBS)


@pytest.mark.parametrize(
    "words",
    [
        ["versions", "list"],
        ["versions", "show", "1"],
        ["promote", "1"],
        ["rollback"],
        ["verify"],
        ["harvest"],
        ["data", "check", "--dataset", "base"],
    ],
    ids=" ".join,
)
def test_verbs_that_compute_nothing_import_no_torch(words: list[str], lived_in: Any) -> None:
    seconds, modules, _ = started(words, lived_in.root)
    assert not modules & {"torch", "transformers", "peft", "trl", "datasets", "accelerate"}
    assert seconds < 2 * LIMIT_S


@pytest.mark.parametrize("words", [["versions", "list"], ["promote", "1"], ["rollback"]], ids=" ".join)
def test_looking_and_moving_wait_for_no_library_that_they_do_not_use(words: list[str], lived_in: Any) -> None:
    seconds, modules, _ = started(words, lived_in.root)
    assert not modules & {"numpy", "sqlalchemy.dialects.postgresql", "nacre.serve.knowledge.words"}
    assert seconds < LIMIT_S


if __name__ == "__main__":
    for each, surface in SURFACES.items():
        (FROZEN / f"{each}.json").write_text(as_text(surface()), encoding="utf-8")
