"""Retention and `nacre gc`: what goes, what stays and why, and kills in between."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from nacre.cycle.versions import collect as collecting
from nacre.cycle.versions.verify import verify
from nacre.cycle.workspace import Workspace
from nacre.registry import leases
from nacre.registry.tables import release
from workspace_kit import Place, assert_clear

OLD_S = time.time() - 90 * 86_400


@pytest.fixture(scope="module")
def _long_lived(toy, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Six versions, each from the one before, of which 6 is champion; trained in no time, for weights do not matter."""
    from nacre.records import Environment, Recipe, RowsFile, Snapshot
    from workspace_kit import SETTINGS

    place = Place(tmp_path_factory.mktemp("retention") / "long")
    assert Place(place.root.parent).nacre("init", "long", "--model", toy.base.model).code == 0
    place.settings(**SETTINGS)
    with Workspace.open(place.root) as space:
        for number in range(1, 7):
            rows = [toy.tasks["paint"][number]]
            from nacre.data.rows import write_rows

            train, dev = write_rows(space.memory, rows), write_rows(space.memory, [*rows, *rows])

            def fill(folder: Path, number: int = number) -> None:
                (folder / "config.json").write_text("{}")
                (folder / "model.safetensors").write_bytes(b"%d" % number * 1000)

            sha = space.store.publish(fill)
            memory = space.memory
            for name in (f"generic/{sha[:16]}-0.jsonl", f"rehearsed/{sha[:16]}-abc.json"):
                (memory / name).parent.mkdir(exist_ok=True)
                (memory / name).write_text(f"of version {number}")
            space.ledger.add_version(
                parents=(number - 1,) if number > 1 else (),
                base=space.settings.model,
                base_sha256=space.base.identity,
                kind="full",
                artifact=sha,
                recipe=Recipe(),
                environment=Environment(python="3", packages={}, machine="m", device="cpu"),
                snapshot=Snapshot(task=f"task_{number}", train=RowsFile.model_validate(train), dev=dev, sources={}),
                tasks=("paint",),
            )
        for number in (1, 6):
            space.ledger.promote(number, actor="test", why="x")
        for path in (space.memory / "rows").iterdir():
            os.utime(path, (OLD_S, OLD_S))
    return place


@pytest.fixture
def place(_long_lived: Place, tmp_path: Path) -> Place:
    shutil.copytree(_long_lived.root, tmp_path / "long")
    return Place(tmp_path / "long")


def clean(place: Place) -> bool:
    with Workspace.open(place.root) as space:
        return not [check for check in verify(space) if check.fault]


def weights(place: Place) -> set[int]:
    """The versions whose weights are here."""
    with Workspace.open(place.root) as space:
        return {one.number for one in space.ledger.versions() if space.store.has(one.artifact)}


def test_without_a_rule_no_version_goes(place: Place) -> None:
    found = place.json("gc", "--dry-run")
    assert (found["goes"], found["versions"]) == ([], [])
    reasons = {item["versions"][0]: item["why"] for item in found["stays"] if item["kind"] == "artifact"}
    assert "version 6: stands in champion" in reasons[6]
    assert "keeps every version" in reasons[3]


def test_what_slots_parents_pins_and_servers_need_stays(place: Place) -> None:
    place.settings(retention={"versions": 1})
    assert place.json("versions", "pin", 3, "--why", "the lawyers ask")["version"] == 3
    with Workspace.open(place.root) as space:
        lease = leases.Lease(space.serving)
        lease.hold([4])
        planned = place.json("gc", "--dry-run")
        assert weights(place) == {1, 2, 3, 4, 5, 6}, "a dry run deletes nothing"
        found = place.json("gc", "--why", "monthly")
        assert found["goes"] == planned["goes"]
        lease.close()
    reasons = {item["versions"][0]: item["why"] for item in found["stays"] if item["kind"] == "artifact"}
    assert reasons == {
        1: "version 1: stands in previous-1",
        2: "version 2: version 3 was trained from it",
        3: "version 3: is pinned: the lawyers ask",
        4: f"version 4: is held by the server {os.getpid()} on {os.uname().nodename}",
        5: "version 5: version 6 was trained from it",
        6: "version 6: stands in champion",
    }
    assert place.json("versions", "unpin", 3)["version"] == 3
    found = place.json("gc")
    assert found["versions"] == [2, 3, 4]
    assert weights(place) == {1, 5, 6}
    assert clean(place)


