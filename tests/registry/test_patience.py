"""A PostgreSQL server that is gone without a word is not waited for as long as the system would."""

import socket
import time

import pytest

from nacre.base.errors import NacreError
from nacre.registry import database

pytest.importorskip("psycopg")


def test_a_server_that_takes_connections_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(database._PATIENCE, "connect_timeout", 2)  # the least that libpq knows
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port, began_s = silent.getsockname()[1], time.monotonic()
        with pytest.raises(NacreError, match="timeout"):
            database.Database(f"postgresql+psycopg://nobody@127.0.0.1:{port}/nothing?sslmode=disable")
    assert time.monotonic() - began_s < 60


def test_a_url_that_says_how_long_is_heeded() -> None:
    url = database.sa.make_url("postgresql+psycopg://nobody@h/n?connect_timeout=3")
    told = database._patience(url)
    assert "connect_timeout" not in told
    assert told["tcp_user_timeout"] == 20_000
    assert database._patience(database.sa.make_url("sqlite:///x.db")) == {}
