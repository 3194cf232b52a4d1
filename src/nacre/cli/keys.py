"""`nacre keys`: who may ask a served model, for how much, and until when."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from nacre.base.errors import InputError
from nacre.cli.common import (
    HERE,
    ActorOption,
    JsonOption,
    WorkspaceOption,
    console,
    open_to_write,
    open_workspace,
    print_json,
    verb_app,
)

if TYPE_CHECKING:
    from nacre.records.key import Key

app = verb_app(help="Make, list, rotate and revoke keys to the API.", no_args_is_help=True)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

Identity = Annotated[str, typer.Argument(help="the key's id, as `nacre keys list` shows it")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="whose it is, or what for")],
    workspace: WorkspaceOption = HERE,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="infer, feedback or admin; may be given several times", show_default="infer, feedback"
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="for how long it opens, e.g. 90d, 12h", show_default="ever")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", help="requests=60 or tokens=100000 a minute, concurrency=4; several times"),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="tokens a day, a month or in all, e.g. 1000000/month")] = None,
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once: the ledger keeps its hash."""
    from nacre.base.config import parse
    from nacre.records.key import Limits

    limits = parse(Limits, _rates(limit or ()) | _budget(budget), where="nacre keys create")
    expires_s = _seconds("--expires", expires)
    with open_to_write(workspace) as space:
        made, secret = space.ledger.keys.create(
            name, scope or ("infer", "feedback"), limits=limits, expires_s=expires_s, actor=actor
        )
    _show_secret(made, secret, as_json)


@app.command("list")
def list_keys(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Every key with its scopes, its limits and what it has used."""
    from nacre.base.clock import now

    with open_workspace(workspace) as space:
        keys, used = [held.key for held in space.ledger.keys.all()], space.ledger.keys.use()
    if as_json:
        tokens = {identity: one.tokens for identity, one in used.items()}
        requests = {identity: one.requests for identity, one in used.items()}
        print_json(
            {
                "keys": [
                    one.model_dump(mode="json")
                    | {"opens": one.opens(now()), "requests": requests.get(one.id, 0), "tokens": tokens.get(one.id, 0)}
                    for one in keys
                ]
            }
        )
        return
    if not keys:
        console.print("there are no keys: nacre keys create NAME makes one", markup=False)
        return
    table = Table("id", "name", "scopes", "limits", "state", "requests", "tokens")
    for one in keys:
        counts = used.get(one.id)
        numbers = (str(counts.requests), str(counts.tokens)) if counts else ("0", "0")
        table.add_row(one.id, one.name, ", ".join(one.scopes), _limits(one), _state(one), *numbers)
    console.print(table)


@app.command()
def rotate(
    key: Identity,
    workspace: WorkspaceOption = HERE,
    grace: Annotated[str | None, typer.Option(help="for how long the old secret still opens, e.g. 1d")] = None,
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret; id, limits and budget stay."""
    with open_to_write(workspace) as space:
        made, secret = space.ledger.keys.rotate(key, grace_s=_seconds("--grace", grace) or 0.0, actor=actor)
    _show_secret(made, secret, as_json)


@app.command()
def revoke(
    key: Identity, workspace: WorkspaceOption = HERE, actor: ActorOption = "user", as_json: JsonOption = False
) -> None:
    """Take a key back; running servers refuse it within two seconds."""
    with open_to_write(workspace) as space:
        revoked = space.ledger.keys.revoke(key, actor=actor)
    if as_json:
        print_json(revoked.model_dump(mode="json"))
    else:
        console.print(f"key {revoked.id} ({revoked.name}) is revoked since {revoked.revoked}", markup=False)


def _show_secret(made: "Key", secret: str, as_json: bool) -> None:
    if as_json:
        print_json(made.model_dump(mode="json") | {"secret": secret})
        return
    console.print(secret, markup=False)
    console.print(f"key {made.id} ({made.name}) opens {', '.join(made.scopes)}; it is not shown again", markup=False)
    if made.old_until:
        console.print(f"the one before opens until {made.old_until}", markup=False)


def _limits(key: "Key") -> str:
    limits = key.limits
    told = {
        "requests/min": limits.requests,
        "tokens/min": limits.tokens,
        "at a time": limits.concurrency,
        f"tokens/{limits.budget_per}": limits.budget,
    }
    return ", ".join(f"{count} {what}" for what, count in told.items() if count is not None) or "none"


def _state(key: "Key") -> str:
    from nacre.base.clock import now

    if key.revoked:
        return "revoked"
    if not key.opens(now()):
        return "expired"
    return f"until {key.expires[:16]}" if key.expires else "open"


def _seconds(option: str, given: str | None) -> float | None:
    """Seconds of ``90d``, ``12h``, ``30m``, ``10s``.

    Raises:
        InputError: it is none of these.
    """
    if given is None:
        return None
    match = re.fullmatch(r"(\d{1,9})([smhdw])", given)
    if match is None:
        raise InputError(f"'{given}' is no length of time", where=option, fix="write 90d, 12h, 30m or 10s")
    return float(int(match[1]) * _UNITS[match[2]])


def _rates(given: Sequence[str]) -> dict[str, int]:
    """``requests=60`` and the like.

    Raises:
        InputError: it is no such thing.
    """
    found = {}
    for one in given:
        match = re.fullmatch(r"(requests|tokens|concurrency)=(\d{1,15})", one)
        if match is None:
            fix = "write requests=60, tokens=100000 or concurrency=4"
            raise InputError(f"'{one}' is no limit", where="--limit", fix=fix)
        found[match[1]] = int(match[2])
    return found


def _budget(given: str | None) -> dict[str, Any]:
    """``1000000/month`` as the limits have it.

    Raises:
        InputError: it is no such thing.
    """
    if given is None:
        return {}
    match = re.fullmatch(r"(\d{1,15})/(day|month|total)", given)
    if match is None:
        raise InputError(f"'{given}' is no budget", where="--budget", fix="write 1000000/day, …/month or …/total")
    return {"budget": int(match[1]), "budget_per": match[2]}
