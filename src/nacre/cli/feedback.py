"""`nacre feedback`: what people said about answers, and what their use of the server says."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nacre.base.errors import InputError
from nacre.cli.common import (
    HERE,
    ActorOption,
    JsonOption,
    WhyOption,
    WorkspaceOption,
    console,
    open_to_write,
    open_workspace,
    print_json,
    verb_app,
)
from nacre.cli.feedback_learned import accept, import_opinions, list_opinions, reject, trace

if TYPE_CHECKING:
    from nacre.cycle.rows.forget_person import Removal
    from nacre.feedback.summary import Figure, Row

app = verb_app(help="Look at what people said about answers, and remove what one person said.", no_args_is_help=True)

_DAYS = 365 * 100


app.command("list")(list_opinions)
app.command()(accept)
app.command()(reject)
app.command("import")(import_opinions)
app.command()(trace)


@app.callback()
def _root() -> None:
    """Takes no options of its own."""


@app.command()
def report(
    workspace: WorkspaceOption = HERE,
    since: Annotated[
        float | None, typer.Option(help="answers of the last so many days", show_default="all", min=0, max=_DAYS)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what people did and said, by version and arm, each figure with its interval."""
    from nacre.feedback.summary import summary

    begin = "" if since is None else (datetime.now(UTC) - timedelta(days=since)).isoformat(timespec="milliseconds")
    with open_workspace(workspace) as space:
        found = summary(space.ledger, begin)
    if as_json:
        print_json(found.as_dict())
        return
    if not found.rows:
        console.print("nothing was answered in that time", markup=False)
    for row in found.rows:
        console.print(_figures(row))


@app.command()
def forget(
    user: Annotated[str | None, typer.Option(help="the user, as the client named it in `user`")] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="id of the key it was named with; '' for none, import for files", show_default="any that fits"
        ),
    ] = None,
    person: Annotated[str | None, typer.Option(help="instead: the person's hash, as the ledger has it")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would happen")] = False,
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "removed on request",
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Remove all that one person asked and said; name the snapshots and versions that learned from it."""
    from nacre.cycle.rows.forget_person import forget as forget_person
    from nacre.cycle.rows.forget_person import hash_of

    if (user is None) == (person is None) or (person is not None and key is not None):
        fix = "give --user NAME, with --key ID where several keys know such a user, or --person HASH"
        raise InputError("it is not said who", where="nacre feedback forget", fix=fix)
    with open_workspace(workspace) if dry_run else open_to_write(workspace) as space:
        who = person if person is not None else hash_of(space, user or "", key)
        found = forget_person(space, who, dry_run=dry_run, actor=actor, why=why)
    if as_json:
        print_json(found.as_dict() | {"dry_run": dry_run})
    else:
        _show(found, dry_run=dry_run)


def _figures(row: "Row") -> Table:
    said = f", {row.persons} people said something" if row.persons else ""
    title = f"version {row.version} as {row.arm}: {row.answers} answers{said}"
    table = Table("figure", "value", "interval", "of", title=title, title_justify="left")
    for name, one in row.figures.items():
        if one.count:
            table.add_row(
                name, _told(one, one.value), f"{_told(one, one.low)} to {_told(one, one.high)}", str(one.count)
            )
    return table


def _told(figure: "Figure", value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:.1%}" if figure.unit == "share" else f"{value:.3g}"


def _show(found: "Removal", *, dry_run: bool) -> None:
    word = "would be removed" if dry_run else "were removed"
    console.print(f"{found.interactions} answers and {found.feedback} opinions {word}", markup=False)
    if found.rows is not None:
        console.print(f"{found.rows.rows} rows {word} from {len(found.rows.files)} files of kept rows", markup=False)
        if found.rows.drafts:
            console.print(f"{found.rows.drafts} rows in review queues {word}", markup=False)
    for number, lines in found.versions.items():
        for line in lines:
            console.print(f"· version {number} {line}", markup=False)
    for title, told in (("train again, in this order:", found.retrain), ("what stays:", found.left)):
        if told:
            console.print(title)
        for line in told:
            console.print(f"  {line}", markup=False)
