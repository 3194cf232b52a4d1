"""kill -9 at random moments of promote, rollback, trials, publish and garbage collection, four processes racing.

After every round nobody is left alive, and everything is looked at: the hash chain, the slots, every artifact and rows
file, and that each move a process was told of before it died is in the history as it was told.
"""

import os
import random
import signal
import time
import traceback
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from mirror_kit import make_space
from nacre.base.errors import NacreError
from nacre.base.files import file_lock
from nacre.cycle.versions.collect import collect
from nacre.cycle.versions.verify import verify
from nacre.cycle.workspace import Workspace
from nacre.data.rows import write_rows
from nacre.records import Environment, Event, Example, Message, Recipe, Snapshot, Version
from postgres_kit import postgres

__all__ = ["postgres"]

RACERS = 4
KEPT = 3
MOMENT_S = 1.2  # within which each round ends, counted from when all four are at work


def publish(space: Workspace, text: str) -> Version:
    """A new version with rows of its own, made and registered under the lock that evolve holds."""
    with file_lock(space.hidden / "evolve.lock"):
        rows = [Example(prompt=(Message(role="user", content=f"{text} {one}"),)) for one in range(3)]

        def fill(folder: Path) -> None:
            time.sleep(0.02)  # a real model takes longer to write: kills have to find somebody at it
            for name in ("config.json", "a.safetensors", "b.safetensors"):
                (folder / name).write_text(f"{name} {text}")

        snapshot = Snapshot(task="skill", train=write_rows(space.memory, rows), dev=None, sources={})
        return space.ledger.add_version(
            base="base",
            base_sha256=space.base.identity,
            kind="full",
            artifact=space.store.publish(fill),
            recipe=Recipe(),
            environment=Environment(python="3.11", packages={}, machine="m", device="cpu"),
            snapshot=snapshot,
            tasks=("skill",),
        )


def act(space: Workspace, choose: random.Random) -> Event | Version | None:
    """One thing of chance; returns what the ledger said of it."""
    what, ledger = choose.random(), space.ledger
    if what < 0.25:
        return publish(space, f"{os.getpid()} {choose.random()}")
    if what < 0.5:
        plan = collect(space, actor=str(os.getpid()), why="race")
        return None if not plan.goes else ledger.events(1)[0]
    if what < 0.62:
        return ledger.rollback(actor=str(os.getpid()), why="race")
    newest = max((version.number for version in ledger.versions()), default=1)
    number = max(1, newest - choose.randrange(KEPT + 1))
    if what < 0.72:
        trial = choose.choice(["challenger", "shadow"])
        return ledger.place(trial, choose.choice([number, None]), actor=str(os.getpid()), why="race")
    champion = ledger.slot("champion")
    expected = champion.generation if champion else 0
    return ledger.promote(number, actor=str(os.getpid()), why="race", expected=expected)


def race(root: Path, told: Path, seed: int, ready: int) -> None:
    """Until it is killed: act, and write down what was acknowledged, before anything else."""
    choose = random.Random(f"{seed} {os.getpid()}")
    file = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with Workspace.open(root) as space:
        space.ledger.events(1)
        os.write(ready, b"x")
        while True:
            try:
                found = act(space, choose)
            except NacreError as error:
                os.write(file, f"no {type(error).__name__}\n".encode())
                continue
            if isinstance(found, Event):
                os.write(file, f"event {found.id} {found.hash}\n".encode())
            elif isinstance(found, Version):
                os.write(file, f"version {found.number} {found.artifact}\n".encode())


