"""`nacre knowledge`: the documents beside the model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

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

if TYPE_CHECKING:
    from nacre.cycle.rows.knowledge import Standing
    from nacre.serve.knowledge.build import Renewed
    from nacre.serve.knowledge.search import Passage

app = verb_app(
    help="Documents beside the model: answers are given passages of them, without training.", no_args_is_help=True
)

PathsArgument = Annotated[list[Path], typer.Argument(help="files and folders: text, Markdown, HTML, PDF")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="put it to use however many questions lose their passage (knowledge.max_drop)")
]
_SHOWN = 20  # questions without a passage


@app.command()
def add(
    paths: PathsArgument,
    orders: Annotated[
        bool, typer.Option("--allow-orders", help="leave in what speaks to a language model; it is quoted all the same")
    ] = False,
    force: ForceOption = False,
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "by hand",
    actor: ActorOption = "nacre",
    as_json: JsonOption = False,
) -> None:
    """Take files and folders into the store; a running server uses them at its next request.

    Exit code 3: too many of the questions people asked would lose their passage; the snapshot before stays in use.
    """
    from nacre.cycle.rows import knowledge

    with open_to_write(workspace) as space:
        found = knowledge.add(space, paths, orders=orders, actor=actor, why=why, force=force)
    _renewed(found, as_json)


@app.command()
def refresh(
    force: ForceOption = False,
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "by hand",
    actor: ActorOption = "nacre",
    as_json: JsonOption = False,
) -> None:
    """Read again what was changed in them since, drop what is gone; the snapshot before stays in use until the end.

    Exit code 3: too many of the questions people asked would lose their passage; the snapshot before stays in use.
    """
    from nacre.cycle.rows import knowledge

    with open_to_write(workspace) as space:
        found = knowledge.refresh(space, actor=actor, why=why, force=force)
    _renewed(found, as_json)


@app.command()
def remove(
    paths: Annotated[list[Path], typer.Argument(help="as they were added")],
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "by hand",
    actor: ActorOption = "nacre",
    as_json: JsonOption = False,
) -> None:
    """Take files and folders out of the store, at once, whatever was asked about them."""
    from nacre.cycle.rows import knowledge

    with open_to_write(workspace) as space:
        found = knowledge.remove(space, paths, actor=actor, why=why)
    _renewed(found, as_json)


@app.command()
def rollback(
    to: Annotated[
        int | None, typer.Option(help="a snapshot of nacre knowledge list", show_default="the one before")
    ] = None,
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "by hand",
    actor: ActorOption = "nacre",
    as_json: JsonOption = False,
) -> None:
    """Put the snapshot before to use again, or any that is kept. A refresh reads the files as they are now."""
    from nacre.cycle.rows.knowledge_slots import rollback as take_back

    with open_to_write(workspace) as space:
        found = take_back(space, to=to, actor=actor, why=why)
    if as_json:
        print_json({"snapshot": found.number, "documents": len(found.documents), "chunks": found.chunks})
        return
    console.print(f"snapshot {found.number} is in use: {_held(found)}", markup=False)


@app.command("list")
def list_(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Show the snapshots that are kept: since when, what they hold, and how many questions had a passage in them."""
    from nacre.cycle.rows.knowledge_slots import kept

    with open_workspace(workspace) as space:
        found = kept(space)
    if as_json:
        print_json({"snapshots": [one.as_dict() for one in found]})
        return
    table = Table("snapshot", "state", "since", "documents", "chunks", "questions with a passage", "why")
    for one in found:
        asked = "\n".join(f"{part['source']}: {part['answered']} of {part['questions']}" for part in one.asked)
        champions = "".join(f"; version {number} answered with it last" for number in one.champions)
        held = (str(len(one.snapshot.documents)), str(one.snapshot.chunks))
        since = one.since[:16].replace("T", " ")
        table.add_row(
            str(one.snapshot.number), one.state, since, *held, asked, escape(f"{one.how}: {one.why}{champions}")
        )
    console.print(table)


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="as somebody would ask it")],
    limit: Annotated[
        int | None, typer.Option(min=1, max=32, help="passages", show_default="knowledge.passages")
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show the passages that an answer to a question would be given. Exit code 1: there is none."""
    from nacre.cycle.rows import knowledge

    with open_workspace(workspace) as space:
        hits = knowledge.search(space, question, limit)
    if as_json:
        passages = [one.citation(number) | {"text": one.text} for number, one in enumerate(hits.passages, 1)]
        print_json({"snapshot": hits.snapshot, "passages": passages, "left_out": dict(hits.left_out)})
    else:
        for number, one in enumerate(hits.passages, 1):
            console.print(f"[{number}] {one.where} ({_likeness(one)})\n{one.text}\n", markup=False)
        for reason, count in hits.left_out.items():
            console.print(f"· left out {count}: {reason}", markup=False)
        if not hits.passages:
            near = f"; the nearest is {hits.nearest.where} ({_likeness(hits.nearest)})" if hits.nearest else ""
            console.print(f"nothing is relevant enough{near}", markup=False)
    raise typer.Exit(0 if hits.passages else 1)


@app.command()
def report(
    questions: Annotated[Path | None, typer.Option(help="a file of questions, one a line, to look up too")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Say what the store holds, and for which of the questions people asked it has no passage.

    Exit code 0: enough questions have one (knowledge.target); 1: too few.
    """
    from nacre.cycle.rows import knowledge

    with open_workspace(workspace) as space:
        found = knowledge.report(space, questions=questions)
    if as_json:
        print_json(found.as_dict())
    else:
        _standing(found)
    raise typer.Exit(1 if found.short else 0)


def _renewed(found: "Renewed", as_json: bool) -> None:
    snapshot, made = found.snapshot, found.made
    if as_json:
        counts: dict[str, Any] = {"read": found.read, "kept": found.kept, "gone": found.gone, "told": list(found.told)}
        held = {"documents": len(snapshot.documents), "chunks": snapshot.chunks}
        new = {"made": made.number if made else None, "refused": found.refused}
        print_json({"snapshot": snapshot.number, "changed": found.changed, **new, **held, **counts})
    elif made is None:
        console.print(f"nothing has changed: snapshot {snapshot.number} stays in use", markup=False)
    else:
        how = f"{found.read} files read, {found.kept} as before, {found.gone} gone"
        if found.refused:
            console.print(f"snapshot {snapshot.number} stays in use, not the new one: {found.refused}", markup=False)
            _lines((f"nacre knowledge rollback --to {made.number} puts snapshot {made.number} to use all the same",))
        else:
            console.print(f"snapshot {made.number} is in use: {_held(made)} ({how})", markup=False)
        _lines(found.told)
    raise typer.Exit(3 if found.refused else 0)


def _standing(found: "Standing") -> None:
    snapshot = found.snapshot
    kept = ", ".join(str(number) for number in found.snapshots[1:])
    before = f"; before it {kept}" if kept else ""
    console.print(f"snapshot {snapshot.number} of {snapshot.created[:10]}: {_held(snapshot)}{before}", markup=False)
    _lines(found.lacks)
    if not found.asked:
        console.print("nobody has asked anything yet", markup=False)
    for one in found.asked:
        low, high = one.interval
        share = (
            f"{one.answered} of {one.questions} ({one.share:.1%}, {low:.1%} to {high:.1%}; target {found.target:.0%})"
        )
        console.print(f"{one.source}: a passage for {share}", markup=False)
        for text, times in one.unanswered[:_SHOWN]:
            console.print(f"  without one: {text}{f' ({times} times)' if times > 1 else ''}", markup=False)
        if len(one.unanswered) > _SHOWN:
            console.print(f"  and {len(one.unanswered) - _SHOWN} more: --json lists all", markup=False)


def _held(snapshot: Any) -> str:
    return f"{len(snapshot.documents)} documents in {snapshot.chunks} chunks"


def _likeness(one: "Passage") -> str:
    similar = "" if one.similarity is None else f", similarity {one.similarity:.2f}"
    return f"relevance {one.relevance:.2f}{similar}"


def _lines(sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        console.print(f"· {sentence}", markup=False)
