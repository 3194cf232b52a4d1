"""What a schedule can do, one function a step. Each may be killed at any time: the next run takes up what it began."""

from nacre.cycle.increment import evolve as evolving
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.releases import rollout
from nacre.cycle.releases.schedule import WORST, Result, Status
from nacre.cycle.rows import coverage as covering
from nacre.cycle.rows import harvest as harvesting
from nacre.cycle.rows import knowledge as knowing
from nacre.cycle.scores import review_base
from nacre.cycle.workspace import Workspace
from nacre.records.schedule import Entry


def knowledge(workspace: Workspace, entry: Entry) -> Result:
    """Read again what was changed in the documents; refused where too few questions have a passage in them.

    Where a new snapshot answers fewer of the questions than the one before, the one before stays in use.
    """
    if not knowing.in_use(workspace):
        return Result("nothing", ("knowledge: there are no documents",))
    why = f"schedule {entry.name}"
    renewed = knowing.refresh(workspace, questions=entry.questions, actor="schedule", why=why)
    found = knowing.report(workspace, questions=entry.questions)
    number, made = renewed.snapshot.number, renewed.made
    if renewed.refused:
        told = [f"knowledge: snapshot {number} stays in use, not the new one: {renewed.refused}"]
    else:
        told = [f"knowledge: snapshot {number} is {'in use' if made else 'up to date'}"]
    for one in found.asked:
        low, high = one.interval
        told.append(
            f"knowledge: a passage for {one.answered} of {one.questions} questions of {one.source} ({one.share:.1%}, "
            f"{low:.1%} to {high:.1%}; target {found.target:.0%})"
        )
    numbers = {"snapshot": number, "asked": [one.numbers() for one in found.asked]}
    if renewed.refused and made is not None:
        numbers |= {"made": made.number, "refused": renewed.refused}
    status: Status = "refused" if found.short or renewed.refused else "done" if made else "nothing"
    return Result(status, tuple(told), {"knowledge": numbers})


def coverage(workspace: Workspace, entry: Entry) -> Result:
    """Hold served questions, and those of a file, against the rows; refused where a share is below the target."""
    found = covering.coverage(workspace, questions=entry.questions, similarity=entry.similarity)
    if not found:
        return Result("nothing", ("coverage: nobody has asked anything yet",))
    told = []
    for one in found:
        low, high = one.interval
        told.append(
            f"coverage: {one.covered} of {one.questions} questions of {one.source} ({one.share:.1%}, "
            f"{low:.1%} to {high:.1%}; target {entry.target:.0%})"
        )
    short = any(one.share < entry.target for one in found)
    return Result("refused" if short else "done", tuple(told), {"coverage": [one.as_dict() for one in found]})


def harvest(workspace: Workspace, entry: Entry) -> Result:
    """Write accepted feedback as the next increment, where there is any; so many rows as the entry names are enough."""
    wanted = entry.when.feedback if entry.when else None
    named = isinstance(wanted, int) and max(harvesting.look(workspace).rows.values()) >= wanted
    try:
        found = harvesting.harvest(workspace, anyway=named)
    except (harvesting.NothingToLearn, harvesting.NotEnough) as error:
        return Result("nothing", (f"harvest: {error.what}",))
    told = tuple(f"harvest: {one.name} with {one.train} rows" for one in found.increments)
    return Result("done", told, {"increment": found.name})


def evolve(workspace: Workspace, entry: Entry) -> Result:
    """Learn what was harvested and the champion has not learned, however it came that it has not.

    While a rollout is active it waits, for what it trained would be judged against a champion that is about to go.
    Where `release` follows, one version that passes is enough: the next is trained on the champion that it becomes.
    """
    names, told = _waiting(workspace)
    active = workspace.ledger.releases.active()
    if names and active is not None:
        waits = f"evolve: {', '.join(names)} waits: version {active.version} is being released"
        return Result("nothing", (*told, waits))
    if not names:
        return Result("nothing", (*told, "evolve: nothing was harvested that is not learned"))
    statuses, numbers = [], []
    for place, name in enumerate(names):
        found = evolving.evolve(workspace, name, promote="never" if "release" in entry.do else None)
        state = "champion" if found.promoted else "a candidate"
        told.append(f"evolve: {name} gave version {found.version.number}: {found.verdict.outcome}, {state}")
        numbers.append(found.version.number)
        outcomes: dict[str, Status] = {"pass": "done", "fail": "refused", "undecided": "undecided"}
        statuses.append(outcomes[found.verdict.outcome])
        rest = ", ".join(names[place + 1 :])
        if rest and "release" in entry.do and found.verdict.outcome == "pass":
            told.append(f"evolve: {rest} waits until version {found.version.number} is champion or stopped")
            break
    worst: Status = next((status for status in WORST if status in statuses), "done")
    return Result(worst, tuple(told), {"versions": numbers})


def _waiting(workspace: Workspace) -> tuple[list[str], list[str]]:
    """Harvested increments that the champion has not learned and that may still be, oldest first; and why again.

    What was judged against the present champion, or was tried on users, or failed, had its chance.
    """
    ledger = workspace.ledger
    champion = ledger.slot("champion")
    present = champion.version if champion else None
    learned = tasks_of(ancestry(workspace, present))
    made = {version.snapshot.task: version.number for version in ledger.versions()}
    tried = _tried(workspace)
    harvested = [event.detail["increment"] for event in ledger.events() if event.kind == "harvested"]
    names, told = [], []
    for name in harvested:
        if name in learned or not (workspace.dataset_dir / name).is_dir():
            continue
        number = made.get(name)
        verdict = ledger.verdict(number) if number is not None else None
        if number is None or verdict is None:  # never trained, or killed before it was judged
            names.append(name)
        elif verdict.outcome == "pass" and number not in tried and ledger.judged_against(number) != present:
            names.append(name)
            told.append(
                f"evolve: {name} is learned again: version {number} passed against "
                f"{_named(ledger.judged_against(number))}, and {_named(present)} is champion now"
            )
    return names, told


def _named(number: int | None) -> str:
    return "the base model" if number is None else f"version {number}"


def _tried(workspace: Workspace) -> set[int]:
    """Versions that were released or promoted once."""
    released = {one.version for one in workspace.ledger.releases.all()}
    return released | {event.detail["to"] for event in workspace.ledger.events() if event.kind == "promoted"}


def release(workspace: Workspace, entry: Entry) -> Result:
    """Begin to release the newest version that the gate passed and that was never tried on users."""
    ledger = workspace.ledger
    active, champion = ledger.releases.active(), ledger.slot("champion")
    if active is not None:
        return Result("nothing", (f"release: version {active.version} is being released",))
    tried = _tried(workspace)
    for version in reversed(ledger.versions()):
        verdict = ledger.verdict(version.number)
        passed = verdict is not None and verdict.outcome == "pass"
        against = ledger.judged_against(version.number)
        if version.number not in tried and passed and champion is not None and against == champion.version:
            begun = rollout.start(workspace, version.number, actor="schedule", why=f"schedule {entry.name}")
            return Result("done", (f"release: version {version.number} is {begun.state}",), {"rollout": begun.id})
    return Result("nothing", ("release: no version waits that the gate passed",))


def review(workspace: Workspace, entry: Entry) -> Result:
    """Compare the models that the schedule names on everything that must be kept."""
    found = review_base.review(workspace, entry.models)
    means = ", ".join(f"{model.name} {model.mean:.3f}" for model in found.models)
    return Result("done", (f"review: mean scores: {means}", *found.told))
