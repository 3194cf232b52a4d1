"""`nacre federate`: an increment trained by several parties, whose rows stay where they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nacre.base.errors import InputError
from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, open_to_write, print_json, verb_app, warn

if TYPE_CHECKING:
    from nacre.cycle.increment.federate import Seats
    from nacre.records import Federating

app = verb_app(
    help="Train an increment together with other parties: adapters travel, rows do not.", no_args_is_help=True
)

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")

InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="talk in plain text over a network that you trust as you trust this machine")
]


@app.command("train")
@dataclass
class Asked:
    """Run a federation: wait for parties, bring their adapters together, score, judge, register, promote.

    The increment's folder holds dev.json, rows to judge by; the parties bring the rows to learn from. With
    --simulate its train rows are dealt out to parties that this machine plays, which needs no network.
    Exit code 0: passed; 3: refused by the gate; 4: undecided and held as a candidate.
    """

    increment: Annotated[str, typer.Argument(help="a folder of the dataset folder")]
    workspace: WorkspaceOption = HERE
    rounds: Annotated[int, typer.Option(min=1, help="how often all train and are brought together")] = 5
    epochs: Annotated[float, typer.Option(min=0.01, help="passes over its rows that a party makes in a round")] = 1.0
    least: Annotated[
        int | None,
        typer.Option(min=2, help="answers without which a round does not count", show_default="2; with --secure 3"),
    ] = None
    aggregation: Annotated[
        Literal["mean", "trimmed-mean", "median"] | None,
        typer.Option(
            help="how adapters become one; a mean is what one liar can move",
            show_default="trimmed-mean; with --secure or --noise mean",
        ),
    ] = None
    trim: Annotated[float, typer.Option(min=0.01, max=0.49, help="trimmed-mean: share cut off on each side")] = 0.2
    secure: Annotated[bool, typer.Option("--secure", help="masked answers: the server sees their sum alone")] = False
    clip: Annotated[
        float | None, typer.Option(help="longest update of one party, as a norm", show_default="as it is")
    ] = None
    noise: Annotated[
        float | None, typer.Option(help="noise multiplier: differential privacy for a party", show_default="none")
    ] = None
    listen: Annotated[str, typer.Option(help="host:port for the parties; port 0 takes any free one")] = "127.0.0.1:8440"
    parties: Annotated[
        Path | None,
        typer.Option(help="file with a name and a secret a line: who may take part", show_default="whoever comes"),
    ] = None
    certificate: Annotated[Path | None, typer.Option(help="PEM of the certificate, with its chain")] = None
    key: Annotated[Path | None, typer.Option(help="PEM of its key")] = None
    insecure: InsecureOption = False
    wait: Annotated[float, typer.Option(min=0.0, help="seconds to wait for enough parties, before each round")] = 600.0
    timeout: Annotated[float, typer.Option(min=1.0, help="seconds to wait for answers, in each round")] = 3600.0
    lost_after: Annotated[float, typer.Option(min=1.0, help="seconds of silence until a party counts as gone")] = 60.0
    simulate: Annotated[int | None, typer.Option(min=2, help="play so many parties here", show_default="none")] = None
    skew: Annotated[
        float | None,
        typer.Option(help="of the simulated shares: Dirichlet parameter, 0.1 is very uneven", show_default="balanced"),
    ] = None
    start: Annotated[
        int | None,
        typer.Option("--from", help="train from this version, 0 is the base model", show_default="the champion"),
    ] = None
    promote: Annotated[
        Literal["pass", "never"] | None,
        typer.Option(
            help="make the version champion when the gate passes, or never", show_default="from nacre.yaml: pass"
        ),
    ] = None
    as_json: JsonOption = False

    def __post_init__(self) -> None:
        run(self)


def run(asked: Asked) -> None:
    """Do what `nacre federate train` was asked for; the class above is its options, of which there are many."""
    from nacre.cli.evolve import show
    from nacre.cycle.increment.federate import federate

    how, seats = _how(asked), None if asked.simulate else _seats(asked)
    tell = warn if asked.as_json else _tell
    with open_to_write(asked.workspace) as space:
        found = federate(space, asked.increment, how, seats=seats, promote=asked.promote, parent=asked.start, tell=tell)
    if asked.as_json:
        print_json(found.as_dict())
    else:
        show(found.evolution)
    raise typer.Exit(found.exit_code)


@app.command()
def join(
    address: Annotated[str, typer.Argument(help="host:port of the federation")],
    data: Annotated[Path, typer.Option(help="folder with train.json, or a file of rows: what this party learns from")],
    model: Annotated[str, typer.Option(help="folder of the base model, the very same files as the federation's")],
    work: Annotated[Path, typer.Option(help="folder for this party's own files")] = Path(".nacre-party"),
    party: Annotated[str, typer.Option(help="this party's name, where the federation lists its parties")] = "",
    secret: Annotated[
        Path | None, typer.Option(help="file with this party's secret", show_default="none is asked for")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM of the certificates that are trusted", show_default="plain text")
    ] = None,
    insecure: InsecureOption = False,
) -> None:
    """Take part in a federation: train its adapter on rows of one's own, which stay here, until it is over."""
    from nacre.cycle.increment.taking_part import Joining, take_part
    from nacre.train.federated.party import Door

    _check_plain(address, certificate is not None, insecure)
    door = Door(
        address,
        party,
        _read_text(secret, "--secret").strip() if secret else "",
        _read(certificate, "--certificate") if certificate else None,
    )
    answered = take_part(door, Joining(data.resolve(), model, work.resolve()), _tell)
    console.print(f"the federation is over: {answered} messages answered", markup=False)


