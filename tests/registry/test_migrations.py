"""Ledgers of an older schema, as the program of that time wrote them, on SQLite and PostgreSQL."""

import json
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from nacre.base.errors import NacreError
from nacre.records import Report, Version
from nacre.registry import ArtifactStore, Ledger, migrations, tables
from process_kit import in_child

SCRIPTS = Path(__file__).parent / "schema_1"
NEW = {"follower", "key", "key_use", "release", "review"}


@pytest.fixture(params=["sqlite", "postgresql"])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a ledger of schema 1: three versions, two promotions, a report, a verdict, one opinion."""
    return _restored(request, tmp_path, SCRIPTS)


def _restored(request: pytest.FixtureRequest, tmp_path: Path, scripts: Path) -> str:
    script = (scripts / f"{request.param}.sql").read_text()
    if request.param == "sqlite":
        with sqlite3.connect(tmp_path / "ledger.db") as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(script)
        connection.close()
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    first = request.getfixturevalue("postgres")
    name = f"older_{abs(hash(tmp_path))}"
    for url, statements in ((first, f"create database {name}"), (first.replace("/postgres?", f"/{name}?"), script)):
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statements.replace("%", "%%"))
        engine.dispose()
    return first.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", "postgresql"])
def second(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a ledger of schema 2, which came from one of schema 1."""
    return _restored(request, tmp_path, SCRIPTS.with_name("schema_2"))


def opened(url: str, tmp_path: Path) -> Ledger:
    return Ledger(url, ArtifactStore(tmp_path / "artifacts"))


def state(url: str) -> tuple[str, set[str]]:
    """The schema's number and the tables, read without the ledger."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(sa.text("select value from nacre_meta where name = 'schema'")).scalar_one()
        present = set(sa.inspect(connection).get_table_names())
    engine.dispose()
    return found, present


def test_everything_an_older_ledger_held_is_there_afterwards(
    older: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert state(older)[0] == "1"
    assert not NEW & state(older)[1]
    with opened(older, tmp_path) as ledger:
        assert [version.number for version in ledger.versions()] == [1, 2, 3]
        assert {name: slot.version for name, slot in ledger.slots().items()} == {"champion": 2, "previous-1": 1}
        assert ledger.reports()[0].answers == ("ja", "否")
        assert ledger.verdict(2).tasks[0].more_rows == 4
        assert ledger.judged_against(2) == 1
        assert [one.value for one in ledger.feedback()] == [4]
        event = ledger.events(1)[0]
        assert (event.kind, event.detail["from"], event.detail["to"]) == ("migrated", 1, tables.SCHEMA)
        assert ledger.verify_chain() == 6
        ledger.record("note", "ann", {})  # and it goes on
    found, present = state(older)
    assert found == str(tables.SCHEMA)
    assert set(tables.metadata.tables) == present
    assert "had schema 1" in caplog.text
    with opened(older, tmp_path) as ledger:
        assert ledger.verify_chain() == 7, "migrated once only"


def test_the_new_tables_are_those_of_a_fresh_ledger(older: str, tmp_path: Path) -> None:
    opened(older, tmp_path).close()
    engine = sa.create_engine(older)
    inspector = sa.inspect(engine)
    for table in tables.metadata.sorted_tables:
        columns = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
        assert columns == {column.name: bool(column.nullable) for column in table.columns}
        assert {index["name"] for index in inspector.get_indexes(table.name)} == {one.name for one in table.indexes}
    engine.dispose()


def test_the_second_schema_gets_its_keys_and_loses_nothing(second: str, tmp_path: Path) -> None:
    found, present = state(second)
    assert found == "2"
    assert set(tables.metadata.tables) - present == {"key", "key_use"}
    with opened(second, tmp_path) as ledger:
        assert {name: slot.version for name, slot in ledger.slots().items()} == {"champion": 2, "previous-1": 1}
        event = ledger.events(1)[0]
        assert (event.kind, event.detail["from"], event.detail["to"]) == ("migrated", 2, tables.SCHEMA)
        assert ledger.keys.all() == []
        made, _ = ledger.keys.create("ann", ["infer"])
        assert ledger.verify_chain() == 8
    with opened(second, tmp_path) as ledger:
        assert [held.key for held in ledger.keys.all()] == [made]
    found, present = state(second)
    assert (found, present) == (str(tables.SCHEMA), set(tables.metadata.tables))


@pytest.fixture(params=["sqlite", "postgresql"])
def third(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a ledger of schema 3 with answers, opinions (one of them exported) and a key."""
    return _restored(request, tmp_path, SCRIPTS.with_name("schema_3"))


def test_the_third_schema_gets_its_columns_and_loses_no_opinion(third: str, tmp_path: Path) -> None:
    assert state(third)[0] == "3"
    with opened(third, tmp_path) as ledger:
        said = ledger.feedback()
        assert [(one.kind, one.status) for one in said[-2:]] == [("correction", "exported"), ("stars", "new")]
        assert {(one.person, one.other, one.why, one.increment) for one in said} == {("", "", "", "")}
        old = ledger.interaction("chatcmpl-1")
        assert old is not None
        assert (old.answer, old.prompt, old.consent, old.first_token_s, old.removed) == ("层", "", "assumed", None, {})
        assert [held.key.name for held in ledger.keys.all()] == ["ann"]
        fresh = old.changed(id="chatcmpl-3", prompt="p" * 64, consent="given", first_token_s=0.1, removed={"EMAIL": 1})
        ledger.add_interactions([fresh])
        assert ledger.interaction("chatcmpl-3") == fresh
        number = ledger.add_feedback(said[-1].changed(id=0, interaction="chatcmpl-3", person="who"))
        ledger.mark_feedback([number], "quarantined", why="one person alone")
        assert ledger.feedback("quarantined")[0].why == "one person alone"
        assert ledger.verify_chain() == 10
    engine = sa.create_engine(third)
    inspector = sa.inspect(engine)
    for table in (tables.interaction, tables.feedback):
        assert {column["name"] for column in inspector.get_columns(table.name)} == set(table.c.keys())
        assert {index["name"] for index in inspector.get_indexes(table.name)} == {one.name for one in table.indexes}
    engine.dispose()
    assert state(third) == (str(tables.SCHEMA), set(tables.metadata.tables))


