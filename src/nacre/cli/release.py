"""`nacre release`: bring a version to the users step by step, and take it back."""

from typing import TYPE_CHECKING, Annotated

import typer
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
    print_notes,
    verb_app,
)

if TYPE_CHECKING:
    from nacre.cycle.releases.rollout import Look
    from nacre.records import Rollout

app = verb_app(help="Bring a version to the users step by step, and take it back.", no_args_is_help=True)

ForceOption = Annotated[bool, typer.Option("--force", help="overrule what speaks against it; the history says so")]


@app.command()
def status(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Where the rollout is, what its answers show, what it waits for, and which moves are possible."""
    from nacre.cycle.releases.rollout import look
    from nacre.cycle.releases.steering import status as standing
    from nacre.cycle.scores.similarity import similarity
    from nacre.records.release import commands

    with open_workspace(workspace) as space:
        seen = look(space)
        told = standing(space, seen) if as_json else {}
        past = space.ledger.releases.all()
        alike = similarity(space, seen.rollout) if seen and not as_json else None
    if as_json:
        print_json(told)
        return
    if seen is None:
        console.print("no rollout is active: nacre release start N begins one", markup=False)
        for one in past[-3:]:
            console.print(f"release {one.id}: version {one.version} is {one.state}: {one.why}", markup=False)
        taken_back = next((commands(one) for one in reversed(past) if one.state == "champion"), ())
        console.print(f"possible: {', '.join(('start', *taken_back))}", markup=False)
        return
    _show(seen)
    if alike is not None:
        console.print(str(alike), markup=False)
    console.print(f"possible: {', '.join(commands(seen.rollout))}", markup=False)


@app.command()
def start(
    version: Annotated[int, typer.Argument(help="version number")],
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "released by hand",
    force: ForceOption = False,
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Begin to release a version that the gate passed: first unseen in the shadow, then to a growing share."""
    from nacre.cycle.releases import rollout

    with open_to_write(workspace) as space:
        _tell(rollout.start(space, version, actor=actor, why=why, force=force), as_json)


@app.command()
def tick(workspace: WorkspaceOption = HERE, actor: ActorOption = "release", as_json: JsonOption = False) -> None:
    """Look at the evidence once and act on it: go on, stop, or wait.

    Exit code 0: it went on, or nothing is being released; 3: it was stopped; 4: it waits.
    """
    from nacre.cycle.releases import rollout

    with open_to_write(workspace) as space:
        done = rollout.tick(space, actor=actor)
    if as_json:
        print_json(done.as_dict() if done else {"look": None})
    elif done is None:
        console.print("no rollout is active", markup=False)
    else:
        _show(done.look)
        if done.after != done.look.rollout:
            console.print(_standing(done.after), markup=False)
    raise typer.Exit(done.exit_code if done else 0)


@app.command()
def score(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Have the model of evaluate.judge score what the champion and the shadow answered to the same requests."""
    from nacre.cycle.scores.pair_scores import ask_judge

    with open_to_write(workspace) as space:
        found = ask_judge(space)
    if as_json:
        print_json({"scored": found.pairs, "left": found.left, "notes": list(found.notes)})
        return
    left = f"; {found.left} are left" if found.left else ""
    console.print(f"{found.pairs} shadow pairs were scored{left}", markup=False)
    print_notes({"judge": found.notes})


@app.command()
def hold(
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "held by hand",
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Let it go no further for now; users keep the version they have. What shows harm still stops it."""
    from nacre.cycle.releases import rollout

    with open_to_write(workspace) as space:
        _tell(rollout.hold(space, actor=actor, why=why), as_json)


@app.command()
def resume(
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "resumed by hand",
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Let a held rollout go on."""
    from nacre.cycle.releases import rollout

    with open_to_write(workspace) as space:
        _tell(rollout.resume(space, actor=actor, why=why), as_json)


@app.command()
def approve(
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "approved by hand",
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Allow the next step, where release.manual or the step asks for it; the next tick takes it."""
    from nacre.cycle.releases import rollout

    with open_to_write(workspace) as space:
        _tell(rollout.approve(space, actor=actor, why=why), as_json)


@app.command()
def abort(
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "aborted by hand",
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """End the rollout: the champion answers everybody again."""
    from nacre.cycle.releases import rollout

    with open_to_write(workspace) as space:
        _tell(rollout.abort(space, actor=actor, why=why), as_json)


@app.command()
def promote(
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "promoted by hand",
    force: ForceOption = False,
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Skip the steps that are left: the version becomes champion now."""
    from nacre.cycle.releases import rollout

    with open_to_write(workspace) as space:
        _tell(rollout.promote(space, actor=actor, why=why, force=force), as_json)


@app.command()
def rollback(
    workspace: WorkspaceOption = HERE,
    why: WhyOption = "taken back by hand",
    actor: ActorOption = "user",
    as_json: JsonOption = False,
) -> None:
    """Take the latest release back: end it, or make the champion before it champion again."""
    from nacre.cycle.releases import rollout

    with open_to_write(workspace) as space:
        _tell(rollout.rollback(space, actor=actor, why=why), as_json)


def _tell(after: "Rollout", as_json: bool) -> None:
    if as_json:
        print_json(after.model_dump(mode="json") | {"weight": after.weight})
    else:
        console.print(_standing(after), markup=False)


def _standing(found: "Rollout") -> str:
    where = {
        "shadow": "answers in the shadow, unseen",
        "canary": f"answers {found.weight:g} % of the users",
        "champion": "is champion",
    }.get(found.state, f"is {found.state}")
    held = f", held: {found.held}" if found.held else ""
    return f"release {found.id}: version {found.version} {where}{held}: {found.why}"


def _show(seen: "Look") -> None:
    """Print one look: where it is, each finding, what follows."""
    console.print(_standing(seen.rollout), markup=False)
    if seen.sight.findings:
        table = Table("measure", "champion", "new", "requests", "loss", "interval", "margin", "outcome")
        for one in seen.sight.findings:
            low, high = one.interval
            table.add_row(
                one.metric,
                f"{one.arms.before:.3f}",
                f"{one.arms.after:.3f}",
                f"{one.arms.old} and {one.arms.new}",
                f"{one.drop:+.3f}",
                f"{low:+.3f} to {high:+.3f}",
                f"{one.margin:.3f}",
                one.outcome,
            )
        console.print(table)
    shown = [
        f"{name}: {arms.before:.1%} of the champion's {arms.old} answers, {arms.after:.1%} of the new one's {arms.new}"
        for name, arms in seen.sight.signals.items()
    ]
    print_notes({"watched": shown, "not known": seen.notes})
    missing = f"; still missing: {', '.join(seen.decision.missing)}" if len(seen.decision.missing) > 1 else ""
    console.print(f"decision: {seen.decision.action}: {seen.decision.why}{missing}", markup=False)