def _how(asked: Asked) -> "Federating":
    """What the options ask for, defaults filled in."""
    from nacre.base.config import parse
    from nacre.records import Federating

    mean = asked.secure or asked.noise is not None
    given: dict[str, Any] = {
        "rounds": asked.rounds,
        "epochs": asked.epochs,
        "least": asked.least or (3 if asked.secure else 2),
        "aggregation": asked.aggregation or ("mean" if mean else "trimmed-mean"),
        "trimmed": asked.trim,
        "secure": asked.secure,
        "clip": asked.clip,
        "noise": asked.noise,
        "simulated": asked.simulate or 0,
        "skew": asked.skew,
    }
    return parse(Federating, given, where="nacre federate train")


def _seats(asked: Asked) -> "Seats":
    """Where the parties come to."""
    from nacre.cycle.increment.federate import Seats

    if (asked.certificate is None) != (asked.key is None):
        raise InputError("certificate and key belong together", where="--certificate, --key", fix="give both")
    certificate = (
        (_read(asked.key, "--key"), _read(asked.certificate, "--certificate"))
        if asked.certificate and asked.key
        else None
    )
    _check_plain(asked.listen, certificate is not None, asked.insecure)
    known = _parties(asked.parties) if asked.parties else None
    return Seats(asked.listen, known, certificate, asked.lost_after, asked.wait, asked.timeout)


def _check_plain(address: str, encrypted: bool, insecure: bool) -> None:
    """Refuse to talk in plain text beyond this machine.

    Raises:
        InputError: no host:port, or plain text that was not asked for.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal()):
        raise InputError("that is no address", where=address, fix="host:port, e.g. 127.0.0.1:8440")
    if not (encrypted or insecure or host in LOOPBACK):
        fix = "give --certificate (and for train --key), or say --insecure"
        raise InputError("adapters and secrets would travel in plain text", where=address, fix=fix)


def _parties(path: Path) -> dict[str, str]:
    """Secrets by name.

    Raises:
        InputError: a line has not two words, a name stands there twice, or a secret is short.
    """
    found: dict[str, str] = {}
    for place, line in enumerate(_read_text(path, "--parties").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] in found or len(words[1]) < 16:
            fix = "NAME SECRET, each name once, secrets of 16 characters and more: openssl rand -hex 16"
            raise InputError("no party and its secret", where=f"{path}, line {place}", fix=fix)
        found[words[0]] = words[1]
    return found


def _read(path: Path, option: str) -> bytes:
    """The bytes of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        what = f"the file cannot be read: {(error.strerror or str(error)).lower()}"
        raise InputError(what, where=f"{option} {path}", fix="check the path") from None


def _read_text(path: Path, option: str) -> str:
    """The text of a file.

    Raises:
        InputError: it cannot be read, or is no text.
    """
    try:
        return _read(path, option).decode()
    except UnicodeDecodeError as error:
        what = f"no text: byte {error.start} is not UTF-8"
        raise InputError(what, where=f"{option} {path}", fix="give a text file in UTF-8") from None


def _tell(note: str) -> None:
    """Say something on the way."""
    console.print(note, markup=False)