def in_child(root: Path, told: Path, seed: int, ready: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            race(root, told, seed, ready)
        except BaseException:  # noqa: BLE001  # told to the parent, then the process ends at once
            told.with_name(f"broken-{os.getpid()}").write_text(traceback.format_exc())
        finally:
            os._exit(1)
    return child


def acknowledged(told: Path) -> tuple[dict[int, str], dict[int, str], Counter[str]]:
    """Events and versions that the killed ones were told of, and how often they were told no."""
    events, versions, refused = {}, {}, Counter()
    for line in told.read_text().splitlines() if told.exists() else []:
        kind, *rest = line.split()
        if kind == "no":
            refused[rest[0]] += 1
        else:
            (events if kind == "event" else versions)[int(rest[0])] = rest[1]
    return events, versions, refused


def look(space: Workspace, told: Path) -> None:
    """Everything that must be true with nobody at work."""
    history = {event.id: event for event in space.ledger.events()}
    events, versions, _ = acknowledged(told)
    for number, hashed in events.items():
        assert number in history, f"event {number} was acknowledged and is lost"
        assert history[number].hash == hashed
    known = {version.number: version.artifact for version in space.ledger.versions()}
    for number, artifact in versions.items():
        assert known.get(number) == artifact, f"version {number} was acknowledged and is lost"
    assert sorted(known) == list(range(1, len(known) + 1))
    assert [check for check in verify(space) if check.fault] == []
    moves = [event.detail["generation"] for event in history.values() if "slots" in event.detail]
    assert moves == list(range(1, len(moves) + 1)), "a generation was left out or given twice"
    assert space.ledger.generation() == len(moves)
    assert not list(told.parent.glob("broken-*")), next(told.parent.glob("broken-*")).read_text()


def kill_in_rounds(root: Path, url: str | None, rounds: int) -> Counter[str]:
    """`rounds` times: four start, race, and are killed at moments of chance; returns what happened."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    told, space_root = root / "told", root / "space"
    (space_root / "base").mkdir(parents=True)
    (space_root / "base" / "config.json").write_text("{}")
    settings = {"retention": {"versions": KEPT}, **({"ledger": {"url": url}} if url else {})}
    with make_space(space_root, **settings) as space:
        publish(space, "first")
        space.ledger.promote(1, actor="test", why="start")
    happened: Counter[str] = Counter()
    for _ in range(rounds):
        reading, ready = os.pipe()
        children = [in_child(space_root, told, seed, ready) for _ in range(RACERS)]
        os.close(ready)
        for _ in children:
            os.read(reading, 1)
        os.close(reading)
        time.sleep(chance.uniform(0.0, MOMENT_S))
        for child in children:
            os.kill(child, signal.SIGKILL)
            time.sleep(chance.choice([0.0, chance.uniform(0.0, 0.3)]))  # the others go on without it
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        with Workspace.open(space_root) as space:
            look(space, told)
            happened["half-done on disk"] += len(space.store.leftovers())
        assert ends == [-signal.SIGKILL] * RACERS
        happened["kills"] += RACERS
    with Workspace.open(space_root) as space:
        happened.update(event.kind for event in space.ledger.events())
        events, versions, refused = acknowledged(told)
        happened["acknowledged"] = len(events) + len(versions)
        happened.update(refused)
        collect(space)
        look(space, told)
        assert [path.name for path in space.store.root.iterdir() if path.name.startswith((".staging", ".trash"))] == []
    return happened


def test_twenty_kills(tmp_path: Path) -> None:
    happened = kill_in_rounds(tmp_path, None, rounds=5)
    assert happened["kills"] == 20
    assert happened["promoted"] >= 2, f"they hardly did anything: {happened}"
    assert happened["acknowledged"] >= 10, f"they hardly did anything: {happened}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_hundred_kills(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    url = fresh_database(request.getfixturevalue("postgres"), tmp_path) if kind == "postgresql" else None
    happened = kill_in_rounds(tmp_path, url, rounds=50)
    assert happened["kills"] == 200
    print(dict(happened))
    for kind in ("promoted", "rolled back", "registered", "collected", "ConflictError"):
        assert happened[kind] >= 10, f"too few of {kind}: {happened}"
    assert happened["half-done on disk"] >= 3, "nobody was ever killed while publishing or deleting"


def fresh_database(first: str, root: Path) -> str:
    name = f"moves_{abs(hash(root))}"
    engine = sa.create_engine(first, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    engine.dispose()
    return first.replace("/postgres?", f"/{name}?")
