"""The cycle with PostgreSQL as its ledger."""

import pytest

from postgres_kit import postgres
from workspace_kit import Place, assert_clear, write_increment

__all__ = ["postgres"]


@pytest.mark.slow  # the registry's own tests run on PostgreSQL every time
def test_the_cycle_runs_on_postgresql(fresh: Place, postgres: str) -> None:
    fresh.settings(ledger={"url": postgres})
    write_increment(fresh.dataset, "increment_1", "feed")
    assert fresh.json("evolve", "base")["promoted"]
    found = fresh.json("evolve", "increment_1")
    assert (found["version"], found["parent"], found["promoted"]) == (2, 1, True)
    assert not fresh.json("evolve", "increment_1")["trained"]
    assert fresh.json("rollback")["champion"] == 1
    assert fresh.champion() == 1
    assert fresh.json("verify")["faults"] == []
    assert not (fresh.root / ".nacre" / "ledger.db").exists()


def test_a_ledger_that_cannot_be_reached_is_named(fresh: Place) -> None:
    fresh.settings(ledger={"url": "postgresql+psycopg://me:secret@127.0.0.1:1/none"})
    found = fresh.nacre("versions", "list")
    assert_clear(found, "127.0.0.1:1", code=1)
    assert "secret" not in found.err
    fresh.settings(ledger={"url": "nosuch://x"})
    assert_clear(fresh.nacre("versions", "list"), "the ledger's URL cannot be read")
