import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from nacre.base.errors import ConflictError, InputError, NacreError
from nacre.records import (
    ChatTurn,
    Decoding,
    Feedback,
    Interaction,
    Recipe,
    Report,
    RowsFile,
    Snapshot,
    Train,
    Verdict,
)
from nacre.records.report import report_key
from nacre.registry import ArtifactStore, Ledger


def standing(ledger: Ledger) -> dict[str, int]:
    return {name: slot.version for name, slot in ledger.slots().items()}


def test_versions_are_numbered_and_read_back(workshop) -> None:
    with workshop.open() as ledger:
        first = ledger.add_version(**workshop.fields("one"))
        second = ledger.add_version(**workshop.fields("two", parents=(1,)), actor="ann")
        assert [first.number, second.number] == [1, 2]
        assert ledger.version(2) == second
        assert second.created
    with workshop.open() as again:
        assert again.versions() == [first, second]
        assert [(event.kind, event.actor, event.detail["version"]) for event in again.events()] == [
            ("registered", "nacre", 1),
            ("registered", "ann", 2),
        ]
        with pytest.raises(InputError, match="no version 7") as caught:
            again.version(7)
        assert "1, 2" in caught.value.fix


def test_a_version_needs_its_artifact_and_its_parents(workshop) -> None:
    with workshop.open() as ledger:
        with pytest.raises(InputError, match="no version 1"):
            ledger.add_version(**workshop.fields(parents=(1,)))
        with pytest.raises(NacreError, match="missing"):
            ledger.add_version(**workshop.fields(artifact="0" * 64))
        assert ledger.versions() == []
        assert ledger.events() == []


def test_the_same_training_is_recognised_and_nothing_else(workshop) -> None:
    with workshop.open() as ledger:
        first = ledger.add_version(**workshop.fields("one"))
        again = ledger.add_version(**workshop.fields("two", parents=(1,)))
        same = first.snapshot.data_hash
        assert ledger.same_training(same, None, Recipe()) == first
        assert ledger.same_training(same, 1, Recipe()) == again
        assert ledger.same_training(same, 2, Recipe()) is None
        assert ledger.same_training(same, None, Recipe(train=Train(seed=1))) is None
        assert ledger.same_training(same, None, Recipe(), base_sha256="c" * 64) is None
        other = Snapshot(task="skill", train=RowsFile(sha256="d" * 64, rows=3), dev=None, sources={})
        assert ledger.same_training(other.data_hash, None, Recipe()) is None


def test_promotions_rotate_the_previous_champions(workshop) -> None:
    with workshop.open() as ledger:
        workshop.versions(ledger, 5)
        assert ledger.generation() == 0
        for number in range(1, 6):
            event = ledger.promote(number, actor="ann", why="gate passed", evidence="e" * 64)
            assert event.detail["generation"] == number == ledger.generation()
        assert standing(ledger) == {"champion": 5, "previous-1": 4, "previous-2": 3, "previous-3": 2}
        assert ledger.events(1)[0].detail["left"] == [1]
        ledger.promote(3, actor="ann", why="it was better")
        assert standing(ledger) == {"champion": 3, "previous-1": 5, "previous-2": 4, "previous-3": 2}
        with pytest.raises(InputError, match="already"):
            ledger.promote(3, actor="ann", why="again")
        assert ledger.verify_chain() == 5 + 6


def test_compare_and_swap_writes_nothing_on_a_stale_generation(workshop) -> None:
    with workshop.open() as ledger:
        workshop.versions(ledger, 3)
        ledger.promote(1, actor="ann", why="first", expected=0)
        seen = ledger.slot("champion").generation
        ledger.promote(2, actor="ann", why="second", expected=seen)
        before = (ledger.slots(), ledger.events())
        with pytest.raises(ConflictError, match="changed meanwhile"):
            ledger.promote(3, actor="bob", why="late", expected=seen)
        assert (ledger.slots(), ledger.events()) == before
        ledger.place("challenger", 3, actor="ann", why="try")  # moves no champion
        ledger.promote(3, actor="ann", why="third", expected=ledger.slot("champion").generation)
        assert standing(ledger) == {"champion": 3, "previous-1": 2, "previous-2": 1}


