"""`nacre gate`: compare any two versions, or any two files of scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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

if TYPE_CHECKING:
    from nacre.gate.files import Gated
    from nacre.records import Keep
    from nacre.records.gating import Gate

app = verb_app()

FLIPS = 10  # of a task, in the terminal


@app.command("gate")
@dataclass
class Asked:
    """Is NEW shown not to have lost what OLD knew? Two versions, or two files of scores.

    Files hold JSON lines with id, score (0 to 1) and, if there are several, task; or they are lm-eval's
    samples_*.jsonl. FILE#KEY reads the score from another key, e.g. samples_arc.jsonl#acc_norm.
    A task of which NEW lacks rows that OLD has cannot pass, unless --allow-missing says so.
    Nothing is kept of it: `nacre versions judge NEW` keeps a verdict.
    Exit code 0: passed; 3: a loss is shown; 4: undecided, with the rows still missing.
    """

    sides: Annotated[
        tuple[str, str],
        typer.Argument(metavar="OLD NEW", help="two version numbers (0: the base model), or two files of scores"),
    ]
    workspace: WorkspaceOption = HERE
    margin: Annotated[
        str | None,
        typer.Option(
            metavar="DROP", help="largest drop of every task that can be borne, or auto", show_default="from keep: auto"
        ),
    ] = None
    confidence: Annotated[
        float | None, typer.Option(help="1 - the chance of a false alarm", show_default="from keep: 0.95")
    ] = None
    test: Annotated[
        Literal["sequential", "score", "mcnemar", "bootstrap"] | None,
        typer.Option(help="how it is tested", show_default="from gate: sequential"),
    ] = None
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="of files: judge the rows that both have, though NEW lacks some")
    ] = False
    junit: Annotated[Path | None, typer.Option(help="write JUnit XML")] = None
    markdown: Annotated[Path | None, typer.Option(help="write a page of Markdown")] = None
    as_json: JsonOption = False

    def __post_init__(self) -> None:
        compare(self)


def compare(asked: Asked) -> None:
    """Do what `nacre gate` was asked for; the class above is its options, of which there are many."""
    from nacre.base.files import atomic_write
    from nacre.gate.files import Overrides, gate_files, margin_of
    from nacre.gate.report import EXIT_CODES, as_dict
    from nacre.gate.report import junit as to_junit
    from nacre.gate.report import markdown as to_markdown

    old, new = asked.sides
    check_targets({"--junit": asked.junit, "--markdown": asked.markdown})
    overrides = Overrides(None if asked.margin is None else margin_of(asked.margin), asked.confidence, asked.test)
    if asked.allow_missing and (old.isdecimal() or new.isdecimal()):
        raise InputError("rows of versions are never missing", where="--allow-missing", fix="leave it out")
    if old.isdecimal() and new.isdecimal():
        from nacre.cycle.scores.gating import gate_versions

        with open_workspace(asked.workspace) as space:
            found = gate_versions(space, int(old), int(new), overrides)
        named = [f"version {side}" if int(side) else "the base model" for side in (new, old)]
        title = " against ".join(named)
    elif old.isdecimal() or new.isdecimal():
        fix = "give two version numbers, or two files"
        raise InputError("a version cannot be compared with a file", where=f"{old} and {new}", fix=fix)
    else:
        found = gate_files(old, new, *settings_of(asked.workspace), overrides, allow_missing=asked.allow_missing)
        title = f"{new} against {old}"
    if asked.junit:
        atomic_write(asked.junit, to_junit(found.verdict, title, found.notes))
    if asked.markdown:
        atomic_write(asked.markdown, to_markdown(found.verdict, title, found.notes))
    if asked.as_json:
        print_json(as_dict(found.verdict, found.notes) | {"new_tasks": dict(found.new_tasks)})
    else:
        show(title, found)
    raise typer.Exit(EXIT_CODES[found.verdict.outcome])


def check_targets(targets: Mapping[str, Path | None]) -> None:
    """Find out before anything is compared whether its reports can be written.

    Raises:
        InputError: a folder stands there, or a file where a folder has to.
    """
    for option, path in targets.items():
        if path is None:
            continue
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if path.is_dir() or not above.is_dir():
            raise InputError("no file can be written there", where=f"{option} {path}", fix="name a file in a folder")


def settings_of(folder: Path) -> tuple["Keep", "Gate"]:
    """`keep` and `gate` of the workspace at `folder`; the defaults where there is none."""
    from nacre.records import Keep
    from nacre.records.gating import Gate

    if not (folder / "nacre.yaml").exists():
        return Keep(), Gate()
    with open_workspace(folder) as space:
        return space.settings.keep, space.settings.gate


def show(title: str, found: "Gated") -> None:
    """Print a verdict for people: tasks, rules, what flipped, what was left out, and the outcome last."""
    from nacre.cli.tables import task_table
    from nacre.gate.report import flip_line, rule_line, task_line

    verdict = found.verdict
    rows = {
        task.task: task.model_dump(include={"before", "after", "drop", "interval", "margin", "more_rows"})
        | {"verdict": task.outcome}
        for task in verdict.tasks
    }
    nothing = {"interval": None, "margin": None, "verdict": "new"}
    for name, (before, after) in found.new_tasks.items():
        rows[name] = {"before": before, "after": after, "drop": before - after, **nothing}
    if rows:
        console.print(task_table(rows))
    flips: dict[str, Sequence[str]] = {
        f"{task.task} flips": [*map(flip_line, task.flips[:FLIPS]), *_rest((task.lost or 0) + (task.gained or 0))]
        for task in verdict.tasks
        if task.flips
    }
    reasons = [f"{task.task}: {task_line(task)}" for task in verdict.tasks]
    reasons += [f"{task.task}: margin {task.margin_why}" for task in verdict.tasks]
    print_notes({"rules": map(rule_line, verdict.rules), **flips, "notes": found.notes})
    print_notes({"gate": [*reasons, *verdict.notes]})
    console.print(f"{title}: {verdict.outcome}", markup=False)


def _rest(count: int) -> list[str]:
    return [f"and {count - FLIPS} more"] if count > FLIPS else []
