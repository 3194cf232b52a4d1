"""The accuracy matrix from the reports in the ledger: of the line that led to a version, or of the whole history."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nacre.base.errors import InputError
from nacre.cycle.lineage import ancestry, devs, tasks_of, versions_as_kept
from nacre.cycle.scores.general import GeneralTask, general_scores, general_tasks
from nacre.cycle.scores.known import KnownReports
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows, rows_path
from nacre.evaluate.history import History
from nacre.evaluate.matrix import Matrix
from nacre.records import RowsFile, Version

COVERED = 0.8  # a version trained on at least this share of every task's rows at once is a joint one


@dataclass
class Brackets:
    """The versions that a line is held against, by number, and sentences on how they were found."""

    joint: int | None = None
    plain: int | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scope:
    """What a matrix is about: versions, oldest first, tasks with their dev rows, and what is held beside them."""

    versions: tuple[Version, ...]
    tasks: tuple[tuple[str, RowsFile], ...]
    brackets: Brackets
    general: tuple[GeneralTask, ...] = ()


@dataclass(frozen=True)
class Shown:
    """What `nacre matrix` shows: the matrix of a line or the whole history, and sentences on how it came to be."""

    title: str
    grid: Matrix | History
    notes: tuple[str, ...]


def look_up(
    workspace: Workspace,
    number: int | None,
    *,
    joint: int | None = None,
    plain: int | None = None,
    score: bool = False,
) -> Shown:
    """The matrix of the line that led to version `number`, or (None) of all versions.

    Args:
        workspace: its ledger has the scores.
        number: the version looked at; None: all of them.
        joint: the version trained on all tasks at once; None: it is looked for.
        plain: the version trained on the tasks in turn with nothing protected; None: it is looked for.
        score: score first what nobody has scored yet.

    Raises:
        InputError: there is no such version, no task has dev rows, or `plain` was not taught all tasks.
        NacreError: weights are missing or damaged.
    """
    about = scope(workspace, number, joint=joint, plain=plain)
    title = "all versions" if number is None else f"version {number}"
    if about is None:
        fix = "bring dev.json beside train.json"
        raise InputError("there is no matrix: no task has dev rows", where=title, fix=fix)
    notes = [*about.brackets.notes, *(fill(workspace, about) if score else ())]
    known = KnownReports(workspace)
    found = history(workspace, about, known)
    line = None if number is None else found.line(found.numbers.index(number))
    notes += [*_inherited(about), *known.notes, *_unscored(line or found)]
    return Shown(title, line or found, tuple(notes))


def lineage_matrix(workspace: Workspace, number: int) -> Matrix | None:
    """Scores of every version that led to `number` on every task it knows; None when no task has dev rows.

    Nothing is scored here: a cell that nobody has scored stays empty (`fill` fills them). Brackets and general
    ability are left out; `scope` with `history` has them.
    """
    versions = _family({one.number: one for one in versions_as_kept(workspace)}, [_known(workspace, number)])
    tasks = tuple(devs(tasks_of(versions)))
    if not tasks:
        return None
    found = history(workspace, Scope(tuple(versions), tasks, Brackets()))
    return found.line(found.numbers.index(number))


def scope(
    workspace: Workspace, number: int | None, *, joint: int | None = None, plain: int | None = None
) -> Scope | None:
    """What the matrix of version `number`, or (None) of all versions, is about; None when no task has dev rows.

    Where they are not named, a joint version (made from the base model, on the rows of all tasks at once) and a plain
    one (taught the same tasks in turn, with nothing protected) are looked for among all versions.

    Raises:
        InputError: there is no such version, one named is the base model, or the plain one was not taught all tasks.
    """
    everything = {one.number: one for one in versions_as_kept(workspace)}
    chosen = list(everything.values()) if number is None else _family(everything, [_known(workspace, number)])
    if 0 in (joint, plain):
        fix = "name a version that was trained; the base model's scores are shown anyway"
        raise InputError("the base model is no bracket: it was taught nothing", where="--joint, --plain 0", fix=fix)
    for each in filter(None, (joint, plain)):
        _known(workspace, each)
    brackets = Brackets(joint, plain)
    line = chosen if number is not None else _longest(everything)
    if joint is None:
        _find_joint(workspace, brackets, everything, line)
    if plain is None:
        _find_plain(brackets, everything, line, brackets.joint)
    joints = {brackets.joint} if brackets.joint is not None else set()
    named = [everything[each] for each in filter(None, (brackets.joint, brackets.plain))]
    versions = _family(everything, [*chosen, *named])
    columns = [one for one in (versions if number is None else chosen) if one.number not in joints]
    tasks = tuple(devs(tasks_of(columns)))
    if not tasks:
        return None
    _check_plain(everything, brackets, [name for name, _ in tasks] if number is not None else [])
    return Scope(tuple(versions), tasks, brackets, tuple(general_tasks(workspace, dict(tasks))))


def history(workspace: Workspace, about: Scope, known: KnownReports | None = None) -> History:
    """The scores that the ledger has of what a scope is about. Nothing is scored here, see `fill`.

    Of each task the reports are read that the settings would make now: `known` looks them up, and says afterwards what
    it passed over because it was made with another metric, decoding or judge, or has some of the rows only.
    """
    known = known or KnownReports(workspace)
    versions, tasks = about.versions, about.tasks
    rows = {version.number: row for row, version in enumerate(versions)}
    columns = {name: column for column, (name, _) in enumerate(tasks)}
    base = versions[-1].base_sha256
    joint, plain = (
        rows.get(each) if each is not None else None for each in (about.brackets.joint, about.brackets.plain)
    )
    identities = [version.artifact for version in versions]
    return History(
        versions=tuple(_label(version, row, rows) for row, version in enumerate(versions)),
        numbers=tuple(rows),
        parents=tuple(tuple(rows[parent] for parent in version.parents) for version in versions),
        taught=tuple(
            tuple(columns.values()) if row == joint else _columns(version, columns)
            for row, version in enumerate(versions)
        ),
        tasks=tuple(columns),
        cells=tuple(_row(known, identity, tasks) for identity in identities),
        base=_row(known, base, tasks),
        joint=joint,
        plain=plain,
        general=tuple(general_scores(known, about.general, base, identities)),
    )


def fill(workspace: Workspace, about: Scope) -> list[str]:
    """Score what the ledger lacks: the base model and every version, on every task and on what is general.

    Returns:
        Sentences on what could not be scored.
    """
    scorer, notes = Scorer(workspace), []
    general = [(task.name, task.rows) for task in about.general if task.rows is not None]
    wanted = list({name: (name, rows) for name, rows in (*about.tasks, *general)}.values())
    scorer.reports(workspace.base, wanted)
    for version in about.versions:
        if version.base_sha256 != workspace.base.identity:
            notes.append(f"version {version.number} was not scored: it was made from another base model")
            continue
        scorer.reports(workspace.weights(version), wanted)
    return notes


def _unscored(grid: Matrix | History) -> list[str]:
    empty = sum(score is None for row in grid.cells for score in row)
    return [f"{empty} of the scores were never measured as the settings say: --fill measures them"] if empty else []


def _inherited(about: Scope) -> list[str]:
    """Where a task was learned before this ledger: its l_j is the version that brought it here."""
    scored = {name for name, _ in about.tasks}
    said = []
    for version in about.versions:
        names = [name for name in dict.fromkeys(one.task for one in version.inherited) if name in scored]
        if names and version.combined and not version.origin:
            whose = ", ".join(f"version {one.version}" for one in version.combined.members)
            said.append(f"version {version.number} knows {', '.join(names)} by what it was put together from: {whose}")
        elif names:
            said.append(
                f"version {version.number} had learned {', '.join(names)} before it came into this ledger: it stands "
                "for the versions that learned them, and what happened before is not in these figures"
            )
    return said


def _known(workspace: Workspace, number: int) -> Version:
    return ancestry(workspace, number)[-1]


def _family(everything: dict[int, Version], chosen: Sequence[Version]) -> list[Version]:
    """These versions and all they come from, over every parent of a merge, oldest first."""
    found: dict[int, Version] = {}
    wanted = list(chosen)
    while wanted:
        version = wanted.pop()
        if version.number not in found:
            found[version.number] = version
            wanted += [everything[parent] for parent in version.parents]
    return [found[number] for number in sorted(found)]


def _longest(everything: dict[int, Version]) -> list[Version]:
    """The line with the most tasks, the newest of several."""
    lines = [_family(everything, [version]) for version in everything.values()]
    return max(lines, key=lambda line: (len(tasks_of(line)), line[-1].number), default=[])


def _find_joint(
    workspace: Workspace, brackets: Brackets, everything: dict[int, Version], line: Sequence[Version]
) -> None:
    """The newest version made from the base model on the rows of all the line's tasks at once, if there is one."""
    tasks = tasks_of(list(line))
    candidates = (
        [one for one in everything.values() if not one.parents and one.number != line[0].number] if line else []
    )
    candidates = [one for one in candidates if one.snapshot.train.rows >= len(tasks)]
    if len(tasks) < 2 or not candidates:
        return
    wanted = {name: _contents(workspace, task.train) for name, task in tasks.items()}
    unread = [name for name, rows in wanted.items() if not rows]
    if unread:
        brackets.notes.append(f"no joint version was looked for: the rows of {', '.join(unread)} are not kept")
        return
    for one in reversed(candidates):
        rows = _contents(workspace, [one.snapshot.train])
        share = min(len(rows & theirs) / len(theirs) for theirs in wanted.values())
        if share >= COVERED:
            brackets.joint = one.number
            brackets.notes.append(
                f"version {one.number} is the joint bracket: made from the base model, on at least {share:.0%} of the "
                "rows of every task"
            )
            return


