"""Records and evidence that were changed by hand, or lost: what `verify` says of each."""

import sqlite3
from pathlib import Path

import pytest

from nacre.base.errors import NacreError
from nacre.records import Report, Verdict
from nacre.records.forgotten import Forgotten
from nacre.records.recipe import Decoding
from nacre.records.snapshot import RowsFile
from nacre.records.verdict import Flip, TaskVerdict

SHOWN = TaskVerdict(
    task="skill", metric="m", rows=1, before=1, after=1, drop=0, interval=(0, 0), margin=0.1, margin_why="x", test="x",
    outcome="pass", flips=(Flip(row=0, before=1, after=0, prompt="a secret"),),
)  # fmt: skip


@pytest.fixture
def shop(workshop):
    """Two versions; the second was judged against the first, on one report each."""
    with workshop.open() as ledger:
        for version in workshop.versions(ledger, 2):
            ledger.put_report(
                Report(
                    weights=version.artifact,
                    task="skill",
                    dev="d" * 64,
                    rows=1,
                    metric="m",
                    why="x",
                    decoding=Decoding(max_new_tokens=4),
                    scores={"m": (1.0,)},
                    totals={},
                    answers=("a",),
                )
            )
        ledger.put_verdict(2, 1, Verdict(outcome="pass", confidence=0.95, tasks=(SHOWN,)))
    return workshop


def faults(shop) -> list[tuple[str, str, tuple[int, ...]]]:
    with shop.open() as ledger:
        return [(one.what, one.fault, one.versions) for one in ledger.evidence.faults()[0]]


def test_what_nobody_touched_is_whole(shop) -> None:
    assert faults(shop) == []
    with shop.open() as ledger:
        assert ledger.evidence.faults()[1] == 2 + 1 + 2


@pytest.mark.parametrize(
    ("statement", "said", "count"),
    [
        ("update report set record = replace(record, '1.0', '0.0')", "changed since the gate read it", 2),
        ("update report set record = '{}'", "it cannot be read", 2),
        ("update report set task = 'other'", "not the report that it is filed as", 2),
        ("delete from report", "a verdict rests on it, and it is missing", 2),
        ("update verdict set record = replace(record, '\"pass\"', '\"fail\"')", "changed since the gate gave it", 1),
        ("update verdict set record = replace(record, 'a secret', 'a lie')", "changed since the gate gave it", 1),
        ("update verdict set against = null", "changed since the gate gave it", 1),
        ("update verdict set record = 'x'", "its record cannot be read", 1),
        ("delete from verdict", "1 are missing", 1),
        ("update version set record = replace(record, '\"cpu\"', '\"gpu\"') where number = 2", "was changed since", 1),
        ("update version set record = '{' where number = 2", "its record cannot be read", 1),
        ("delete from version where number = 1", "not in the ledger any more", 1),
    ],
)
def test_edits_and_losses_show(shop, statement: str, said: str, count: int) -> None:
    with sqlite3.connect(shop.root / ".nacre" / "ledger.db") as connection:
        connection.execute(statement)
    connection.close()
    found = faults(shop)
    assert len(found) == count
    assert all(said in fault and versions for _, fault, versions in found), found


def test_what_was_forgotten_on_purpose_is_no_fault(shop) -> None:
    gone = Forgotten(sha256="d" * 64, now=RowsFile(sha256="e" * 64, rows=0), rows=("x",), places=(0,))
    with shop.open() as ledger:
        ledger.forgetting.forget([gone], tasks=["skill"], unusable=lambda _: False, detail={}, actor="ann")
        assert ledger.reports() == []
        assert ledger.verdict(2).tasks[0].flips[0].prompt == ""
    assert faults(shop) == []
    with sqlite3.connect(shop.root / ".nacre" / "ledger.db") as connection:
        connection.execute("update verdict set record = replace(record, '\"drop\":0.0', '\"drop\":0.5')")
    connection.close()
    assert len(faults(shop)) == 1, "its numbers are still vouched for"


@pytest.mark.parametrize("count", [1, 3])
def test_events_missing_at_the_end_show(shop, count: int) -> None:
    with sqlite3.connect(shop.root / ".nacre" / "ledger.db") as connection:
        connection.execute("delete from event where id > (select max(id) from event) - ?", (count,))
    connection.close()
    with shop.open() as ledger, pytest.raises(NacreError, match=r"event \d.*missing"):
        ledger.verify_chain()


def test_damaged_records_are_one_sentence(shop, tmp_path: Path) -> None:
    with sqlite3.connect(shop.root / ".nacre" / "ledger.db") as connection:
        connection.execute("update version set record = '{' where number = 2")
        connection.execute("update event set record = 'x', kind = 'collected' where id = 3")
    connection.close()
    with shop.open() as ledger:
        assert [one.number for one in ledger.evidence.readable()] == [1]
        for reading in (ledger.versions, lambda: ledger.version(2), ledger.keeping.collected, ledger.events):
            with pytest.raises(NacreError, match="cannot be read"):
                reading()


def test_kinds_of_events_fit_their_column(shop) -> None:
    with shop.open() as ledger:
        with pytest.raises(ValueError, match="at most 32 letters"):
            ledger.record("k" * 33, "ann", {})
        ledger.record("k" * 32, "ann", {})


def test_an_import_is_registered_and_told_in_one_transaction(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from nacre.registry import events

    real = events.append

    def killed(connection: object, kind: str, *rest: object) -> object:
        if kind == "imported":
            raise KeyboardInterrupt
        return real(connection, kind, *rest)

    with shop.open() as ledger:
        monkeypatch.setattr(events, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.add_version(**shop.fields("three"), imported={"origin": {}})
        assert len(ledger.versions()) == 2
