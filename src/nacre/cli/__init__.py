"""Floor 5: the command line. One file a verb; each parses, calls, prints, and imports what is heavy when it runs."""

import json
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from nacre.base.errors import NacreError

VERBS = {
    "init": "nacre.cli.init",
    "demo": "nacre.cli.demo",
    "data": "nacre.cli.data",
    "train": "nacre.cli.train",
    "evaluate": "nacre.cli.evaluate",
    "evolve": "nacre.cli.evolve",
    "matrix": "nacre.cli.matrix",
    "versions": "nacre.cli.versions",
    "promote": "nacre.cli.promote",
    "rollback": "nacre.cli.rollback",
    "verify": "nacre.cli.verify",
    "serve": "nacre.cli.serve",
    "harvest": "nacre.cli.harvest",
}


class Verbs(TyperGroup):
    """The verbs, in the order of the ring; a verb's file is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the table's order."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the verb's file and return its command."""
        if cmd_name not in VERBS:
            return None
        return get_command(import_module(VERBS[cmd_name]).app)


app = typer.Typer(
    cls=Verbs,
    help="Continual learning for language models: train an increment without forgetting, prove it, release it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    """Takes no options of its own."""


def main() -> None:
    """Entry point: turns a NacreError into three lines (or JSON) and its exit code."""
    run(app)


def run(command: Any, arguments: list[str] | None = None) -> None:
    """Run a command, and end with the exit code of the error if it raises one of ours."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        command(given)
    except NacreError as error:
        if "--json" in given:
            print(json.dumps({"error": error.as_dict()}, ensure_ascii=False))
        else:
            print(f"nacre: {error}".replace("\n", "\n  "), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("nacre: stopped; what was finished is kept", file=sys.stderr)
        sys.exit(130)
