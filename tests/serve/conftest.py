"""Models, ledgers and servers for the serving tests."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from conformance_kit import SERVERS
from gateway_kit import Hall, NamedEngine, make_hall, serving
from serving_kit import ANSWERS, Connect, Place, Shelf, make_model, make_place

from nacre.serve.run import background
from nacre.serve.settings import Serve


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    root = tmp_path_factory.mktemp("models")
    return Shelf(tuple(make_model(root / f"model-{place}", answer, place) for place, answer in enumerate(ANSWERS)))


@pytest.fixture
def place(shelf: Shelf, tmp_path: Path) -> Iterator[Place]:
    with make_place(shelf, tmp_path) as place:
        yield place


@pytest.fixture
def champion(place: Place) -> Place:
    place.ledger.promote(1, actor="test", why="start")
    return place


@pytest.fixture(scope="session")
def folder_url(shelf: Shelf) -> Iterator[str]:
    """A server of model 0 without a ledger."""
    with background(shelf.weights(0), Serve(port=0, name="bot")) as url:
        yield url


@pytest.fixture(scope="module", params=sorted(SERVERS))
def served(
    request: pytest.FixtureRequest, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Place]]:
    """A server of every engine in turn, and its ledger: 1 is champion, 2 stays loaded as the one before."""
    with make_place(shelf, tmp_path_factory.mktemp("conformance")) as place:
        place.ledger.promote(2, actor="test", why="start")
        place.ledger.promote(1, actor="test", why="the next one")
        with SERVERS[request.param](place) as url:
            yield url, place


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """A workspace whose versions say their names, for tests that share one."""
    NamedEngine.forget()
    made = make_hall(tmp_path_factory.mktemp("hall") / "assistant")
    yield made
    made.space.close()


@pytest.fixture(scope="module")
def admin(hall: Hall) -> str:
    """A key that opens the admin API and nothing else."""
    return hall.ledger.keys.create("boss", ["admin"])[1]


@pytest.fixture(scope="module")
def url(hall: Hall, admin: str) -> Iterator[str]:
    """A server of it, which asks for keys."""
    with serving(hall) as server:
        yield server.url


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
