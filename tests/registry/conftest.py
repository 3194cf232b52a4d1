"""A ledger over a store of tiny artifacts."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from nacre.records import Environment, Recipe, RowsFile, Snapshot, Version
from nacre.registry import ArtifactStore, Ledger
from postgres_kit import postgres  # noqa: F401  # a fixture is used by its name


class Workshop:
    """Opens ledgers on one folder and registers versions in them."""

    def __init__(self, root: Path, url: str = "") -> None:
        self.root = root
        self.url = url or f"sqlite:///{root}/.nacre/ledger.db"
        self.store = ArtifactStore(root / ".nacre" / "artifacts")

    def open(self) -> Ledger:
        return Ledger(self.url, self.store)

    def artifact(self, content: str) -> str:
        return self.store.publish(lambda folder: fill(folder, content))

    def fields(self, content: str = "w", **changes: object) -> dict[str, object]:
        train = RowsFile(sha256="a" * 64, rows=3)
        found: dict[str, object] = {
            "base": "base",
            "base_sha256": "b" * 64,
            "kind": "full",
            "artifact": self.artifact(content),
            "recipe": Recipe(),
            "environment": Environment(python="3.11", packages={}, machine="m", device="cpu"),
            "snapshot": Snapshot(task="skill", train=train, dev=None, sources={}),
            "tasks": ("skill",),
        }
        return found | changes

    def versions(self, ledger: Ledger, count: int) -> list[Version]:
        return [ledger.add_version(**self.fields(f"weights {i}")) for i in range(count)]


def fill(folder: Path, content: str) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "part").mkdir()
    (folder / "part" / "model.safetensors").write_text(content)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def workshop_at() -> Callable[[Path, str], Workshop]:
    return Workshop


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, workshop_at):
    """A workshop on a fresh database of either kind."""
    if request.param == "sqlite":
        return workshop_at(tmp_path, "")
    first = request.getfixturevalue("postgres")
    name = f"ledger_{abs(hash(tmp_path))}"
    engine = sa.create_engine(first, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    engine.dispose()
    return workshop_at(tmp_path, first.replace("/postgres?", f"/{name}?"))
