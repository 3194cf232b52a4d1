"""Models, ledgers and servers for the serving tests."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from serving_kit import ANSWERS, Connect, Place, Shelf, make_model

from nacre.records import RowsFile, Snapshot
from nacre.records.recipe import Recipe
from nacre.records.version import Environment
from nacre.registry.ledger import Ledger
from nacre.registry.store import ArtifactStore
from nacre.serve.run import background
from nacre.serve.settings import Serve


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    root = tmp_path_factory.mktemp("models")
    return Shelf(tuple(make_model(root / f"model-{place}", answer, place) for place, answer in enumerate(ANSWERS)))


@pytest.fixture
def place(shelf: Shelf, tmp_path: Path) -> Iterator[Place]:
    store = ArtifactStore(tmp_path / "artifacts")
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Ledger(url, store) as ledger:
        for folder in shelf.folders:
            ledger.add_version(
                base="base",
                base_sha256="0" * 64,
                kind="full",
                artifact=store.publish_folder(folder),
                recipe=Recipe(),
                environment=Environment(python="3", packages={}, machine="here", device="cpu"),
                snapshot=Snapshot(task="t", train=RowsFile(sha256="a" * 64, rows=1), dev=None, sources={}),
                tasks=("t",),
            )
        yield Place(ledger, url, store, tmp_path / "response.key")


@pytest.fixture
def champion(place: Place) -> Place:
    place.ledger.promote(1, actor="test", why="start")
    return place


@pytest.fixture(scope="session")
def folder_url(shelf: Shelf) -> Iterator[str]:
    """A server of model 0 without a ledger."""
    with background(shelf.weights(0), Serve(port=0, name="bot")) as url:
        yield url


@pytest.fixture
def connect() -> Iterator[Connect]:
    clients: list[openai.OpenAI] = []

    def connect(url: str, key: str = "none") -> openai.OpenAI:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()