def test_rollback_goes_back_and_never_returns_by_itself(workshop) -> None:
    with workshop.open() as ledger:
        workshop.versions(ledger, 4)
        for number in (1, 2, 3, 4):
            ledger.promote(number, actor="ann", why="passed")
        event = ledger.rollback(actor="bob", why="complaints")
        assert (event.detail["from"], event.detail["to"], event.detail["left"]) == (4, 3, [4])
        assert standing(ledger) == {"champion": 3, "previous-1": 2, "previous-2": 1}
        assert ledger.generation() == 5
        ledger.rollback(to=1, actor="bob", why="all bad")
        assert standing(ledger) == {"champion": 1}
        with pytest.raises(InputError, match="no earlier champion"):
            ledger.rollback(actor="bob", why="further")
        ledger.promote(4, actor="ann", why="it was not the model")  # nothing is lost
        assert standing(ledger) == {"champion": 4, "previous-1": 1}
        with pytest.raises(InputError, match="none of the last") as caught:
            ledger.rollback(to=3, actor="bob", why="x")
        assert "choose among 1" in caught.value.fix
        assert ledger.generation() == 7
        assert ledger.verify_chain() == 4 + 7


def test_trial_slots_hold_a_version_once(workshop) -> None:
    with workshop.open() as ledger:
        workshop.versions(ledger, 3)
        ledger.promote(1, actor="ann", why="first")
        ledger.place("challenger", 2, actor="ann", why="undecided")
        ledger.place("shadow", 2, actor="ann", why="look first")
        assert standing(ledger) == {"champion": 1, "shadow": 2}
        with pytest.raises(InputError, match="stands in champion"):
            ledger.place("challenger", 1, actor="ann", why="x")
        with pytest.raises(InputError, match="did you mean") as caught:
            ledger.place("chalenger", 2, actor="ann", why="x")
        assert "challenger" in caught.value.fix or "challenger" in str(caught.value)
        ledger.promote(2, actor="ann", why="good")
        assert standing(ledger) == {"champion": 2, "previous-1": 1}
        ledger.place("challenger", 3, actor="ann", why="next")
        generation = ledger.generation()
        ledger.place("challenger", None, actor="ann", why="no")
        assert ledger.generation() == generation + 1
        assert ledger.slot("challenger") is None
        with pytest.raises(InputError, match="unknown slot"):
            ledger.slot("champ")
        ledger.verify_chain()


def test_a_damaged_artifact_is_never_made_champion(workshop) -> None:
    with workshop.open() as ledger:
        versions = workshop.versions(ledger, 3)
        ledger.promote(1, actor="ann", why="a")
        ledger.promote(2, actor="ann", why="b")
        before = (ledger.slots(), ledger.events())
        for spoilt in (versions[0], versions[2]):
            weights = workshop.store.path(spoilt.artifact) / "part" / "model.safetensors"
            weights.chmod(0o644)
            weights.write_text("rot")
        with pytest.raises(NacreError, match=r"version 3: artifact .* part/model.safetensors was changed"):
            ledger.promote(3, actor="ann", why="c")
        with pytest.raises(NacreError, match="version 1: artifact"):
            ledger.rollback(actor="ann", why="d")
        with pytest.raises(NacreError, match="version 3: artifact"):
            ledger.place("shadow", 3, actor="ann", why="e")
        assert (ledger.slots(), ledger.events()) == before


def test_an_adapter_is_verified_with_what_it_sits_on(workshop) -> None:
    with workshop.open() as ledger:
        below = ledger.add_version(**workshop.fields("below"))
        ledger.add_version(**workshop.fields("above", kind="adapter", needs=below.artifact, parents=(1,)))
        (workshop.store.path(below.artifact) / "config.json").unlink()
        with pytest.raises(NacreError, match=r"config\.json is missing"):
            ledger.promote(2, actor="ann", why="x")


