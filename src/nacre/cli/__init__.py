"""Floor 5: the command line. One file a verb; each parses, calls, prints, and imports what is heavy when it runs."""

import json
import sys
from collections.abc import Callable, Sequence
from gc import disable as leave_garbage  # the name gc is the verb's, once that is imported
from importlib import import_module
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from nacre.base.errors import InputError, NacreError, unknown

VERBS = {
    "init": "nacre.cli.init",
    "demo": "nacre.cli.demo",
    "advise": "nacre.cli.advise",
    "data": "nacre.cli.data",
    "train": "nacre.cli.train",
    "evaluate": "nacre.cli.evaluate",
    "review": "nacre.cli.review",
    "evolve": "nacre.cli.evolve",
    "recipe": "nacre.cli.recipe",
    "compress": "nacre.cli.compress",
    "combine": "nacre.cli.combine",
    "federate": "nacre.cli.federate",
    "matrix": "nacre.cli.matrix",
    "report": "nacre.cli.report",
    "lm-eval": "nacre.cli.lm_eval",
    "versions": "nacre.cli.versions",
    "export": "nacre.cli.export",
    "gate": "nacre.cli.gate",
    "promote": "nacre.cli.promote",
    "rollback": "nacre.cli.rollback",
    "release": "nacre.cli.release",
    "verify": "nacre.cli.verify",
    "gc": "nacre.cli.gc",
    "reproduce": "nacre.cli.reproduce",
    "knowledge": "nacre.cli.knowledge",
    "serve": "nacre.cli.serve",
    "ui": "nacre.cli.ui",
    "chat": "nacre.cli.chat",
    "keys": "nacre.cli.keys",
    "feedback": "nacre.cli.feedback",
    "harvest": "nacre.cli.harvest",
    "schedule": "nacre.cli.schedule",
    "watch": "nacre.cli.watch",
    "mirror": "nacre.cli.mirror",
}

_BRIEF = {"versions", "promote", "rollback", "keys"}  # over before there is garbage worth looking for

_STOPPED = 130  # what shells report of a program that Ctrl-C ended


class Verbs(TyperGroup):
    """The verbs, in the order of the ring; a verb's file is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the table's order."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the verb's file and return its command.

        Raises:
            InputError: there is no such verb; names the nearest.
        """
        if cmd_name not in VERBS:
            raise unknown("verb", cmd_name, VERBS, where="nacre")
        command = get_command(import_module(VERBS[cmd_name]).app)
        command.name = cmd_name
        return command


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
    """Entry point of ``nacre``."""
    if _BRIEF.intersection(sys.argv[1:2]):
        leave_garbage()  # a seventh of their time is spent on looking through modules that are just being imported
    run(app)


def run(chosen: typer.Typer, given: Sequence[str] | None = None, name: str = "nacre") -> NoReturn:
    """Run a Typer app with the words `given` (default: those of the process), see `guarded`."""
    words = sys.argv[1:] if given is None else list(given)
    command = get_command(chosen)
    guarded(lambda: command.main(words, prog_name=name, standalone_mode=False), words)


def guarded(action: Callable[[], Any], given: Sequence[str]) -> NoReturn:
    """Do `action` and leave with its exit code; an error becomes three lines on stderr, or JSON with ``--json``."""
    try:
        code = action()
    except NacreError as error:
        code = _tell(error, given)
    except TyperException as error:
        # a group without a command has printed its help already and has no message
        code = _tell(_usage_error(error), given) if error.format_message() else error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    except OSError as error:
        fix = "look at it and its permissions, then run the command again"
        code = _tell(
            NacreError((error.strerror or str(error)).lower(), where=str(error.filename or ""), fix=fix), given
        )
    if code == _STOPPED:
        print("nacre: stopped; what was finished is kept", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: NacreError, given: Sequence[str]) -> int:
    if "--json" in given:
        print(json.dumps({"error": error.as_dict()}, ensure_ascii=False))
    else:
        print(f"nacre: {error}".replace("\n", "\n  "), file=sys.stderr)
    return error.exit_code


def _usage_error(error: TyperException) -> NacreError:
    """A mistake in the words of the command line, told like every other one."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "the command line"
    option = getattr(error, "option_name", None)
    if option is not None and not error.message.startswith("Option"):  # an unknown one, not one that lacks its value
        known = (
            [name for parameter in context.command.get_params(context) for name in parameter.opts] if context else []
        )
        return unknown("option", option, [name for name in known if name.startswith("--")], where=where)
    message = error.format_message().rstrip(".")
    fix = f"see {where} --help" if context else "see --help"
    return InputError(message[0].lower() + message[1:], where=where, fix=fix)