def test_a_collected_version_keeps_its_record_and_its_rows_stay_for_replay(place: Place) -> None:
    place.settings(retention={"versions": 1})
    bytes_before = sum(path.stat().st_size for path in (place.root / ".nacre" / "artifacts").rglob("*.safetensors"))
    found = place.json("gc", "--why", "monthly")
    assert found["versions"] == [2, 3, 4]
    bytes_after = sum(path.stat().st_size for path in (place.root / ".nacre" / "artifacts").rglob("*.safetensors"))
    gone = [item for item in found["goes"] if item["kind"] == "artifact"]
    assert bytes_before - bytes_after == sum(item["bytes"] for item in gone) - 3 * 2  # and each one's config.json
    assert {item["kind"] for item in found["goes"]} == {"artifact", "memory"}, "version 6 replays what all have learned"
    told = {path.read_text() for path in (place.root / ".nacre" / "memory" / "generic").iterdir()}
    assert told == {"of version 1", "of version 5", "of version 6"}
    event = place.json("versions", "show", 3)["events"][-1]
    assert (event["kind"], event["detail"]["why"], event["detail"]["retention"]["versions"]) == (
        "collected",
        "monthly",
        1,
    )
    assert len(event["detail"]["artifacts"]) == 3
    assert all(one["why"] for one in event["detail"]["evidence"])
    checked = place.json("verify")
    assert (checked["faults"], len(checked["collected"])) == ([], 3)
    assert "weights collected" in place.nacre("versions", "show", 3).out
    assert_clear(place.nacre("promote", 3, "--force"), "the weights of version 3 were removed by nacre gc", code=1)
    assert_clear(place.nacre("versions", "pin", 3), "the weights of version 3", code=1)
    assert place.json("gc")["goes"] == []


def test_versions_on_their_way_to_the_users_stay(place: Place) -> None:
    place.settings(retention={"versions": 1})
    with Workspace.open(place.root) as space, space.ledger._database.write() as connection:
        for version, state in ((3, "canary"), (4, "aborted")):
            told = {"version": version, "champion": 6}
            row = {"version": version, "state": state, "created": "t", "record": json.dumps(told)}
            connection.execute(release.insert().values(row))
    found = place.json("gc", "--dry-run")
    assert found["versions"] == [4]
    why = {item["versions"][0]: item["why"] for item in found["stays"] if item["kind"] == "artifact"}
    assert why[3] == "version 3: is being released (canary)"
    assert why[2] == "version 2: version 3 was trained from it"
    text = place.nacre("gc", "--dry-run").out
    assert "would go" in text
    place.json("gc")
    listed = {row["version"]: row["weights"] for row in place.json("versions", "list")["versions"]}
    assert listed == {1: "here", 2: "here", 3: "here", 4: "collected", 5: "here", 6: "here"}


def test_a_line_that_nobody_needs_goes_with_its_rows(place: Place) -> None:
    with Workspace.open(place.root) as space:
        rows = {one.number: one.snapshot.train.sha256 for one in space.ledger.versions()}
    place.settings(retention={"versions": 1})
    place.json("rollback", "--to", 1)
    with Workspace.open(place.root) as space:  # a version beside the line is the newest one now
        old = space.ledger.version(1)
        fields = old.model_dump(exclude={"number", "created", "schema_version"})
        space.ledger.add_version(**fields | {"snapshot": old.snapshot, "recipe": old.recipe})
    found = place.json("gc")
    assert found["versions"] == [2, 3, 4, 5, 6]
    kept = {path.stem for path in (place.root / ".nacre" / "memory" / "rows").iterdir()}
    assert rows[1] in kept
    assert not {rows[number] for number in range(2, 7)} & kept
    assert clean(place)