def _find_plain(brackets: Brackets, everything: dict[int, Version], line: Sequence[Version], joint: int | None) -> None:
    """The newest version that was taught the same tasks in the same order with nothing protected, if there is one."""
    order = list(tasks_of(list(line)))
    if len(order) < 2 or _unprotected(line):
        return
    for one in reversed(everything.values()):
        other = _family(everything, [one])
        otherwise = any(version.made for version in other)
        if one.number != joint and list(tasks_of(other)) == order and _unprotected(other) and not otherwise:
            brackets.plain = one.number
            brackets.notes.append(
                f"version {one.number} is the plain bracket: the same tasks in the same order, nothing protected"
            )
            return


def _unprotected(line: Sequence[Version]) -> bool:
    """Whether nothing acted against forgetting; the first version has nothing to forget, whatever its recipe says."""
    return all(version.recipe.protect == () for version in line if version.parents)


def _check_plain(everything: dict[int, Version], brackets: Brackets, tasks: Sequence[str]) -> None:
    if brackets.plain is None:
        return
    taught = tasks_of(_family(everything, [everything[brackets.plain]]))
    lacking = [name for name in tasks if name not in taught]
    if lacking:
        raise InputError(
            f"version {brackets.plain} was never taught {', '.join(lacking)}",
            where=f"--plain {brackets.plain}",
            fix="name a version that was taught the same tasks in turn",
        )