TAMPERING = {
    "changed": (
        "update event set record = replace(record, 'first', 'other') where id = 3",
        "event 3 was changed",
    ),
    "removed": ("delete from event where id = 2", "event 2 is missing"),
    "cut off": ("delete from event where id = 4", "event 4 is missing"),
    "slots": ("update slot set version = 1 where name = 'champion'", "contradict"),
    "slot emptied": ("update slot set version = null where name = 'previous-1'", "the history leaves them at"),
}


@pytest.mark.parametrize("case", TAMPERING)
def test_tampering_shows(workshop, case: str) -> None:
    statement, said = TAMPERING[case]
    with workshop.open() as ledger:
        workshop.versions(ledger, 2)
        ledger.promote(1, actor="ann", why="first")
        ledger.promote(2, actor="ann", why="second")
        assert ledger.verify_chain() == 4
    with sqlite3.connect(workshop.root / ".nacre" / "ledger.db") as connection:
        connection.execute(statement)
    connection.close()
    with workshop.open() as ledger, pytest.raises(NacreError, match=said):
        ledger.verify_chain()


def test_an_event_replaced_together_with_its_hash_breaks_the_next_one(workshop) -> None:
    with workshop.open() as ledger:
        for name in ("a", "b", "c"):
            ledger.record("note", "ann", {"text": name})
        forged = ledger.events()[1].changed(actor="eve")
        assert ledger.verify_chain() == 3
    with sqlite3.connect(workshop.root / ".nacre" / "ledger.db") as connection:
        connection.execute("update event set record = ?, hash = ? where id = 2", (forged.to_json(), forged.hash))
    connection.close()
    with workshop.open() as ledger, pytest.raises(NacreError, match="event 3 does not follow"):
        ledger.verify_chain()


def test_reports_and_verdicts_are_kept(workshop) -> None:
    decoding = Decoding(max_new_tokens=8)
    one = Report(
        weights="w" * 64,
        task="skill",
        dev="d" * 64,
        rows=2,
        metric="exact_match",
        why="short answers",
        decoding=decoding,
        scores={"exact_match": (1.0, 0.0)},
        totals={"bleu": 0.1},
        answers=("ja", "否"),
    )
    with workshop.open() as ledger:
        ledger.put_report(one)
        ledger.put_report(one.changed(seconds=9.0))  # scored twice by a race: the first stays
        ledger.put_report(one.changed(task="other", dev="e" * 64))
        key = report_key("w" * 64, "d" * 64, "exact_match", decoding)
        assert ledger.get_report(key) == one
        assert ledger.get_report("0" * 64) is None
        assert ledger.reports(task="skill") == [one]
        assert len(ledger.reports(weights="w" * 64)) == 2
        workshop.versions(ledger, 2)
        assert ledger.verdict(2) is None
        ledger.put_verdict(2, 1, Verdict(outcome="undecided", confidence=0.95, tasks=()))
        last = Verdict(outcome="pass", confidence=0.95, tasks=(), notes=("more rows",))
        ledger.put_verdict(2, 1, last)
        assert ledger.verdict(2) == last
        with pytest.raises(InputError, match="no version 9"):
            ledger.put_verdict(9, None, last)


TIME = "2025-01-01T00:00:00.000+00:00"


def asked(identity: str) -> Interaction:
    turns = (ChatTurn(role="system", content="be kind"), ChatTurn(role="user", content="nul \x00, 你好"))
    return Interaction(
        id=identity, time=TIME, version=1, arm="champion", messages=turns, answer="ok", finish="stop", session="s" * 900
    )


