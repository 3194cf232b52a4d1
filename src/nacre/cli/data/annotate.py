"""`nacre data annotate`: rows out to people in Label Studio, their answers in, and how far they agree."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nacre.cli.common import (
    HERE,
    JsonOption,
    WorkspaceOption,
    console,
    open_to_write,
    print_json,
    print_notes,
    verb_app,
)
from nacre.cli.data.annotated import agree, decide, rows

if TYPE_CHECKING:
    from nacre.data.annotate import Client, Pushed

app = verb_app(no_args_is_help=True, help="Rows out to people in Label Studio, their answers in, and how they agree.")

ProjectOption = Annotated[str, typer.Option("--project", help="title of the project, or its number")]


@app.callback()
def server(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(help="address of Label Studio", envvar="LABEL_STUDIO_URL")
    ] = "http://localhost:8080",
    token_env: Annotated[
        str, typer.Option("--token-env", help="environment variable that holds the API token")
    ] = "LABEL_STUDIO_API_KEY",
    token_file: Annotated[Path | None, typer.Option("--token-file", help="instead: a file that holds it")] = None,
) -> None:
    """Rows out to people in Label Studio, their answers in, and how they agree."""
    context.obj = (url, token_env, token_file)


@app.command("push")
def push_rows(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="a data file, or a dataset by name")],
    ask: Annotated[str, typer.Option(help="classify, correct, compare, rate or accept")],
    project: ProjectOption,
    classes: Annotated[list[str] | None, typer.Option("--class", help="to choose from; repeatable")] = None,
    people: Annotated[int, typer.Option(min=1, help="how many are to answer each row")] = 1,
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="where the datasets are")] = Path("dataset"),
    as_json: JsonOption = False,
) -> None:
    """Send rows to a project, made where there is none; rows that it holds are not sent again."""
    from nacre.data.annotate import config, open_project, push, tasks_of
    from nacre.data.compose.pieces import dropped_note, read_pieces

    asked = config(ask, classes or ())
    found = read_pieces(dataset, dataset_dir)
    tasks, left = tasks_of(found.rows, ask)
    client = _client(context)
    done = push(client, open_project(client, project, asked, people=people), tasks)
    done.left = left
    tell_pushed(done, [*found.notes, *dropped_note(found.dropped)], as_json=as_json)


@app.command("pull")
def pull_export(
    context: typer.Context,
    project: ProjectOption,
    out: Annotated[Path, typer.Option(help="where the JSON export goes")],
    as_json: JsonOption = False,
) -> None:
    """Fetch a project's JSON export, with the tasks that nobody has answered yet."""
    from nacre.data.annotate import pull
    from nacre.data.annotate.projects import the_project

    client = _client(context)
    found = the_project(client, project)
    tasks, answered = pull(client, found, out)
    if as_json:
        print_json({"project": found.number, "file": str(out), "tasks": tasks, "answered": answered})
        return
    console.print(f"{out}: {tasks} tasks, {answered} answered", markup=False)
    console.print(f"next: nacre data annotate agree {out}", markup=False)


@app.command("drafts")
def drafts(
    context: typer.Context,
    action: Annotated[Literal["push", "pull"], typer.Argument(help="send open drafts, or take decisions in")],
    queue: Annotated[str, typer.Option(help="name of the review queue")],
    project: Annotated[str | None, typer.Option(help="title of the project", show_default="the queue's")] = None,
    people: Annotated[int, typer.Option(min=1, help="with push: how many are to answer each draft")] = 1,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Have made-up rows of `nacre data synthesize` accepted, rejected or corrected in Label Studio."""
    from nacre.cycle.rows.draft_tasks import pull_drafts, push_drafts

    client, title = _client(context), project or f"drafts {queue}"[:50]
    with open_to_write(workspace) as space:
        if action == "push":
            tell_pushed(push_drafts(space, queue, client, title, each=people), [], as_json=as_json)
            return
        found = pull_drafts(space, queue, client, title)
    if as_json:
        print_json({"queue": queue, **vars(found)})
        return
    console.print(f"{queue}: {len(found.accepted)} accepted, {len(found.rejected)} rejected", markup=False)
    print_notes({"drafts": found.notes})
    console.print(f"next: nacre data review --queue {queue} --increment NAME writes the accepted ones", markup=False)


@app.command("adjudicate")
def adjudicate_disputed(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="disputed tasks, from agree --disputed")],
    project: ProjectOption,
    as_json: JsonOption = False,
) -> None:
    """Send what people differed in to a project of its own, which shows what was said; `pull` it, then `--decided`."""
    from nacre.cycle.rows.annotations import adjudicate

    tell_pushed(adjudicate(_client(context), file, project), [], as_json=as_json)


app.command("agree")(agree)
app.command("decide")(decide)
app.command("rows")(rows)


def tell_pushed(done: "Pushed", notes: list[str], *, as_json: bool) -> None:
    """Print what was sent."""
    project = done.project
    if as_json:
        told = {"project": project.number, "title": project.title, "url": project.url, "made": project.made}
        said = [*project.notes, *notes]
        print_json(told | {"added": done.added, "known": done.known, "left": dict(done.left), "notes": said})
        return
    console.print(f"{project.title}: {done.added} tasks added, {done.known} were there: {project.url}", markup=False)
    print_notes({"rows": [*(f"{count} left out: {why}" for why, count in done.left.items()), *project.notes, *notes]})


def _client(context: typer.Context) -> "Client":
    from nacre.data.annotate import Client, read_token

    url, variable, file = context.obj
    return Client(url, read_token(variable, file))