def _contents(workspace: Workspace, files: Sequence[RowsFile]) -> set[str]:
    """What rows say, of all these files; nothing where a file is no longer kept."""
    if not all(rows_path(workspace.memory, file.sha256).is_file() for file in files):
        return set()
    return {row.content_id for file in files for row in read_rows(workspace.memory, file)}


def _columns(version: Version, columns: dict[str, int]) -> tuple[int, ...]:
    """The tasks that a version was taught, or brought along when it came into this ledger."""
    names = dict.fromkeys((*(one.task for one in version.inherited), version.snapshot.task))
    return tuple(columns[name] for name in names if name in columns)


def _label(version: Version, row: int, rows: dict[int, int]) -> str:
    """`v3 +task`, or what it was made, and where it comes from if that is not the row above."""
    parents = [parent for parent in version.parents if rows[parent] != row - 1]
    if parents:
        parents = list(version.parents)
    came = " and ".join(f"v{parent}" for parent in parents) or ("base" if row and not version.parents else "")
    what = version.made or f"+{version.snapshot.task}"
    return f"v{version.number} {what}" + (f" (from {came})" if came else "")


def _row(known: KnownReports, identity: str, scored: Sequence[tuple[str, RowsFile]]) -> tuple[float | None, ...]:
    """The score of these weights on each task's dev rows, as the settings score them."""
    found = [known.find(identity, name, dev) for name, dev in scored]
    return tuple(report.mean if report else None for report in found)