def test_a_copy_of_the_file_is_made_before(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((SCRIPTS / "sqlite.sql").read_text())
    connection.close()
    with opened(f"sqlite:///{path}", tmp_path) as ledger:
        kept = tmp_path / ledger.events(1)[0].detail["backup"]
    assert state(f"sqlite:///{kept}") == ("1", set(tables.metadata.tables) - NEW)
    with sqlite3.connect(kept) as connection:
        assert connection.execute("select count(*) from event").fetchone() == (5,)
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()
    assert [entry for entry in os.listdir(tmp_path) if entry.startswith(".")] == []


def test_four_that_open_it_at_once_migrate_it_once(older: str, tmp_path: Path) -> None:
    start = time.monotonic() + 0.3

    def work() -> None:
        time.sleep(max(0.0, start - time.monotonic()))
        with opened(older, tmp_path) as ledger:
            ledger.record("opened", "test", {})

    children = [in_child(work) for _ in range(4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    with opened(older, tmp_path) as ledger:
        kinds = [event.kind for event in ledger.events()][5:]
        assert sorted(kinds) == ["migrated", *["opened"] * 4]
        assert ledger.verify_chain() == 10


def test_a_writer_that_has_the_ledger_open_is_waited_for(older: str, tmp_path: Path) -> None:
    """It takes the lock of all writers first and the events after: so must whoever changes the tables."""
    if not older.startswith("postgresql"):
        pytest.skip("SQLite has one lock")
    engine = sa.create_engine(older)
    with engine.connect() as connection, connection.begin():
        connection.execute(sa.text("select value from nacre_meta where name = 'schema' for update"))
        updating = threading.Thread(target=lambda: opened(older, tmp_path).close())
        updating.start()
        time.sleep(1)
        assert updating.is_alive()
        assert len(connection.execute(sa.text("select id, hash from event")).all()) == 5
        connection.execute(sa.text("insert into event (id, hash, record) values (99, 'x', '{}')"))
        connection.rollback()
    updating.join()
    engine.dispose()
    assert state(older)[0] == str(tables.SCHEMA)


@pytest.mark.parametrize("moment", ["copied", "half the tables", "before the event"])
def test_killed_midway_it_is_still_the_old_one(
    older: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def half(connection: sa.Connection) -> None:
        tables.follower.create(connection)
        die()

    def work() -> None:
        if moment == "before the event":
            migrations.events.append = die  # in the child alone
        else:
            migrations.STEPS[1] = die if moment == "copied" else half
        opened(older, tmp_path)

    child = in_child(work)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    found, present = state(older)
    assert found == "1"
    assert not NEW & present
    with opened(older, tmp_path) as ledger:
        assert ledger.verify_chain() == 6
    assert state(older)[0] == str(tables.SCHEMA)


@pytest.mark.slow
def test_kills_at_any_moment_leave_one_schema_or_the_other(tmp_path: Path) -> None:
    script = (SCRIPTS / "sqlite.sql").read_text()
    seen = set()
    for turn in range(12):
        folder = tmp_path / str(turn)
        folder.mkdir()
        with sqlite3.connect(folder / "ledger.db") as connection:
            connection.executescript(script)
        connection.close()
        url = f"sqlite:///{folder / 'ledger.db'}"
        child = in_child(lambda url=url, folder=folder: opened(url, folder))
        time.sleep(turn * 0.006)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found, present = state(url)
        assert (found, NEW & present) in (("1", set()), (str(tables.SCHEMA), NEW))
        seen.add(found)
        with opened(url, folder) as ledger:
            assert ledger.verify_chain() == 6
    assert "1" in seen, "the kills came too late to show anything"


def test_a_full_disk_leaves_the_old_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((SCRIPTS / "sqlite.sql").read_text())
    connection.close()

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_copy_pages", full)
        with pytest.raises(NacreError, match="the disk is full"):
            opened(f"sqlite:///{path}", tmp_path)
    assert state(f"sqlite:///{path}")[0] == "1"
    assert not [entry for entry in os.listdir(tmp_path) if "schema-1" in entry]
    opened(f"sqlite:///{path}", tmp_path).close()


def test_every_older_schema_has_a_step() -> None:
    assert set(migrations.STEPS) == set(range(1, tables.SCHEMA))


def test_a_newer_ledger_is_refused_as_before(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    opened(url, tmp_path).close()
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("update nacre_meta set value = '99'")
    connection.close()
    with pytest.raises(NacreError, match="schema 99") as caught:
        opened(url, tmp_path)
    assert "newer nacre" in caught.value.fix


def test_records_without_the_fields_that_came_later_are_read(older: str, tmp_path: Path) -> None:
    """The stored text is never rewritten: its hash, and the hashes over it, stay what they were."""
    with opened(older, tmp_path) as ledger:
        version, report = ledger.version(1), ledger.reports()[0]
    assert isinstance(version, Version)
    assert isinstance(report, Report)
    lines = (SCRIPTS / "sqlite.sql").read_text().splitlines()
    text = next(line for line in lines if line.startswith('INSERT INTO "version"')).split("','")[-1].removesuffix("');")
    bare = {key: value for key, value in json.loads(text).items() if value not in (None, [], 0.0, "")}
    assert Version.from_json(json.dumps(bare)) == version
