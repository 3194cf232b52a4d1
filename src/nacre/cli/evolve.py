"""`nacre evolve`: learn one increment, from its data to a judged version."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from nacre.base.errors import InputError
from nacre.cli.common import (
    HERE,
    JsonOption,
    WorkspaceOption,
    console,
    open_workspace,
    print_json,
    print_notes,
    verb_app,
)
from nacre.cli.launch import WORDS, leading, machines, only_follows, only_helps, set_variables

if TYPE_CHECKING:
    from nacre.cycle.increment.evolve import Evolution
    from nacre.cycle.workspace import Workspace

app = verb_app()

FEEDBACK = "feedback"

IncrementArgument = Annotated[
    str | None,
    typer.Argument(
        help="a folder of the dataset folder, or a name in dataset_info.json", show_default="with --from feedback none"
    ),
]
StartOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="train from this version (0 is the base model); or the word feedback: harvest first, and learn that",
        show_default="the champion",
        metavar="VERSION|feedback",
    ),
]


@app.command()
def evolve(
    increment: IncrementArgument = None,
    workspace: WorkspaceOption = HERE,
    promote: Annotated[
        Literal["pass", "never"] | None,
        typer.Option(
            help="make the version champion when the gate passes, or never", show_default="from nacre.yaml: pass"
        ),
    ] = None,
    start: StartOption = None,
    progressive: Annotated[
        int | None, typer.Option(min=1, help="learn so many rows first, and the rest only where that was worth it")
    ] = None,
    as_json: JsonOption = False,
    launch: Annotated[str | None, typer.Option(help=WORDS["launch"])] = None,
    processes: Annotated[int | None, typer.Option(min=1, help=WORDS["processes"])] = None,
) -> None:
    """Check the data, train with protection, score old and new tasks, judge, register, promote.

    Exit code 0: passed, or there was nothing to do; 3: refused by the gate; 4: undecided and held as a candidate.
    """
    if only_follows():
        return
    words = {"launch": launch, "processes": str(processes) if processes else None}
    set_variables({word: value for word, value in words.items() if value is not None})

    from nacre.cycle.increment.evolve import evolve as evolve_increment
    from nacre.cycle.increment.progressive import progressively
    from nacre.cycle.mirrors.mirror import telling

    parent, feedback = _start(start, increment, progressive)
    if feedback:
        _from_feedback(workspace, promote, as_json=as_json)
    assert increment is not None

    with open_workspace(workspace) as space:
        if only_helps(space.settings.train):
            return
        once, said = one_try(space)
        refuse_parts(space, progressive)
        tell = _silent if as_json else _tell
        with leading(), once, telling(once):

            def learn(rows: int | None) -> "Evolution":
                now = "never" if rows else promote
                return evolve_increment(once, increment, promote=now, parent=parent, tell=tell, rows=rows)

            result = progressively(learn, progressive, tell, once.memory) if progressive else learn(None)
    if said:
        result = replace(result, notes={**result.notes, "protection": (*said, *result.notes.get("protection", ()))})
    if as_json:
        print_json(result.as_dict())
    else:
        show(result)
    raise typer.Exit(result.exit_code)


def _start(start: str | None, increment: str | None, progressive: int | None) -> tuple[int | None, bool]:
    """The version to train from, and whether feedback is to be harvested first."""
    if start == FEEDBACK:
        if increment is not None or progressive:
            fix = "nacre evolve --from feedback; or nacre harvest, and then nacre evolve with its name"
            raise InputError(
                "--from feedback names its increments itself", where=str(increment or progressive), fix=fix
            )
        return None, True
    if start is not None and not start.isdecimal():
        raise InputError(
            f"'{start}' is no version",
            where="nacre evolve, --from",
            fix="give a number, 0 for the base model, or feedback",
        )
    if increment is None:
        fix = "name an increment, or harvest one with --from feedback; see nacre evolve --help"
        raise InputError("it is not said what to learn", where="nacre evolve", fix=fix)
    return None if start is None else int(start), False


def _from_feedback(workspace: Path, promote: Literal["pass", "never"] | None, *, as_json: bool) -> NoReturn:
    """Harvest, learn each increment, and end with the worst exit code of them."""
    from nacre.cli.harvest import show as show_harvest
    from nacre.cycle.increment.from_feedback import from_feedback
    from nacre.cycle.mirrors.mirror import telling

    with open_workspace(workspace) as space:
        if only_helps(space.settings.train):
            raise typer.Exit
        if machines(space.settings.train) > 1:
            fix = "nacre harvest, and then nacre evolve with each name"
            raise InputError("the other machines train once", where="--from feedback", fix=fix)
        once, said = one_try(space)
        with leading(), once, telling(once):
            found = from_feedback(once, promote=promote, tell=_silent if as_json else _tell)
    if as_json:
        print_json(found.as_dict())
    else:
        if found.harvested:
            show_harvest(found.harvested)
        for sentence in said:
            console.print(sentence, markup=False)
        for result in found.learned:
            show(result)
    raise typer.Exit(found.exit_code)


def refuse_parts(space: "Workspace", progressive: int | None) -> None:
    """A part first and then all are two trainings, and the other machines take part in one."""
    if progressive and machines(space.settings.train) > 1:
        fix = "leave --progressive out, or train on one machine"
        raise InputError("the other machines train once", where="--progressive", fix=fix)


def _tell(note: str) -> None:
    """Say something before the training begins."""
    console.print(f"before training: {note}", markup=False)


def _silent(_: str) -> None:
    """With ``--json`` the notes hold it."""


def one_try(space: "Workspace") -> tuple["Workspace", list[str]]:
    """The workspace with one try alone where machines beside this one train once and end; and a sentence about it."""
    settings, count = space.settings, machines(space.settings.train)
    if count == 1 or settings.protect != "auto" or settings.keep.tries == 1:
        return space, []
    told = f"auto: one try of keep.tries {settings.keep.tries}, because the other machines of {count} train once"
    keep = settings.keep.model_copy(update={"tries": 1})
    return replace(space, settings=settings.model_copy(update={"keep": keep})), [told]


def show(result: "Evolution") -> None:
    """Print an evolution for people: tasks, matrix, what was decided on the way, and the outcome last."""
    from nacre.cli.tables import task_table
    from nacre.evaluate.pictures import terminal

    tasks = result.tasks()
    if tasks:
        console.print(task_table(tasks))
    if result.matrix is not None and result.trained:
        console.print(terminal("accuracy", result.matrix))
    margins: dict[str, list[str]] = {}
    for task in result.verdict.tasks:
        margins.setdefault(task.margin_why, []).append(task.task)
    reasons = [f"{', '.join(names)}: margin {why}" for why, names in margins.items()]
    notes = {part: said for part, said in result.notes.items() if part != "power"}  # which was said before training
    print_notes({**notes, "gate": [*result.notes.get("gate", ()), *reasons]})
    outcome = {
        "pass": "the gate passed it",
        "fail": "the gate refused it",
        "undecided": "the gate could not decide",
    }[result.verdict.outcome]
    if result.parent is not None and not result.verdict.tasks:
        outcome = "no earlier task has dev rows, so nothing could be judged"
    console.print(f"version {result.version.number}: {outcome}; {_state(result)}", markup=False)


def _state(result: "Evolution") -> str:
    """Where the version stands, and what can be done with it."""
    number = result.version.number
    if result.promoted:
        return "it is champion" if result.trained else "it is in use"
    if result.verdict.outcome == "pass":
        return f"held as a candidate: nacre promote {number} makes it champion"
    more = max((task.more_rows for task in result.verdict.tasks), default=0)
    if result.verdict.outcome == "undecided" and more:
        return f"held as a candidate until there are about {more} more dev rows"
    return "not promoted"