def test_leftovers_old_runs_and_unreferenced_things_go(place: Place) -> None:
    hidden = place.root / ".nacre"
    with Workspace.open(place.root) as space:
        nobodys = space.store.publish(lambda folder: (folder / "a.txt").write_text("x"))
        (space.store.root / ".staging-killed").mkdir()
        (space.store.root / ".trash-killed").mkdir()
        for name in (".import-killed", ".import-young"):
            (hidden / name).mkdir()
        os.utime(hidden / ".import-killed", (OLD_S, OLD_S))
        rows = hidden / "memory" / "rows" / f"{'0' * 64}.jsonl"
        rows.write_text("{}")
        dead = hidden / "serving" / f"{os.uname().nodename}-dead.json"
        dead.parent.mkdir(exist_ok=True)
        dead.write_text('{"versions": [2]}')
        for name in ("old", "young"):
            (hidden / "runs" / name).mkdir(parents=True)
            (hidden / "runs" / name / "state").write_text("x")
        (hidden / "memory" / ".x.jsonl.abcd_123").write_text("half")
        for path in (
            hidden / "runs" / "old",
            hidden / "runs" / "old" / "state",
            hidden / "memory" / ".x.jsonl.abcd_123",
            rows,
            dead,
        ):
            os.utime(path, (OLD_S, OLD_S))
        cache, young = (hidden / "memory" / "importance" / f"{digit * 64}.safetensors" for digit in "12")
        cache.parent.mkdir()
        theirs = hidden / "memory" / "importance" / f"si-{'3' * 64}.safetensors"
        for path in (cache, young, theirs):
            path.write_text("x")
        os.utime(cache, (OLD_S, OLD_S))
        mine = hidden / "memory" / "mine.txt"
        mine.write_text("not nacre's")
    found = place.json("gc")
    names = {(item["kind"], item["name"]) for item in found["goes"]}
    assert names == {
        ("artifact", nobodys),
        ("rows", "0" * 64),
        ("run", "old"),
        ("memory", f"importance/{cache.name}"),
        ("memory", f"importance/{theirs.name}"),
        ("leftover", ".staging-killed"),
        ("leftover", ".trash-killed"),
        ("leftover", ".import-killed"),
        ("leftover", dead.name),
        ("leftover", ".x.jsonl.abcd_123"),
    }
    assert not any(Path(item["path"]).exists() for item in found["goes"])
    assert young.exists()
    assert mine.exists()
    assert (hidden / "runs" / "young" / "state").exists()
    assert clean(place)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"versions": 2, "parents": "all"}, {1, 2, 3, 4, 5, 6}),
        ({"versions": 2}, {1, 4, 5, 6}),
        ({"days": 0}, {1, 5, 6}),
        ({"days": 1}, {1, 2, 3, 4, 5, 6}),
    ],
)
def test_the_rules(place: Place, settings: dict[str, object], left: set[int]) -> None:
    place.settings(retention=settings)
    place.json("gc")
    assert weights(place) == left


def test_something_that_happens_meanwhile_is_seen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version is pinned between the decision and the deletion: it stays."""
    place.settings(retention={"versions": 1})
    real = collecting.plan
    calls = []

    def slow(space: Workspace) -> collecting.Plan:
        found = real(space)
        if not calls:
            space.ledger.keeping.pin(3, actor="test", why="wait")
        calls.append(found.versions)
        return found

    monkeypatch.setattr(collecting, "plan", slow)
    with Workspace.open(place.root) as space:
        collecting.collect(space)
    assert calls == [(2, 3, 4), (4,)]
    assert weights(place) == {1, 2, 3, 5, 6}


def test_it_waits_for_no_training(place: Place) -> None:
    from nacre.base.files import file_lock

    with file_lock(place.root / ".nacre" / "evolve.lock"):
        assert_clear(place.nacre("gc"), "another nacre command is at work here", code=1)


def test_kills_at_every_step_leave_it_clean(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before each of the system calls that delete something; each time `verify` is clean, and gc can go on."""
    place.settings(retention={"versions": 1})
    steps = 0
    while True:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _die_at(steps)
                with Workspace.open(place.root) as space:
                    collecting.collect(space)
                code = 0
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        assert clean(place)
        assert weights(place) >= {1, 5, 6}
        if status != signal.SIGKILL:
            assert status == 0
            break
        steps += 1
    assert steps >= 5
    assert weights(place) == {1, 5, 6}
    hidden = [path.name for path in (place.root / ".nacre" / "artifacts").iterdir() if path.name.startswith(".trash")]
    assert hidden == []


def _die_at(step: int) -> None:
    """Kill this process at the `step`-th rename, unlink or removal."""
    done = iter(range(10_000))

    def counted(action):
        def act(*arguments, **options):
            if next(done) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return action(*arguments, **options)

        return act

    for owner, name in ((Path, "rename"), (Path, "unlink"), (shutil, "rmtree"), (os, "unlink")):
        setattr(owner, name, counted(getattr(owner, name)))


def test_a_lease_ends_with_its_server_or_grows_old(tmp_path: Path) -> None:
    lease = leases.Lease(tmp_path)
    lease.hold([2, 1])
    assert [server.versions for server in leases.held(tmp_path)[0]] == [(1, 2)]
    lease.hold([7])
    assert leases.held(tmp_path)[0][0].versions == (7,)
    path = next(tmp_path.iterdir())
    os.utime(path, (OLD_S, OLD_S))
    assert leases.held(tmp_path)[0], "the lock says that it lives, however old the file is"
    far = tmp_path / "elsewhere-1.json"
    far.write_bytes(path.read_bytes())
    assert len(leases.held(tmp_path)[0]) == 2
    os.utime(far, (OLD_S, OLD_S))
    assert leases.held(tmp_path)[1] == [far]
    lease.close()
    assert leases.held(tmp_path) == ([], [far])
    assert leases.held(tmp_path / "none") == ([], [])
