"""`nacre chat`: talk with a version in the terminal, and say what was good about it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from nacre.base.errors import InputError, NacreError, nearest, unknown
from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_workspace, print_json, verb_app, warn

if TYPE_CHECKING:
    from nacre.cycle.workspace import Workspace
    from nacre.serve.client import Said, Talk

app = verb_app()

Ready = Callable[[str], None]  # returns once a model of that name answers; raises where it will not
_POLL_S = 0.1  # between two looks whether a version has been loaded

COMMANDS = {
    "/good": "the last answer was good: five stars; what follows is a comment",
    "/bad": "the last answer was bad: one star; what follows is a comment",
    "/fix": "/fix TEXT: what the last answer should have been; it takes its place in the conversation",
    "/system": "/system TEXT: what the model is told first; without TEXT nothing. Begins anew",
    "/model": "/model NAME: another name; without NAME the names there are",
    "/history": "the conversation so far",
    "/reset": "begin anew",
    "/help": "these lines",
    "/quit": "leave, as Ctrl-D does",
}


@app.command()
def chat(
    question: Annotated[str | None, typer.Argument(help="ask this alone and leave")] = None,
    workspace: WorkspaceOption = HERE,
    url: Annotated[
        str | None, typer.Option(help="a running server; without it the workspace's champion is started here")
    ] = None,
    api_key: Annotated[str, typer.Option(help="the server's key", envvar="NACRE_API_KEY")] = "",
    model: Annotated[str | None, typer.Option(help="a name the server knows, e.g. bot@7")] = None,
    system: Annotated[str, typer.Option(help="what the model is told first")] = "",
    temperature: Annotated[float | None, typer.Option(help="0 to 2", show_default="the version's")] = None,
    as_json: JsonOption = False,
) -> None:
    """Talk with a version; lines that begin with / are commands, /help lists them. With QUESTION one answer."""
    if as_json and question is None:
        raise InputError("--json needs a question", where="nacre chat --json", fix='nacre chat "…" --json')
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character still shows the others
    options = {} if temperature is None else {"temperature": temperature}
    with _server(url, api_key, workspace, alone=question is not None and not model) as (talk, ready):
        if model:
            ready(model)
        session = Session(talk, model or _first(talk), system, options, ready)
        if question is None:
            if not session.converse() and not sys.stdin.isatty():
                raise typer.Exit(1)
        elif as_json:
            print_json(_told(session.asked(question, quiet=True)))
        else:
            session.asked(question)


@contextmanager
def _server(url: str | None, key: str, workspace: Path, *, alone: bool) -> "Iterator[tuple[Talk, Ready]]":
    """A running server: the one named, or one of this process that serves the workspace's champion.

    Args:
        alone: load the champion and no other version, for which the end would have to wait.
    """
    from nacre.serve.client import Talk

    if url is not None:
        yield Talk(url, key), lambda name: None
        return
    import secrets

    from nacre.base.config import parse
    from nacre.cli.common import version_or_champion
    from nacre.cycle.environment import checked
    from nacre.cycle.rows.knowledge_at import where
    from nacre.serve.live import SERVED
    from nacre.serve.routing import CHAMPION
    from nacre.serve.run import LedgerSource, background
    from nacre.serve.settings import Serve

    own = secrets.token_urlsafe(24)
    with open_workspace(workspace) as space, ExitStack() as running:
        version = version_or_champion(space, None)
        chosen = space.settings.serve.model_dump()
        chosen |= {"host": "127.0.0.1", "port": 0, "api_keys": (own,), "admin_port": None}
        source = LedgerSource(
            space.ledger,
            checked(space, warn),
            space.hidden / "secret",
            space.serving,
            knowledge=where(space),
            slots=(CHAMPION,) if alone else SERVED,
        )
        with _loading(f"version {version}"):
            address = running.enter_context(background(source, parse(Serve, chosen, where="nacre chat")))
        talk = Talk(address, own)
        yield talk, partial(_await_model, talk, space)


def _await_model(talk: "Talk", space: "Workspace", model: str) -> None:
    """Wait until this process's server answers to a name: it begins with the champion and loads the others meanwhile.

    Raises:
        InputError: no version that is served has that name.
        NacreError: its version cannot be loaded.
    """
    from nacre.serve.live import SERVED

    if model in talk.models():
        return
    name = space.settings.serve.name
    with _loading(model):
        while model not in talk.models():
            # asked anew each time: whoever moves the slots meanwhile decides what the name stands for
            slots = {slot: held.version for slot, held in space.ledger.slots().items() if slot in SERVED}
            names = {slot: (f"{name}:{slot}", f"{name}@{number}") for slot, number in slots.items()}
            found = next((slot for slot, both in names.items() if model in both), None)
            if found is None:
                raise unknown("model", model, [name, *chain(*names.values())], where="slots of the workspace")
            if trouble := talk.troubles().get(found):
                raise NacreError(trouble, where=f"version {slots[found]}", fix="see nacre verify")
            time.sleep(_POLL_S)


def _loading(what: str) -> AbstractContextManager[object]:
    """Says at a terminal, for the length of the block, what is waited for."""
    return console.status(escape(f"loading {what}")) if console.is_terminal else nullcontext()


class Session:
    """One conversation.

    Args:
        model: the name that is asked.
        system: what the model is told first; may be empty.
        options: further keys of each request.
        ready: waits for a model that is chosen later.
    """

    def __init__(self, talk: "Talk", model: str, system: str, options: dict[str, Any], ready: Ready) -> None:
        self._talk, self._model, self._system, self._options, self._ready = talk, model, system, options, ready
        self._turns: list[dict[str, str]] = []
        self._last: Said | None = None

    def converse(self) -> bool:
        """Read lines until the end of the input; whether all of them could be done."""
        well = True
        if sys.stdin.isatty():
            _line_editing()
            version = self._talk.version(self._model)
            print(f"{self._model}{f', version {version}' if version else ''}. /help lists the commands, Ctrl-D leaves.")
        while (line := _read_line()) is not None:
            if line.split(maxsplit=1)[:1] == ["/quit"]:
                break
            try:
                self.take(line)
            except KeyboardInterrupt:
                print("\n(stopped)")
            except NacreError as error:
                print(f"nacre: {error}".replace("\n", "\n  "), file=sys.stderr)
                well = False
        return well

    def take(self, line: str) -> None:
        """Do what a line says: ask, or a command.

        Raises:
            InputError: no such command, or nothing to apply it to.
            NacreError: the server does not answer.
        """
        line = line.strip()
        if not line:
            return
        if not line.startswith("/") or line.startswith("//"):
            self.asked(line.removeprefix("/") if line.startswith("//") else line)
            return
        name, _, text = line.partition(" ")
        self._command(name, text.strip())

    def asked(self, question: str, *, quiet: bool = False) -> "Said":
        """Ask, show the answer as it comes, and keep both for what follows."""
        asking = [*self._opening(), *self._turns, {"role": "user", "content": question}]
        said = self._talk.ask(self._model, asking, (lambda text: None) if quiet else _show, **self._options)
        if not quiet:
            print("" if said.finish == "stop" else f"\n({said.finish})")
        self._turns += [asking[-1], {"role": "assistant", "content": said.text}]
        self._last = said
        return said

    def _command(self, name: str, text: str) -> None:
        if name in ("/good", "/bad"):
            self._rate(5 if name == "/good" else 1, text)
        elif name == "/fix":
            self._fix(text)
        elif name in ("/system", "/reset"):
            self._begin_anew(text if name == "/system" else self._system)
        elif name == "/model":
            self._choose(text)
        elif name == "/history":
            for turn in (*self._opening(), *self._turns):
                print(f"{turn['role']}: {_plain(turn['content'])}")
        elif name == "/help":
            for command, meaning in COMMANDS.items():
                print(f"{command:9} {meaning}")
        else:
            close = nearest(name, COMMANDS)
            raise InputError(
                f"there is no command {name}", fix=f"did you mean {close}? /help lists them" if close else "/help"
            )

    def _rate(self, stars: int, comment: str) -> None:
        opinion: dict[str, Any] = {"stars": stars} | ({"comment": comment} if comment else {})
        self._talk.feedback(self._answer().id, **opinion)
        print("(noted)")

    def _fix(self, text: str) -> None:
        if not text:
            raise InputError("say what the answer should have been", fix="/fix TEXT")
        self._talk.feedback(self._answer().id, correction=text)
        self._turns[-1] = {"role": "assistant", "content": text}
        print("(noted)")

    def _begin_anew(self, system: str) -> None:
        self._turns, self._last, self._system = [], None, system
        print("(a new conversation)")

    def _choose(self, name: str) -> None:
        if name:
            self._ready(name)
            self._talk.version(name)
            self._model = name
        else:
            print(" ".join(self._talk.models()))

    def _answer(self) -> "Said":
        if self._last is None:
            raise InputError("nothing has been answered yet", fix="ask first")
        return self._last

    def _opening(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": self._system}] if self._system else []


def _first(talk: "Talk") -> str:
    names = talk.models()
    if not names:
        raise NacreError("the server has no version loaded", where=talk.url, fix="promote one: nacre promote")
    return names[0]


def _told(said: "Said") -> dict[str, Any]:
    return {
        "answer": said.text,
        "finish_reason": said.finish,
        "id": said.id,
        "model": said.model,
        "version": said.version,
        "usage": dict(said.usage),
    }


def _show(text: str) -> None:
    print(_plain(text), end="", flush=True)


def _plain(text: str) -> str:
    """Without control characters: what a model writes must not steer the terminal."""
    return "".join(one if one in "\n\t" or one.isprintable() or ord(one) > 0x9F else "\ufffd" for one in text)


def _read_line() -> str | None:
    """The next line, or None at the end of the input."""
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "")
        except EOFError:
            if sys.stdin.isatty():
                print()
            return None
        except UnicodeDecodeError:
            print("nacre: this line is not UTF-8 and is left out", file=sys.stderr)


def _line_editing() -> None:
    """Arrow keys and history, where Python has them."""
    from importlib import import_module

    try:
        import_module("readline")
    except ImportError:  # Python for Windows has none; lines are read all the same
        return
