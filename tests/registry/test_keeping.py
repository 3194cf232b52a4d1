"""Pins, collections and removals: what the ledger says of weights that are not to go, and of those that went."""

from pathlib import Path

import pytest

from nacre.base.errors import ConflictError, InputError, NacreError
from nacre.records import Recipe
from nacre.registry.weigh import folder_bytes, parameters, weights_hash


def test_pins_come_and_go_and_are_events(shop) -> None:
    with shop.open() as ledger:
        shop.versions(ledger, 3)
        ledger.keeping.pin(2, actor="ann", why="the lawyers ask")
        ledger.keeping.pin(3, actor="ann", why='a text with "kind":"unpinned" in it')
        assert ledger.keeping.pins() == {2: "the lawyers ask", 3: 'a text with "kind":"unpinned" in it'}
        with pytest.raises(InputError, match="pinned already"):
            ledger.keeping.pin(2, actor="ann", why="again")
        ledger.keeping.unpin(2, actor="bob", why="they are gone")
        with pytest.raises(InputError, match="version 2 is not pinned") as caught:
            ledger.keeping.unpin(2, actor="bob", why="again")
        assert caught.value.fix == "pinned: 3"
        with pytest.raises(InputError, match="no version 9"):
            ledger.keeping.pin(9, actor="ann", why="x")
        ledger.record("note", "eve", {"kind": "pinned", "version": 1, "why": "not one"})
        assert set(ledger.keeping.pins()) == {3}
        assert ledger.verify_chain() == 3 + 3 + 1


def test_a_collection_counts_only_if_nothing_happened_since(shop) -> None:
    with shop.open() as ledger:
        versions = shop.versions(ledger, 3)
        seen = ledger.keeping.last_event()
        assert seen == 3
        detail = {"artifacts": [versions[0].artifact], "rows": ["a" * 64]}
        ledger.promote(1, actor="ann", why="first")
        with pytest.raises(ConflictError, match="gone on"):
            ledger.keeping.collect(detail, actor="gc", seen=seen)
        assert ledger.keeping.collected() == (frozenset(), frozenset())
        ledger.promote(2, actor="ann", why="second")
        detail["artifacts"] = [versions[2].artifact]
        ledger.keeping.collect(detail, actor="gc", seen=ledger.keeping.last_event())
        assert ledger.keeping.collected() == (frozenset(detail["artifacts"]), frozenset(detail["rows"]))


def test_collected_weights_never_come_into_a_slot_though_their_files_are_still_there(
    shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment between the event and the deletion, in which a process may be killed, or another one promotes."""
    with shop.open() as ledger:
        versions = shop.versions(ledger, 3)
        for number in (1, 2):
            ledger.promote(number, actor="ann", why="x")
        needy = ledger.add_version(**shop.fields("on top", kind="adapter", needs=versions[2].artifact))
        gone = [versions[0].artifact, versions[2].artifact]
        ledger.keeping.collect({"artifacts": gone, "rows": []}, actor="gc", seen=ledger.keeping.last_event())
        before = ledger.slots()
        for move in (
            lambda: ledger.promote(3, actor="ann", why="x"),
            lambda: ledger.promote(needy.number, actor="ann", why="it sits on one"),
            lambda: ledger.rollback(actor="ann", why="x"),
            lambda: ledger.place("shadow", 3, actor="ann", why="x"),
            lambda: ledger.keeping.pin(3, actor="ann", why="x"),
        ):
            with pytest.raises(NacreError, match="removed by nacre gc"):
                move()
        with monkeypatch.context() as patch:  # collected after it was verified
            patch.setattr(ledger, "verify_version", lambda number: None)
            for move in (
                lambda: ledger.promote(3, actor="ann", why="x"),
                lambda: ledger.place("shadow", 3, actor="ann", why="x"),
            ):
                with pytest.raises(NacreError, match="removed by nacre gc"):
                    move()
        assert ledger.slots() == before
        same = versions[0].snapshot.data_hash
        assert ledger.same_training(same, None, Recipe()) == needy
        ledger.add_version(**shop.fields("from elsewhere", origin={"version": "7"}))
        assert ledger.same_training(same, None, Recipe()) == needy, "an imported one may have had other parents"
        ledger.add_version(**shop.fields("weights 2"))  # the same content, published again
        assert ledger.keeping.collected()[0] == {versions[0].artifact}
        ledger.promote(3, actor="ann", why="they are back")


def test_what_came_back_with_a_version_is_not_collected_any_more(shop) -> None:
    """Its rows, and what it sits on: otherwise their later loss would count as gc's work."""
    with shop.open() as ledger:
        base = ledger.add_version(**shop.fields("base"))
        adapter = shop.fields("on top", kind="adapter", needs=base.artifact)
        made = ledger.add_version(**adapter)
        rows = made.snapshot.train.sha256
        detail = {"artifacts": [base.artifact, made.artifact], "rows": [rows, "f" * 64]}
        ledger.keeping.collect(detail, actor="gc", seen=ledger.keeping.last_event())
        again = ledger.add_version(**adapter)
        assert ledger.keeping.collected() == (frozenset(), {"f" * 64})
        ledger.verify_version(again.number)
        ledger.promote(again.number, actor="ann", why="it is whole")


def test_the_advice_names_the_nearest_ancestor_that_is_here(shop) -> None:
    with shop.open() as ledger:
        line = [
            ledger.add_version(**shop.fields(f"weights {number}", parents=(number,) if number else ()))
            for number in range(4)
        ]
        for gone, said in (([3], "--from 3 trains it"), ([2], "--from 2 trains its line"), ([0, 1], "--from 0 trains")):
            hashes = {"artifacts": [line[number].artifact for number in gone], "rows": []}
            ledger.keeping.collect(hashes, actor="gc", seen=ledger.keeping.last_event())
            with pytest.raises(NacreError, match="removed by nacre gc") as caught:
                ledger.promote(4, actor="ann", why="x")
            assert said in caught.value.fix


def test_a_version_is_weighed_when_it_is_registered(workshop) -> None:
    import struct

    def fill(folder: Path) -> None:
        head = b'{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"y":{"shape":[]}}'
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 28)
        (folder / "broken.safetensors").write_bytes(b"no")
        (folder / "config.json").write_text("{}")

    sha = workshop.store.publish(fill)
    with workshop.open() as ledger:
        made = ledger.add_version(**workshop.fields() | {"artifact": sha})
    folder = workshop.store.path(sha)
    assert made.size_bytes == folder_bytes(folder) == sum(path.stat().st_size for path in folder.iterdir())
    assert made.parameters == parameters(folder) == 2 * 3 + 1
    hashes = workshop.store.hashes(sha)
    assert made.weights == weights_hash(hashes) != weights_hash({"model.safetensors": "other"})
    assert weights_hash({"config.json": hashes["config.json"]}) == ""


def test_an_artifact_is_removed_whole_and_may_come_back(workshop) -> None:
    sha = workshop.artifact("one")
    other = workshop.artifact("two")
    workshop.store.remove(sha)
    assert workshop.store.names() == [other]
    assert not workshop.store.has(sha)
    workshop.store.remove(sha)  # nothing to do
    assert workshop.artifact("one") == sha
    workshop.store.verify(sha)
    (workshop.store.root / ".trash-x").mkdir()
    assert [path.name for path in workshop.store.leftovers()] == [".trash-x"]
    assert workshop.store.sweep() == [".trash-x"]
    assert workshop.store.leftovers() == workshop.store.damaged() == []