def test_interactions_and_feedback(workshop) -> None:
    with workshop.open() as ledger:
        ledger.add_interactions([])
        ledger.add_interactions([asked("a"), asked("b")])
        assert ledger.interaction("a") == asked("a")
        assert ledger.interaction("z") is None
        with pytest.raises(InputError, match="stored already"):
            ledger.add_interactions([asked("c"), asked("a")])
        assert ledger.interaction("c") is None
        first = ledger.add_feedback(Feedback(time="t", interaction="a", kind="stars", value=4, source="ann"))
        second = ledger.add_feedback(Feedback(time="t", interaction="b", kind="correction", text="no\x00"))
        assert [first, second] == [1, 2]
        with pytest.raises(InputError, match="no answer has the id"):
            ledger.add_feedback(Feedback(time="t", interaction="zz", kind="thumb", value=1))
        ledger.mark_feedback([first], "exported")
        assert [(one.id, one.text, one.status) for one in ledger.feedback("new")] == [(2, "no\x00", "new")]
        with pytest.raises(InputError, match="number 9"):
            ledger.mark_feedback([second, 9], "accepted")
        assert [one.status for one in ledger.feedback()] == ["exported", "new"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("not a url", "cannot be read"),
        ("oracul://x", "cannot be read"),
        ("sqlite://", "in memory"),
        ("mysql+pymysql://me:secret@h/db", "driver"),
    ],
)
def test_bad_urls_are_the_users_error_and_show_no_password(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        Ledger(url, ArtifactStore(tmp_path))
    assert "secret" not in str(caught.value)


def test_a_database_that_is_not_there() -> None:
    with pytest.raises(NacreError, match="the database refused") as caught:
        Ledger("postgresql://me:secret@127.0.0.1:1/none", ArtifactStore(Path("unused")))
    assert "secret" not in str(caught.value)


def test_a_ledger_of_another_schema_is_refused(workshop) -> None:
    workshop.open().close()
    path = workshop.root / ".nacre" / "ledger.db"
    for value, said in (("7", "newer nacre"), ("0", "nacre that wrote it")):
        with sqlite3.connect(path) as connection:
            connection.execute("update nacre_meta set value = ? where name = 'schema'", (value,))
        connection.close()
        with pytest.raises(NacreError, match=f"schema {value}") as caught:
            workshop.open()
        assert said in caught.value.fix


def test_another_programs_database_is_left_alone(workshop) -> None:
    path = workshop.root / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table event (x int)")
    connection.close()
    with pytest.raises(NacreError, match="another program: event"):
        Ledger(f"sqlite:///{path}", workshop.store)
    (workshop.root / "text.db").write_text("this is no database, however long it goes on" * 100)
    with pytest.raises(NacreError, match="no ledger"):
        Ledger(f"sqlite:///{workshop.root}/text.db", workshop.store)


def test_a_full_disk_fails_cleanly_and_the_ledger_goes_on_afterwards(workshop) -> None:
    with workshop.open() as ledger:
        workshop.versions(ledger, 2)
        ledger.promote(1, actor="ann", why="first")
        before = (ledger.slots(), len(ledger.events()))

        def allow(pages: int) -> None:
            raw = ledger._database.engine.raw_connection()
            raw.cursor().execute(f"PRAGMA max_page_count={pages}")  # SQLite's own disk-full, on this connection
            raw.close()

        allow(1)
        with pytest.raises(NacreError, match="disk is full"):
            ledger.record("note", "ann", {"text": "x" * 500_000})
        assert ledger.slots() == before[0]
        count = ledger.verify_chain()
        allow(1_000_000)
        ledger.promote(2, actor="ann", why="second")
        assert ledger.verify_chain() == count + 1


def test_a_read_only_ledger_can_be_read_and_refuses_writes(workshop) -> None:
    with workshop.open() as ledger:
        workshop.versions(ledger, 1)
    path = workshop.root / ".nacre" / "ledger.db"
    with Ledger(f"sqlite:///file:{path}?mode=ro&uri=true", workshop.store) as ledger:
        assert len(ledger.versions()) == 1
        with pytest.raises(NacreError, match="read-only"):
            ledger.promote(1, actor="ann", why="x")


def test_asking_for_the_generation_is_cheap(workshop) -> None:
    with workshop.open() as ledger:
        statements = []
        sa.event.listen(ledger._database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
        ledger.generation()
    assert len([text for text in statements if not text.startswith("BEGIN")]) == 1
