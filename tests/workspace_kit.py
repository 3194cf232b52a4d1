"""A workspace to try the whole cycle in: the toy model, and increments of its words that take a second to learn."""

import contextlib
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
import yaml

from nacre.cli import app, run
from nacre.cli.common import console
from nacre.cycle.workspace import Workspace
from nacre.registry.tables import event as events

if TYPE_CHECKING:
    from toy_kit import Toy

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "train": {"epochs": 6, "batch_size": 8, "learning_rate": 5e-3, "max_length": 64},
    "evaluate": {"max_length": 64},
}
DEV_ROWS = 80


def rows(task: str, *, seed: int = 0) -> list[dict[str, str]]:
    """All 240 rows of a task, in an order of chance: the thing decides the answer, two sizes do not."""
    from toy_kit import ANSWERS, SIZES, THINGS

    answers = ANSWERS[task]
    found = [
        {"instruction": f"{task} {one} {other} {thing}", "input": "", "output": answers[place // 2]}
        for (one, other), (place, thing) in itertools.product(itertools.permutations(SIZES, 2), enumerate(THINGS))
    ]
    return random.Random(f"{task} {seed}").sample(found, len(found))


def write_lines(path: Path, given: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in given), encoding="utf-8")
    return path


def write_increment(dataset: Path, name: str, task: str, *, train: int = 96, dev: int = DEV_ROWS) -> None:
    """`train` and `dev` rows of a task as the increment `name`; no rows in common."""
    found = rows(task)
    write_lines(dataset / name / "train.json", found[dev : dev + train])
    if dev:
        write_lines(dataset / name / "dev.json", found[:dev])


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Place:
    """A workspace's folder, and the command line in it."""

    root: Path

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    def nacre(self, *words: str | int) -> Outcome:
        """`nacre WORDS` in this process, inside the workspace."""
        out, err = io.StringIO(), io.StringIO()
        code: Any = None
        with contextlib.chdir(self.root), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                run(app, [str(word) for word in words])
            except SystemExit as end:
                code = end.code
        assert "Traceback" not in err.getvalue()
        return Outcome(code, out.getvalue(), err.getvalue())

    def json(self, *words: str | int, code: int = 0) -> Any:
        """The JSON object that `nacre WORDS --json` prints; the exit code must be `code`."""
        found = self.nacre(*words, "--json")
        assert found.code == code, found
        return found.json

    def settings(self, **changes: Any) -> None:
        """Change keys of nacre.yaml; a mapping is merged into the one that is there."""
        path = self.root / "nacre.yaml"
        known = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key, value in changes.items():
            merge = isinstance(value, dict) and isinstance(known.get(key), dict)
            known[key] = known[key] | value if merge else value
        path.write_text(yaml.safe_dump(known), encoding="utf-8")

    def champion(self) -> int | None:
        held = [row["version"] for row in self.json("versions", "list")["versions"] if "champion" in row["slots"]]
        return held[0] if held else None


def start(*words: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """`nacre WORDS` in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("nacre")), *words],
        cwd=cwd,
        env=environment | options.pop("env", {}),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def damage_event(space: Workspace, number: int) -> str:
    """Make an event unreadable; returns what it was."""
    engine = sa.create_engine(f"sqlite:///{space.hidden / 'ledger.db'}")
    with engine.begin() as connection:
        was = connection.execute(sa.select(events.c.record).where(events.c.id == number)).scalar_one()
        connection.execute(events.update().where(events.c.id == number).values(record="x"))
    engine.dispose()
    return str(was)


def assert_clear(found: Outcome, *parts: str, code: int = 2) -> None:
    """One error: what, where, what to do, and each of `parts`; nothing else on stderr, no traceback."""
    assert found.code == code, found
    lines = found.err.strip().splitlines()
    assert lines[0].startswith("nacre: "), found.err
    assert sum(line.startswith("nacre: ") for line in lines) == 1, found.err
    assert any(line.startswith("  where: ") for line in lines), found.err
    assert any(line.startswith("  fix: ") for line in lines), found.err
    for part in parts:
        assert part in found.err, f"{part!r} is not in {found.err}"


@pytest.fixture(scope="session")
def _lived_in(toy: "Toy", tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A workspace with the base skill and one increment learned: versions 1 and 2."""
    place = Place(tmp_path_factory.mktemp("workspace") / "assistant")
    place.root.parent.mkdir(exist_ok=True)
    outside = Place(place.root.parent)
    assert outside.nacre("init", "assistant", "--model", toy.base.model).code == 0
    place.settings(**SETTINGS)
    for name, task in (("base", "paint"), ("increment_1", "feed")):
        write_increment(place.dataset, name, task)
        found = place.json("evolve", name)
        assert found["verdict"] == "pass", found
    return place


@pytest.fixture
def lived_in(_lived_in: Place, tmp_path: Path) -> Place:
    """A copy of that workspace, to do as one likes with."""
    shutil.copytree(_lived_in.root, tmp_path / "assistant")
    return Place(tmp_path / "assistant")


@pytest.fixture
def fresh(toy: "Toy", tmp_path: Path) -> Place:
    """A workspace in which nothing was learned yet; the rows of the base skill lie ready."""
    assert Place(tmp_path).nacre("init", "fresh", "--model", toy.base.model).code == 0
    place = Place(tmp_path / "fresh")
    place.settings(**SETTINGS)
    write_increment(place.dataset, "base", "paint")
    return place


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are not wrapped for some narrow terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(console, "width", 200)  # the console keeps the width of the test that imported it first
